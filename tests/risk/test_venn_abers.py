import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression

from insource.risk import venn_abers
from insource.risk.venn_abers import VennAbers

ROWS = st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=40)


def by_definition(scores: np.ndarray, agrees: np.ndarray, score: float, label: float) -> float:
    """Add the row, fit isotonic regression to all of them, read off its value there."""
    values = np.append(scores, score)
    knots, place = np.unique(values, return_inverse=True)
    weights = np.bincount(place).astype(float)
    means = np.bincount(place, weights=np.append(agrees, label)) / weights
    return float(isotonic_regression(means, weights=weights).x[place[-1]])


@settings(deadline=None, max_examples=80)
@given(ROWS)
def test_equals_the_definition_on_and_between_knots(rows: list[tuple[int, bool]]) -> None:
    scores, agrees = np.array([s for s, _ in rows], dtype=float), np.array([a for _, a in rows])
    asked = np.arange(-1, 14, 0.5)
    p0, p1 = VennAbers().fit(scores, agrees).predict(asked)
    assert p0 == pytest.approx([by_definition(scores, agrees, s, 0.0) for s in asked])
    assert p1 == pytest.approx([by_definition(scores, agrees, s, 1.0) for s in asked])


@settings(deadline=None, max_examples=80)
@given(ROWS)
def test_the_two_probabilities_are_ordered_and_never_fall(rows: list[tuple[int, bool]]) -> None:
    scores, agrees = np.array([s for s, _ in rows], dtype=float), np.array([a for _, a in rows])
    fitted = VennAbers().fit(scores, agrees)
    asked = np.arange(-1, 14, 0.5)
    p0, p1 = fitted.predict(asked)
    merged = fitted.probability(asked)
    assert (p0 <= p1).all()
    for curve in (p0, p1, merged):
        assert (np.diff(curve) >= -1e-12).all()
        assert ((curve >= 0) & (curve <= 1)).all()
    assert ((p0 - 1e-12 <= merged) & (merged <= p1 + 1e-12)).all()


def test_order_of_the_rows_does_not_matter() -> None:
    generator = np.random.default_rng(2)
    scores, order = generator.random(300), generator.permutation(300)
    agrees = generator.random(300) < scores
    plain, shuffled = VennAbers().fit(scores, agrees), VennAbers().fit(scores[order], agrees[order])
    assert np.array_equal(plain.p0_, shuffled.p0_)
    assert np.array_equal(plain.p1_, shuffled.p1_)


def test_it_is_calibrated_where_the_score_is_not() -> None:
    generator = np.random.default_rng(4)
    scores = generator.random(4000)
    agrees = generator.random(4000) < scores**3
    fitted = VennAbers().fit(scores[:2000], agrees[:2000])
    assert np.abs(fitted.probability(scores[2000:]) - scores[2000:] ** 3).mean() < 0.04


def test_many_knots_are_pooled_and_change_little() -> None:
    generator = np.random.default_rng(6)
    rows = 3 * venn_abers.MAX_KNOTS
    scores = generator.random(rows)
    agrees = generator.random(rows) < scores
    fitted = VennAbers().fit(scores, agrees)
    assert fitted.low_.size <= venn_abers.MAX_KNOTS
    assert (fitted.low_ <= fitted.high_).all()
    assert (fitted.high_[:-1] < fitted.low_[1:]).all()
    asked = np.linspace(0.01, 0.99, 25)
    exact = [by_definition(scores, agrees, s, 1.0) for s in asked]
    assert fitted.predict(asked)[1] == pytest.approx(exact, abs=0.02)


def test_unusable_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="0 rows"):
        VennAbers().fit([], [])
    with pytest.raises(ValueError, match="NaN"):
        VennAbers().fit([np.nan], [True])
