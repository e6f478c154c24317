import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insource.risk.betting import counts_of
from insource.risk.differences import FINE, THREE, DifferenceEvidence, lower_bound


def trinomial(rows):
    return [(down, rows - down - up, up) for down in range(rows + 1) for up in range(rows + 1 - down)]


def chance(counts, shares):
    ways = math.factorial(sum(counts)) / math.prod(math.factorial(count) for count in counts)
    return ways * math.prod(share**count for share, count in zip(shares, counts, strict=True))


@pytest.mark.parametrize("margin", [0.0, 0.02, -0.02, 0.3])
@pytest.mark.parametrize("bounded", [False, True])
def test_the_expectation_at_the_margin_is_exactly_one(margin, bounded):
    """Every outcome of 12 pairs, where 40 % are discordant and the mean difference is the margin itself."""
    evidence = DifferenceEvidence(margin, bounded=bounded)
    shares = ((0.4 - margin) / 2, 0.6, (0.4 + margin) / 2)
    worse = ((0.4 - margin) / 2 + 0.02, 0.6, (0.4 + margin) / 2 - 0.02)
    at, under = 0.0, 0.0
    for counts in trinomial(12):
        placed = counts_of(np.repeat(THREE, counts), evidence.points)
        value = math.exp(float(evidence.of(placed)))
        at += chance(counts, shares) * value
        under += chance(counts, worse) * value
    assert at == pytest.approx(1.0, rel=1e-9)
    assert under < 1.0


def test_differences_between_points_expect_at_most_one():
    evidence = DifferenceEvidence(0.1, bounded=True)
    differences, chances = (-0.5, 0.13, 0.83), (0.3, 0.4, 0.3)
    shift = 0.1 - float(np.dot(differences, chances))
    values = [difference + shift for difference in differences]
    expected = sum(
        math.prod(chances[place] for place in drawn)
        * math.exp(float(evidence.of(counts_of(np.array([values[place] for place in drawn]), FINE))))
        for drawn in itertools.product(range(3), repeat=6)
    )
    assert 0.99 < expected <= 1.0 + 1e-9


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 60), st.integers(0, 400), st.integers(0, 60))
def test_at_margin_0_the_closed_form_is_the_mixture(down, same, up):
    counts = np.array([down, same, up], dtype=float)
    closed = DifferenceEvidence(0.0, bounded=False).of(counts)
    mixed = DifferenceEvidence(0.0, bounded=True).of(counts_of(np.repeat(THREE, [down, same, up]), FINE))
    if closed < 12:  # more has long decided
        assert mixed == pytest.approx(float(closed), abs=0.02)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), max_size=80), st.sampled_from([0.0, 0.1, -0.1]), st.booleans())
def test_the_first_crossing_is_that_of_a_look_after_each_pair(differences, margin, bounded):
    evidence = DifferenceEvidence(margin, bounded=bounded)
    taken = np.array(differences, dtype=float)
    looks = [evidence.of(counts_of(taken[: pair + 1], evidence.points)) for pair in range(taken.size)]
    crossed = [pair + 1 for pair, look in enumerate(looks) if look >= math.log(4)]
    found = evidence.first_crossing(np.zeros(evidence.points.size), taken, 0.25)
    assert found == (crossed[0] if crossed else None)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 100), st.integers(0, 1000), st.integers(0, 100))
def test_the_bound_is_where_the_test_ends(down, same, up):
    counts = np.array([down, same, up], dtype=float)
    bound = lower_bound(counts, THREE, 0.05)
    rows = down + same + up
    assert bound <= ((up - down) / rows if rows else 0.0) <= -lower_bound(counts[::-1], THREE, 0.05)
    if bound > -0.999:
        assert DifferenceEvidence(bound - 1e-6, bounded=False).of(counts) >= math.log(20) - 1e-3
        assert DifferenceEvidence(bound + 1e-3, bounded=False).of(counts) < math.log(20) + 1e-2


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 30), st.integers(0, 300), st.integers(1, 30), st.sampled_from([0.0, 0.02, -0.02]))
def test_further_pairs_are_those_at_which_it_ends(down, same, up, margin):
    evidence = DifferenceEvidence(margin, bounded=False)
    counts = np.array([down, same, up], dtype=float)
    further = evidence.further(counts, 0.05)
    rates = counts / counts.sum()
    if further is None:
        assert evidence.of(counts + 1e6 * rates) < math.log(20)
    elif further > 1:
        assert evidence.of(counts + further * rates) >= math.log(20) > evidence.of(counts + (further - 1) * rates)


def test_nothing_seen_and_impossible_margins():
    assert DifferenceEvidence(0.0, bounded=False).further(np.zeros(3), 0.05) is None
    assert float(DifferenceEvidence(0.02, bounded=True).of(np.zeros(FINE.size))) == pytest.approx(0.0)
    assert lower_bound(np.zeros(3), THREE, 0.05) == -1.0
    assert np.array_equal(FINE, -FINE[::-1]) and 0.0 in FINE
    with pytest.raises(ValueError, match="margin is 2"):
        DifferenceEvidence(2, bounded=False)
