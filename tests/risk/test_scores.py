import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insource.risk.scores import Platt, Scorer, VennAbers, cross_fit_scores

SEEDS = st.integers(0, 2**32 - 1)


KINDS = {
    "logistic": (400, "logistic", lambda agrees: agrees),
    "venn-abers": (400, "venn_abers", lambda agrees: agrees),
    "few rows": (60, "venn_abers", lambda agrees: agrees),
    "few errors": (60, "logistic", lambda agrees: np.arange(60) != 7),
    "all agree": (400, "venn_abers", np.ones_like),
    "all differ": (20, "logistic", np.zeros_like),
}


@pytest.fixture(params=KINDS)
def scorer(request, population) -> Scorer:
    rows, calibrator, kind = KINDS[request.param]
    probabilities, agrees = population(rows, 5)
    return Scorer.fit(probabilities, kind(agrees), calibrator=calibrator)


def test_venn_abers_from_a_hundred_rows_with_five_of_each(population) -> None:
    rows, _ = population(100, 3)
    agrees = np.arange(100) >= 5
    assert isinstance(Scorer.fit(rows, agrees, calibrator="venn_abers").calibrator, VennAbers)
    assert isinstance(Scorer.fit(rows, agrees).calibrator, Platt)
    assert isinstance(Scorer.fit(rows[1:], agrees[1:], calibrator="venn_abers").calibrator, Platt)
    assert isinstance(Scorer.fit(rows, np.arange(100) >= 4, calibrator="venn_abers").calibrator, Platt)


def test_the_logistic_score_is_the_sigmoid_of_the_statistic(population) -> None:
    rows, agrees = population(400, 5)
    scorer = Scorer.fit(rows, agrees)
    assert scorer.score(rows) == pytest.approx(1 / (1 + np.exp(-scorer.agreement.raw(rows))), abs=2e-3)


def test_scores_are_shares_and_keep_the_order_of_the_statistic(population, scorer: Scorer) -> None:
    unseen, _ = population(500, 5, seed=3)
    scores, raw = scorer.score(unseen), scorer.agreement.raw(unseen)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert (np.diff(scores[np.argsort(raw)]) > 0).all()


def test_one_row_scores_as_many_do(population, scorer: Scorer) -> None:
    unseen, _ = population(200, 5, seed=4)
    hard = np.array([[1, 0, 0, 0, 0], [0.2] * 5, [0.5, 0.5, 0, 0, 0], [1 - 1e-12, 1e-12, 0, 0, 0], [0, 0, 0, 0, 1]])
    rows = np.concatenate([unseen, hard])
    assert [scorer.score_one(row) for row in rows] == pytest.approx(scorer.score(rows), abs=1e-12)
    single = rows.astype(np.float32)
    assert [scorer.score_one(row) for row in single] == pytest.approx(scorer.score(single), abs=1e-12)


@pytest.mark.parametrize("row", [[math.nan, 0.5, 0.5, 0, 0], [0.5, 0.5, math.nan, 0, 0], [math.inf, 0, 0, 0, 0]])
def test_a_row_that_is_no_number_is_accepted_by_no_threshold(scorer: Scorer, row: list) -> None:
    assert not scorer.score_one(np.array(row)) >= -math.inf


def test_arrays_give_the_same_scorer_back(population, scorer: Scorer) -> None:
    unseen, _ = population(100, 5, seed=5)
    arrays = scorer.to_arrays()
    assert all(array.dtype == np.float64 for array in arrays.values())
    again = Scorer.from_arrays(arrays | {"something.else": np.zeros(1)})
    assert np.array_equal(again.score(unseen), scorer.score(unseen))
    assert [again.score_one(row) for row in unseen] == [scorer.score_one(row) for row in unseen]
    assert all(np.array_equal(array, again.to_arrays()[name]) for name, array in arrays.items())


def test_a_missing_array_is_named(population) -> None:
    probabilities, agrees = population(400, 5)
    arrays = Scorer.fit(probabilities, agrees, calibrator="venn_abers").to_arrays()
    del arrays["score.venn_abers.p0"]
    with pytest.raises(KeyError, match=r"score\.venn_abers\.p0"):
        Scorer.from_arrays(arrays)


@settings(deadline=None, max_examples=15)
@given(SEEDS, st.integers(0, 150), st.integers(2, 8))
def test_any_rows_give_finite_scores(seed: int, rows: int, answers: int) -> None:
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.full(answers, 0.1), size=rows)
    agrees = generator.random(rows) < generator.random()
    scorer = Scorer.fit(probabilities, agrees)
    asked = generator.dirichlet(np.full(answers, 0.1), size=20)
    assert ((scorer.score(asked) >= 0) & (scorer.score(asked) <= 1)).all()


@pytest.mark.parametrize(("calibrator", "gap"), [("logistic", 0.06), ("venn_abers", 0.04)])
def test_scores_are_calibrated_on_rows_unseen(population, calibrator: str, gap: float) -> None:
    """The population is no logistic one, so the logistic score may miss by a little more."""
    rows, agrees = population(3000, 4)
    unseen, truth = population(3000, 4, seed=8)
    scores = Scorer.fit(rows, agrees, calibrator=calibrator).score(unseen)
    order = np.argsort(scores)
    gaps = [abs(scores[part].mean() - truth[part].mean()) for part in np.array_split(order, 10)]
    assert float(np.mean(gaps)) < gap


def test_a_row_is_scored_without_itself(population) -> None:
    rows, agrees = population(300, 4)
    folds = np.arange(300) % 5
    scores = cross_fit_scores(rows, agrees, folds)
    turned = agrees.copy()
    turned[folds == 2] = ~turned[folds == 2]
    again = cross_fit_scores(rows, turned, folds)
    assert np.array_equal(again[folds == 2], scores[folds == 2])
    assert not np.array_equal(again[folds != 2], scores[folds != 2])
    expected = Scorer.fit(rows[folds != 2], agrees[folds != 2]).score(rows[folds == 2])
    assert np.array_equal(scores[folds == 2], expected)


def test_folds_must_be_two_and_one_for_each_row(population) -> None:
    rows, agrees = population(10, 3)
    with pytest.raises(ValueError, match="lie in 1 fold"):
        cross_fit_scores(rows, agrees, np.zeros(10))
    with pytest.raises(ValueError, match="9 folds"):
        cross_fit_scores(rows, agrees, np.arange(9))
