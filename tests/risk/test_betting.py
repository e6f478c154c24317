import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from insource.risk.betting import (
    FRACTIONS,
    LOG_SHARES,
    checked_outcomes,
    counts_of,
    e_value,
    largest_rejected,
    log_evidence_above,
    log_evidence_below,
    log_factors,
    log_mixture,
    log_shares,
)

COUNTS = st.integers(0, 3000)
MEANS = st.floats(0.01, 0.99)


def mixture_above(ones, zeros, mean):
    """The discrete mixture on 0/1 outcomes: what bounded outcomes use."""
    return log_mixture(np.stack([ones, zeros], axis=-1).astype(float) @ log_factors(np.array([1.0, 0.0]), mean))


def expectation(log_evidence, rows, mean, truth):
    """E of the e-value after `rows` outcomes, over every possible sequence."""
    ones = np.arange(rows + 1)
    chances = np.array([math.comb(rows, k) * truth**k * (1 - truth) ** (rows - k) for k in ones])
    return float(chances @ np.exp(log_evidence(ones, rows - ones, mean)))


@pytest.mark.parametrize("log_evidence", [log_evidence_above, mixture_above])
@pytest.mark.parametrize("mean", [0.01, 0.05, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("rows", [1, 2, 7, 40])
def test_the_expectation_at_the_boundary_is_exactly_one(log_evidence, mean, rows):
    assert expectation(log_evidence, rows, mean, mean) == pytest.approx(1.0, rel=1e-9)
    assert expectation(log_evidence, rows, mean, 0.8 * mean) < 1.0


def test_control_the_likelihood_ratio_of_the_best_mean_is_no_e_value():
    """Maximised instead of mixed, it breaks the check above: the check can fail."""

    def greedy(ones, zeros, mean):
        best = np.clip(ones / (ones + zeros), max(mean, 1e-9), 1 - 1e-9)
        return ones * np.log(best / mean) + zeros * np.log((1 - best) / (1 - mean))

    assert expectation(greedy, 7, 0.3, 0.3) > 1.5


@settings(deadline=None, max_examples=80)
@example(0, 484, 0.75)
@given(COUNTS, COUNTS, MEANS)
def test_it_is_a_martingale_at_every_step(ones, zeros, mean):
    now, up, down = np.exp(
        log_evidence_above([ones, ones + 1, ones], [zeros, zeros, zeros + 1], mean)
        - log_evidence_above(ones, zeros, mean)
    )
    assert now == 1.0
    assert mean * up + (1 - mean) * down == pytest.approx(1.0, rel=1e-6)


@settings(deadline=None, max_examples=80)
@given(COUNTS, COUNTS, MEANS, st.floats(0.001, 0.2))
def test_evidence_rises_with_the_ones_and_falls_with_the_mean(ones, zeros, mean, step):
    here = log_evidence_above(ones, zeros, mean)
    assert log_evidence_above(ones + 1, zeros, mean) >= here >= log_evidence_above(ones, zeros + 1, mean)
    higher = min(mean + step, 0.995)
    assert log_evidence_above(ones, zeros, higher) <= here + 1e-9
    assert log_evidence_below(zeros, ones, 1 - mean) == pytest.approx(here, abs=1e-7)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2000), st.integers(0, 20_000), st.floats(0.02, 0.98))
def test_the_discrete_mixture_is_the_closed_form(ones, zeros, mean):
    closed = log_evidence_above(ones, zeros, mean)
    if -7 < closed < 12:  # less is no evidence at all, more has long decided
        assert mixture_above(np.array(ones), np.array(zeros), mean) == pytest.approx(closed, abs=0.02)


def test_no_evidence_stays_finite_where_the_incomplete_beta_underflows():
    values = log_evidence_above([0, 0, 500], [5_000, 1_000_000, 1_000_000], 0.5)
    assert np.all(np.isfinite(values)) and np.all(values < -7)
    assert log_evidence_above(0, 900, 0.5) > log_evidence_above(0, 1_000, 0.5) > log_evidence_above(0, 5_000, 0.5)


def test_shares_of_the_capital_sum_to_one_and_no_bet_goes_broke():
    assert np.exp(LOG_SHARES).sum() == pytest.approx(1.0, abs=1e-12)
    assert np.exp(log_shares(8.0)).sum() == pytest.approx(1.0, abs=1e-12)
    assert 0 < FRACTIONS[0] and FRACTIONS[-1] < 1 and np.all(np.diff(FRACTIONS) > 0)
    assert np.all(np.isfinite(log_factors(np.array([0.0, 1.0]), 0.001)))


@pytest.mark.parametrize("outcomes", [(0.13, 0.77), (0.0, 0.5, 1.0), (0.031, 0.24, 0.9)])
def test_bounded_outcomes_split_over_points_keep_the_expectation_at_most_one(outcomes):
    """Every sequence of five outcomes between the points, by their chances."""
    chances = np.array([3.0, 2.0, 1.0][: len(outcomes)])
    chances /= chances.sum()
    points = (np.arange(65) / 64.0) ** 2
    mean = float(chances @ outcomes)
    total = exact = 0.0
    for drawn in itertools.product(range(len(outcomes)), repeat=5):
        values = np.array([outcomes[place] for place in drawn])
        chance = math.prod(chances[place] for place in drawn)
        total += chance * math.exp(log_mixture(counts_of(values, points) @ log_factors(points, mean)))
        exact += chance * math.exp(log_mixture(log_factors(values, mean).sum(axis=0)))
    assert exact == pytest.approx(1.0, rel=1e-9)
    assert 0.98 < total <= 1.0 + 1e-9


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0, 1), max_size=50))
def test_splitting_keeps_number_and_mean(values):
    points = (np.arange(65) / 64.0) ** 2
    counts = counts_of(np.array(values, dtype=float), points)
    assert np.all(counts >= 0)
    assert counts.sum() == pytest.approx(len(values))
    assert counts @ points == pytest.approx(sum(values))


def test_bisection_returns_the_rejected_side():
    assert largest_rejected(lambda mean: 10.0 if mean <= 0.3 else 0.0, 0.05) == pytest.approx(0.3)
    assert largest_rejected(lambda mean: 0.0, 0.05) == 0.0
    assert largest_rejected(lambda mean: 10.0, 0.05) < 1.0
    assert e_value(5_000.0) < math.inf


@pytest.mark.parametrize("bad", [math.nan, -0.1, 1.1, None, math.inf])
def test_outcomes_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match="losses holds"):
        checked_outcomes("losses", [0.5, bad])


def test_impossible_arguments_are_refused():
    with pytest.raises(ValueError, match="only 0 and 1"):
        checked_outcomes("wrong", 0.5, binary=True)
    with pytest.raises(ValueError, match="shape"):
        checked_outcomes("wrong", [[1, 0]])
    with pytest.raises(ValueError, match="mean is 1"):
        log_evidence_above(1, 1, 1.0)
    with pytest.raises(ValueError, match="counts"):
        log_evidence_above(-1, 1, 0.5)
    with pytest.raises(ValueError, match="counts"):
        log_evidence_above(math.nan, 1, 0.5)
