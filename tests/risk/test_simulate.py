import math

import numpy as np
import pytest

from insource.risk.simulate import (
    allowed,
    guard_violation_rate,
    naive_guard,
    naive_threshold,
    violation_rate,
)

PROMISE = {"target_risk": 0.1, "confidence_level": 0.95}


def pool_of(rows: int = 6000) -> tuple[np.ndarray, np.ndarray]:
    """A pool whose risk passes 10 % in the middle of its scores."""
    generator = np.random.default_rng(11)
    scores = generator.random(rows)
    return scores, generator.random(rows) < 0.4 * (1 - scores)


def test_the_promise_is_kept_and_the_naive_threshold_breaks_it() -> None:
    figures = violation_rate(*pool_of(), rows=500, draws=200, seed=1, **PROMISE)
    assert figures["violations"] <= figures["allowed"] == allowed(1 - 0.95, 200)
    assert figures["naive_violations"] > 3 * figures["allowed"]
    assert 0.1 < figures["coverage"] < figures["oracle"] < 1
    assert figures["certified"] > 0.5


def test_a_guard_is_kept_and_the_naive_one_breaks_it() -> None:
    promise = {"rows": 100, "limit": 0.1, "confidence_level": 0.95, "draws": 400, "seed": 2}
    figures = guard_violation_rate(*pool_of(), **promise)
    assert figures["violations"] <= figures["allowed"]
    assert figures["naive_violations"] > 3 * figures["allowed"]
    assert figures["certified"] == 1.0


def test_draws_with_replacement_may_outnumber_the_pool() -> None:
    scores, wrong = pool_of(200)
    figures = violation_rate(scores, wrong, rows=300, draws=5, seed=3, replacement=True, **PROMISE)
    assert 0 <= figures["coverage"] <= 1
    with pytest.raises(ValueError, match="300 rows from a pool of 200"):
        violation_rate(scores, wrong, rows=300, draws=5, seed=3, **PROMISE)


def test_the_same_seed_gives_the_same_figures() -> None:
    pool = pool_of(1000)
    assert violation_rate(*pool, rows=200, draws=5, seed=4, **PROMISE) == violation_rate(
        *pool, rows=200, draws=5, seed=4, **PROMISE
    )


def test_the_whole_pool_as_calibration_is_judged_on_itself() -> None:
    """Drawn whole, the naive threshold is the oracle and violates nothing."""
    figures = violation_rate(*pool_of(500), rows=500, draws=2, seed=5, **PROMISE)
    assert figures["naive_violations"] == 0
    assert figures["naive_coverage"] == figures["oracle"]


def test_the_naive_threshold_takes_what_these_rows_allow() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6])
    assert naive_threshold(scores, np.array([False, False, True, True]), 0.34) == np.nextafter(0.6, 1)
    assert naive_threshold(scores, np.array([False] * 4), 0.1) == -math.inf
    assert naive_threshold(scores, np.array([True] * 4), 0.1) is None
    tied = np.array([0.9, 0.5, 0.5, 0.5])
    assert naive_threshold(tied, np.array([False, False, True, True]), 0.34) == np.nextafter(0.5, 1)
    assert naive_threshold(np.array([]), np.array([], dtype=bool), 0.1) is None


def test_the_naive_guard_takes_what_these_rows_allow() -> None:
    scores = np.linspace(0, 1, 10)
    wrong = np.array([True, True] + [False] * 8)
    assert naive_guard(scores, wrong, 0.2) == -math.inf
    assert naive_guard(scores, wrong, 0.1) == np.nextafter(scores[0], 1)
