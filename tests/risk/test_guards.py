import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insource.risk.bounds import binomial_upper_bound, rows_needed
from insource.risk.guards import GuardCertificate, certify_guard

SEEDS = st.integers(0, 2**32 - 1)


def guard(scores: np.ndarray, wrong: np.ndarray, limit: float = 0.1) -> GuardCertificate:
    return certify_guard(scores, wrong, limit=limit, confidence_level=0.95)


def rows_of(seed: int, rows: int, tied: bool) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    scores = generator.random(rows)
    wrong = generator.random(rows) < 0.6 * (1 - scores)
    return (np.round(scores, 1) if tied else scores), wrong


@settings(deadline=None, max_examples=60)
@given(SEEDS, st.integers(29, 300), st.booleans())
def test_the_threshold_is_the_smallest_that_passes_the_exact_test(seed: int, rows: int, tied: bool) -> None:
    scores, wrong = rows_of(seed, rows, tied)
    certificate = guard(scores, wrong)
    passes = [
        threshold
        for threshold in [-math.inf, *np.nextafter(scores, math.inf).tolist()]
        if binomial_upper_bound(int((wrong & (scores >= threshold)).sum()), rows, 0.95) <= 0.1
    ]
    # every row counts as a candidate, wrong or right: between two mistakes all thresholds are worth the same.
    misses = {int((wrong & (scores >= threshold)).sum()) for threshold in passes}
    assert certificate.missed == int((wrong & (scores >= certificate.threshold)).sum()) == max(misses)
    assert certificate.threshold <= min(passes)
    assert certificate.missed_upper_bound <= 0.1


@settings(deadline=None, max_examples=60)
@given(SEEDS, st.integers(29, 300), st.booleans(), st.integers(0, 28))
def test_one_more_mistake_never_lowers_the_threshold(seed: int, rows: int, tied: bool, place: int) -> None:
    scores, wrong = rows_of(seed, rows, tied)
    worse = wrong.copy()
    worse[place] = True
    assert guard(scores, worse).threshold >= guard(scores, wrong).threshold


def test_too_few_rows_say_how_many_are_missing() -> None:
    certificate = guard(np.linspace(0, 1, 12), np.zeros(12, dtype=bool))
    assert certificate == GuardCertificate(None, 12, 0, None, 17)
    assert guard(np.linspace(0, 1, 28), np.zeros(28, dtype=bool)).rows_lacking == 1
    assert guard(np.linspace(0, 1, 29), np.zeros(29, dtype=bool)).threshold == -math.inf
    assert guard(np.array([]), np.array([], dtype=bool)).rows_lacking == rows_needed(0.1, 0.95)


def test_a_constant_specialist_is_let_through_nowhere() -> None:
    """It gives the guarded requests another answer every time, always equally sure."""
    certificate = guard(np.full(200, 0.9), np.ones(200, dtype=bool))
    assert certificate.threshold > 0.9
    assert certificate.missed == 0


def test_ties_are_left_out_together() -> None:
    scores = np.concatenate([np.full(20, 0.8), np.full(80, 0.3)])
    wrong = np.concatenate([np.ones(20, dtype=bool), np.zeros(80, dtype=bool)])
    assert guard(scores, wrong).threshold == np.nextafter(0.8, 1)


def test_all_right_lets_everything_through() -> None:
    assert guard(np.linspace(0, 1, 50), np.zeros(50, dtype=bool)).threshold == -math.inf


def test_unusable_arrays_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        guard(np.array([math.nan]), np.array([True]))
    with pytest.raises(ValueError, match="limit is 0"):
        guard(np.array([0.1]), np.array([True]), limit=0)
