import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import bdtr

from insource.risk.band import Certificate, certify
from insource.risk.bounds import binomial_upper_bound
from insource.risk.levels import grid_of, level
from insource.risk.simulate import allowed

SEEDS = st.integers(0, 2**32 - 1)


def rows_of(seed: int, rows: int = 400, tied: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Scores and mistakes that grow rarer as the score rises."""
    generator = np.random.default_rng(seed)
    scores = generator.random(rows)
    wrong = generator.random(rows) < 0.4 * (1 - scores) ** 2
    return (np.round(scores, 1) if tied else scores), wrong


def certified(scores: np.ndarray, wrong: np.ndarray, **more: float) -> Certificate:
    return certify(scores, wrong, **{"target_risk": 0.05, "confidence_level": 0.95} | more)


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.booleans())
def test_every_threshold_accepts_exactly_what_it_says(seed: int, tied: bool) -> None:
    scores, wrong = rows_of(seed, tied=tied)
    certificate = certified(scores, wrong)
    for point in certificate.points:
        accepted = scores >= point.threshold
        assert int(accepted.sum()) == point.accepted
        assert int((accepted & wrong).sum()) == point.errors
        assert point.risk_upper_bound <= 0.05
        assert point.risk_upper_bound >= binomial_upper_bound(point.errors, point.accepted, 0.95)
    if certificate.points:
        last = certificate.points[-1]
        assert (certificate.threshold, certificate.accepted, certificate.errors) == (
            last.threshold,
            last.accepted,
            last.errors,
        )
        assert certificate.coverage == last.accepted / 400
    else:
        assert (certificate.threshold, certificate.coverage, certificate.risk_upper_bound) == (None, 0.0, None)


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.integers(0, 399), st.booleans())
def test_one_more_error_never_raises_coverage(seed: int, place: int, tied: bool) -> None:
    scores, wrong = rows_of(seed, tied=tied)
    worse = wrong.copy()
    worse[place] = True
    assert certified(scores, worse).coverage <= certified(scores, wrong).coverage


@settings(deadline=None, max_examples=25)
@given(SEEDS, SEEDS, st.booleans())
def test_order_of_the_rows_does_not_matter(seed: int, shuffle: int, tied: bool) -> None:
    scores, wrong = rows_of(seed, tied=tied)
    order = np.random.default_rng(shuffle).permutation(400)
    assert certified(scores[order], wrong[order]) == certified(scores, wrong)


@settings(deadline=None, max_examples=25)
@given(SEEDS)
def test_only_the_order_of_the_scores_matters(seed: int) -> None:
    scores, wrong = rows_of(seed)
    plain, stretched = certified(scores, wrong), certified(np.exp(5 * scores), wrong)
    assert (plain.accepted, plain.errors) == (stretched.accepted, stretched.errors)


@settings(deadline=None, max_examples=25)
@given(SEEDS, st.floats(0, 1))
def test_at_least_picks_the_largest_certified_count_above_it(seed: int, at_least: float) -> None:
    scores, wrong = rows_of(seed)
    free, bound = certified(scores, wrong), certified(scores, wrong, at_least=at_least)
    allowed = [point for point in free.points if point.threshold >= at_least]
    assert bound.points == free.points
    assert bound.accepted == (allowed[-1].accepted if allowed else 0)
    assert bound.threshold is None or bound.threshold >= at_least


def test_no_errors_accept_everything() -> None:
    certificate = certified(np.linspace(0, 1, 59), np.zeros(59, dtype=bool))
    assert (certificate.threshold, certificate.accepted, certificate.coverage) == (-math.inf, 59, 1.0)
    # One point in the grid, so the band is the plain exact test and its bound the plain one.
    assert certificate.risk_upper_bound == pytest.approx(binomial_upper_bound(0, 59, 0.95), rel=1e-12)


def test_one_row_too_few_certifies_nothing() -> None:
    assert certified(np.linspace(0, 1, 58), np.zeros(58, dtype=bool)).threshold is None
    assert certified(np.array([]), np.array([], dtype=bool)) == Certificate(None, 0, 0, 0, 0.0, None, ())


def test_all_wrong_certifies_nothing() -> None:
    assert certified(np.linspace(0, 1, 500), np.ones(500, dtype=bool)).points == ()


def test_it_steps_down_as_section_seven_says() -> None:
    """The text of section 7.1, step 3, followed word by word; and stepping down gains over the first level alone."""
    gained = 0
    for seed in range(40):
        scores, wrong = rows_of(seed)
        errors, grid = np.cumsum(wrong[np.argsort(-scores)]), grid_of(400, 0.05, 0.95)
        kept, place, steps = 0, 0, 0
        while place < len(grid):
            c = level(grid[place:], 0.05, 1 - 0.95)
            passing = [i for i in range(place, len(grid)) if bdtr(errors[grid[i] - 1], grid[i], 0.05) <= c]
            if not passing:
                break
            kept, place, steps = grid[passing[-1]], passing[-1] + 1, steps + 1
        gained += steps > 1
        assert certified(scores, wrong).accepted == kept
    assert gained > 0


def test_an_early_slip_does_not_stop_the_band() -> None:
    scores = np.linspace(1, 0, 1000)
    wrong = np.zeros(1000, dtype=bool)
    wrong[[0, 1, 2]] = True
    assert certified(scores, wrong).accepted == 1000


def test_one_score_for_all_is_all_or_nothing() -> None:
    wrong = np.zeros(300, dtype=bool)
    assert certified(np.full(300, 0.7), wrong).threshold == -math.inf
    wrong[:30] = True
    assert certified(np.full(300, 0.7), wrong).threshold is None


def test_accepts_strictly_above_the_first_row_left_out() -> None:
    scores = np.concatenate([np.full(200, 0.9), np.full(200, 0.1)])
    wrong = np.concatenate([np.zeros(200, dtype=bool), np.ones(200, dtype=bool)])
    certificate = certified(scores, wrong)
    assert certificate.accepted == 200
    assert certificate.threshold == np.nextafter(0.1, 1)


def test_a_flat_population_is_certified_no_more_often_than_allowed() -> None:
    """Risk just above the target everywhere. The control: the same grid, each point at the full delta, breaks it."""
    generator = np.random.default_rng(12)
    grid = np.array(grid_of(300, 0.05, 0.95))
    band = plain = 0
    for _ in range(400):
        scores, wrong = generator.random(300), generator.random(300) < 0.0501
        band += certified(scores, wrong).threshold is not None
        errors = np.cumsum(wrong[np.argsort(-scores)])
        plain += bool((bdtr(errors[grid - 1], grid, 0.05) <= 0.05).any())
    assert band / 400 <= allowed(0.05, 400)
    assert plain / 400 > 2 * allowed(0.05, 400)


@pytest.mark.parametrize(
    ("scores", "wrong", "message"),
    [
        ([0.1, float("nan")], [True, False], "1 of 2 scores are NaN"),
        ([0.1, float("inf")], [True, False], "NaN or infinite"),
        ([0.1, 0.2], [True], "one of each per row"),
        ([[0.1]], [[True]], "one of each per row"),
        ([0.1, 0.2], [2, 0], "more than 0 and 1"),
    ],
)
def test_unusable_arrays_are_refused(scores: list, wrong: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        certified(np.array(scores), np.array(wrong))


def test_shares_outside_the_open_interval_are_refused() -> None:
    with pytest.raises(ValueError, match="target_risk is 1.0"):
        certified(np.array([0.1]), np.array([True]), target_risk=1.0)
    with pytest.raises(ValueError, match="confidence_level is 0"):
        certified(np.array([0.1]), np.array([True]), confidence_level=0)
