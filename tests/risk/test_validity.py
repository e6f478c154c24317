"""Is the promise kept? Populations with known truth, thousands of draws, and each time a control that must break it."""

import numpy as np
import pytest
from scipy.special import bdtr
from sklearn.datasets import load_digits
from sklearn.naive_bayes import GaussianNB

from insource.risk.band import certify
from insource.risk.guards import certify_guard
from insource.risk.levels import grid_of
from insource.risk.scores import Scorer, cross_fit_scores
from insource.risk.simulate import allowed, guard_violation_rate, naive_threshold, violation_rate

pytestmark = pytest.mark.slow

DRAWS = 2000
DELTA = 1 - 0.95


@pytest.mark.parametrize(("target", "rows"), [(0.05, 300), (0.05, 1000), (0.10, 300), (0.02, 1000), (0.10, 1000)])
def test_the_flat_population(target: float, rows: int) -> None:
    """Risk a hair above the target at every threshold: the hardest case, where every certificate is a violation."""
    generator = np.random.default_rng(rows)
    grid = np.array(grid_of(rows, target, 0.95))
    band = naive = plain = 0
    for _ in range(DRAWS):
        scores, wrong = generator.random(rows), generator.random(rows) < 1.001 * target
        band += certify(scores, wrong, target_risk=target, confidence_level=0.95).threshold is not None
        naive += naive_threshold(scores, wrong, target) is not None
        errors = np.cumsum(wrong[np.argsort(-scores)])
        plain += bool((bdtr(errors[grid - 1], grid, target) <= DELTA).any())
    assert band / DRAWS <= allowed(DELTA, DRAWS)
    assert naive / DRAWS > 0.9
    assert plain / DRAWS > 2 * allowed(DELTA, DRAWS), "the same grid without the shared level must break the promise"


def test_a_tied_flat_population() -> None:
    generator = np.random.default_rng(1)
    band = 0
    for _ in range(300):
        scores, wrong = generator.integers(0, 12, 400) / 12, generator.random(400) < 0.05 * 1.001
        band += certify(scores, wrong, target_risk=0.05, confidence_level=0.95).threshold is not None
    assert band / 300 <= allowed(DELTA, 300)


@pytest.mark.parametrize("power", [0.5, 1, 2, 4])
@pytest.mark.parametrize("rows", [150, 1000])
def test_populations_whose_risk_falls_with_the_score(power: float, rows: int) -> None:
    generator = np.random.default_rng(3)
    scores = generator.random(100_000)
    wrong = generator.random(100_000) < 0.35 * (1 - scores) ** power
    figures = violation_rate(scores, wrong, rows=rows, target_risk=0.05, confidence_level=0.95, draws=DRAWS, seed=4)
    assert figures["violations"] <= figures["allowed"]
    if figures["oracle"] > 0.05:
        assert figures["naive_violations"] > 0.3


def test_a_guard_at_its_boundary() -> None:
    """Exactly at the limit, where accepting all is a violation: passes with probability at most delta."""
    generator = np.random.default_rng(5)
    broken = sum(
        certify_guard(generator.random(200), generator.random(200) < 0.1001, limit=0.1, confidence_level=0.95).threshold
        == -np.inf
        for _ in range(DRAWS)
    )
    assert broken / DRAWS <= allowed(DELTA, DRAWS)


@pytest.mark.parametrize("rows", [40, 100, 400])
@pytest.mark.parametrize("tied", [False, True])
def test_guards_on_populations(rows: int, tied: bool) -> None:
    generator = np.random.default_rng(6)
    scores = generator.random(100_000)
    wrong = generator.random(100_000) < 0.6 * (1 - scores)
    figures = guard_violation_rate(
        np.round(scores, 1) if tied else scores, wrong,
        rows=rows, limit=0.1, confidence_level=0.95, draws=DRAWS, seed=7,
    )  # fmt: skip
    assert figures["violations"] <= figures["allowed"]
    if not tied:
        assert figures["naive_violations"] > 0.3


def weak_specialist_on_digits() -> tuple[np.ndarray, np.ndarray]:
    """Return (probabilities, agrees) on two thirds of scikit-learn's digits, of a specialist fitted on the other."""
    images, digits = load_digits(return_X_y=True)
    kept = np.random.default_rng(8).permutation(len(digits)) % 3 > 0
    specialist = GaussianNB(var_smoothing=1e-2).fit(images[~kept], digits[~kept])
    probabilities = specialist.predict_proba(images[kept])
    return probabilities, probabilities.argmax(axis=1) == digits[kept]


def test_real_digits_scored_by_a_scorer_fitted_before() -> None:
    probabilities, agrees = weak_specialist_on_digits()
    scorer = Scorer.fit(probabilities[::2], agrees[::2])
    figures = violation_rate(
        scorer.score(probabilities[1::2]), ~agrees[1::2],
        rows=300, target_risk=0.05, confidence_level=0.95, draws=500, seed=9, replacement=True,
    )  # fmt: skip
    assert figures["violations"] <= figures["allowed"]
    assert figures["naive_violations"] > figures["allowed"]
    assert figures["coverage"] > 0.2


@pytest.mark.parametrize("calibrator", ["logistic", "venn_abers"])
def test_real_digits_cross_fitted_then_refitted(calibrator: str) -> None:
    """Certified out of fold, served by a scorer refitted on all rows: no theorem covers it, so it is measured."""
    probabilities, agrees = weak_specialist_on_digits()
    generator = np.random.default_rng(10)
    broken = 0
    for _ in range(200):
        order = generator.permutation(len(agrees))
        known, unseen = order[:400], order[400:]
        scores = cross_fit_scores(probabilities[known], agrees[known], np.arange(400) % 5, calibrator=calibrator)
        certificate = certify(scores, ~agrees[known], target_risk=0.05, confidence_level=0.95)
        if certificate.threshold is not None:
            served = Scorer.fit(probabilities[known], agrees[known], calibrator=calibrator)
            accepted = served.score(probabilities[unseen]) >= certificate.threshold
            broken += int((~agrees[unseen][accepted]).sum()) > 0.05 * int(accepted.sum())
    assert broken / 200 <= allowed(DELTA, 200)
