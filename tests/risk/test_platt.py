import numpy as np
import pytest
from scipy.optimize import minimize

from insource.risk.platt import RIDGE, Platt


def test_it_finds_the_least_loss() -> None:
    generator = np.random.default_rng(0)
    scores = generator.normal(size=60)
    agrees = generator.random(60) < 1 / (1 + np.exp(-2 * scores - 0.5))
    fitted = Platt().fit(scores, agrees)
    up, down = agrees.sum(), (~agrees).sum()
    targets = np.where(agrees, (up + 1) / (up + 2), 1 / (down + 2))
    width, middle = scores.std(), scores.mean()

    def loss(both: np.ndarray) -> float:
        logits = both[0] * (scores - middle) / width + both[1]
        return float((np.logaddexp(0, logits) - targets * logits).sum() + RIDGE * both[0] ** 2 / 2)

    best = minimize(loss, [0.0, 0.0], tol=1e-12).x
    assert fitted.slope_ == pytest.approx(best[0] / width, rel=1e-4)
    assert fitted.intercept_ == pytest.approx(best[1] - best[0] * middle / width, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize(("kind", "share"), [(True, 11 / 12), (False, 1 / 12)])
def test_one_kind_only_is_a_constant(kind: bool, share: float) -> None:
    fitted = Platt().fit(np.linspace(-1, 1, 10), np.full(10, kind))
    assert fitted.probability([-9.0, 0.0, 9.0]) == pytest.approx([share] * 3)


def test_no_rows_are_even_odds() -> None:
    assert Platt().fit([], []).probability([3.0]) == pytest.approx([0.5])


def test_it_never_turns_the_ranking_round() -> None:
    fitted = Platt().fit([1.0, 2.0, 3.0, 4.0], [True, True, False, False])
    assert fitted.slope_ == 0.0


def test_perfectly_separated_rows_stay_finite() -> None:
    fitted = Platt().fit(np.arange(40.0), np.arange(40) >= 20)
    assert np.isfinite([fitted.slope_, fitted.intercept_]).all()
    assert 0 < fitted.probability([0.0])[0] < 0.1 < 0.9 < fitted.probability([39.0])[0] < 1
