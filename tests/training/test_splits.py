"""Where rows go: the same place whatever is added behind them, and evenly."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from insource.training.duplicates import near_duplicate_groups
from insource.training.splits import FOLDS, folds, places


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.integers(0, 2**63))
def test_a_group_s_place_depends_on_its_name_and_the_seed_alone(n, more, seed):
    first = places(np.arange(n % 50), seed)
    assert np.array_equal(places(np.arange(n % 50 + more % 50), seed)[: n % 50], first)


def test_rows_stay_where_they_are_as_rows_are_added(tickets):
    texts = [line["text"] for line in tickets(300, words=14)] + [line["text"] for line in tickets(150, words=14)]
    before, after = near_duplicate_groups(texts[:300]), near_duplicate_groups(texts)
    assert np.array_equal(after[:300], before)
    assert np.array_equal(folds(after, 3)[:300], folds(before, 3))
    assert np.array_equal(after[300:], np.arange(150)), "each repeat belongs to the row it repeats"


def test_places_are_even_and_differ_between_seeds():
    where = places(np.arange(20_000), 0)
    assert where.min() >= 0.0 and where.max() < 1.0
    shares = np.histogram(where, bins=20, range=(0, 1))[0] / 20_000
    assert abs(shares - 0.05).max() < 0.006  # four standard errors
    assert abs(np.corrcoef(where, places(np.arange(20_000), 1))[0, 1]) < 0.03
    counts = np.bincount(folds(np.arange(20_000), 0), minlength=FOLDS)
    assert abs(counts - 20_000 / FOLDS).max() < 170  # four standard errors


def test_the_test_rows_do_not_tell_the_fold():
    """Splits use the seed, folds the next one: rows left after the split still fall evenly into folds."""
    rest = np.flatnonzero(places(np.arange(20_000), 0) >= 0.15)
    counts = np.bincount(folds(rest, 0), minlength=FOLDS)
    assert abs(counts - len(rest) / FOLDS).max() < 220
