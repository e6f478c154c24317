import numpy as np
import pytest
from scipy.optimize import minimize

from insource.risk.agreement import RIDGE, AgreementScore, features
from insource.risk.ranking import area_under_curve


def test_features_of_a_plain_vector() -> None:
    (shape,), (first,) = features(np.array([[0.2, 0.7, 0.1]]))
    assert first == 1
    entropy = -(0.2 * np.log(0.2) + 0.7 * np.log(0.7) + 0.1 * np.log(0.1))
    assert shape == pytest.approx([np.log(0.7 / 0.3), np.log(0.7 / 0.2), entropy])


def test_certainty_and_zeros_stay_finite() -> None:
    shapes, _ = features(np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]))
    assert np.isfinite(shapes).all()


def test_it_finds_the_least_loss(population) -> None:
    probabilities, agrees = population(400, 4)
    fitted = AgreementScore().fit(probabilities, agrees)
    shapes, first = features(probabilities)
    middle, width = shapes.mean(axis=0), shapes.std(axis=0)
    columns = np.column_stack([(shapes - middle) / width, np.ones(400), np.eye(4)[first]])
    prior = np.concatenate([np.array([1.0, 1e-3, 0.0]) * width, np.zeros(5)])
    ridge = np.array([RIDGE] * 3 + [1e-6] + [RIDGE] * 4)

    def loss(weights: np.ndarray) -> float:
        logits = columns @ weights
        return float((np.logaddexp(0, logits) - agrees * logits).sum() + (ridge * (weights - prior) ** 2).sum() / 2)

    best = minimize(loss, prior, tol=1e-12, options={"maxiter": 2000})
    assert fitted.raw(probabilities) == pytest.approx(columns @ best.x, abs=2e-3)


def test_it_learns_that_one_answer_is_not_to_be_trusted(population) -> None:
    probabilities, agrees = population(2000, 6)
    unseen, truth = population(2000, 6, seed=1)
    fitted = AgreementScore().fit(probabilities, agrees)
    plain = area_under_curve(unseen.max(axis=1), truth)
    assert fitted.answers_.argmin() == 0
    assert area_under_curve(fitted.raw(unseen), truth) > plain + 0.03


@pytest.mark.parametrize("kind", [True, False])
def test_with_one_kind_only_the_plain_logit_ranks(population, kind: bool) -> None:
    probabilities, _ = population(50, 3)
    raw = AgreementScore().fit(probabilities, np.full(50, kind)).raw(probabilities)
    assert np.unique(raw).size == 50
    assert area_under_curve(raw, probabilities.max(axis=1) > np.median(probabilities.max(axis=1))) > 0.99


def test_it_is_deterministic_and_blind_to_the_order_of_rows(population) -> None:
    probabilities, agrees = population(300, 5)
    order = np.random.default_rng(9).permutation(300)
    one, two = AgreementScore().fit(probabilities, agrees), AgreementScore().fit(probabilities, agrees)
    shuffled = AgreementScore().fit(probabilities[order], agrees[order])
    assert np.array_equal(one.raw(probabilities), two.raw(probabilities))
    assert shuffled.raw(probabilities) == pytest.approx(one.raw(probabilities), abs=1e-6)


def test_separable_rows_converge() -> None:
    probabilities = np.column_stack([np.linspace(0.5, 1.0, 100), 1 - np.linspace(0.5, 1.0, 100)])
    fitted = AgreementScore().fit(probabilities, np.arange(100) >= 50)
    raw = fitted.raw(probabilities)
    assert np.isfinite(raw).all()
    assert raw[:50].max() < raw[50:].min()


@pytest.mark.parametrize(
    ("probabilities", "agrees", "message"),
    [
        (np.ones((3, 1)), np.ones(3, dtype=bool), "two answers or more"),
        (np.ones(3), np.ones(3, dtype=bool), "two answers or more"),
        (np.full((3, 2), np.nan), np.ones(3, dtype=bool), "NaN"),
        (np.full((3, 2), 0.5), np.ones(2, dtype=bool), "one flag per row"),
    ],
)
def test_unusable_arrays_are_refused(probabilities: np.ndarray, agrees: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AgreementScore().fit(probabilities, agrees)


def test_another_number_of_answers_is_refused(population) -> None:
    probabilities, agrees = population(50, 3)
    with pytest.raises(ValueError, match="2 answers; expected the 3"):
        AgreementScore().fit(probabilities, agrees).raw(np.full((1, 2), 0.5))
