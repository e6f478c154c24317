import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from insource.risk.ranking import area_under_curve, without_slips


def test_closed_forms() -> None:
    assert area_under_curve([0.1, 0.2, 0.3], [False, True, True]) == 1.0
    assert area_under_curve([0.3, 0.2, 0.1], [False, True, True]) == 0.0
    assert area_under_curve([0.5, 0.5], [False, True]) == 0.5
    assert area_under_curve([0.5, 0.5, 0.9], [False, True, True]) == 0.75


def test_one_kind_only_is_undefined() -> None:
    assert area_under_curve([0.1, 0.2], [True, True]) is None
    assert area_under_curve([0.1, 0.2], [False, False]) is None
    assert area_under_curve([], []) is None


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.5, 0.7, 0.9]), st.booleans()), min_size=2))
def test_equals_scikit_learn(rows: list[tuple[float, bool]]) -> None:
    scores, agrees = np.array([s for s, _ in rows]), np.array([a for _, a in rows])
    if agrees.all() or not agrees.any():
        assert area_under_curve(scores, agrees) is None
    else:
        assert area_under_curve(scores, agrees) == pytest.approx(roc_auc_score(agrees, scores))


def slipping(area_wanted: float, slips: float, rows: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose errors they foresee to a degree, and references that slip whatever the score."""
    chance = np.random.default_rng(7)
    wrong = chance.random(rows) < 0.08
    scores = chance.normal(size=rows) - wrong * area_wanted
    return scores, wrong | (chance.random(rows) < slips)


def test_slips_hide_how_well_a_score_ranks_and_are_made_good_in_part() -> None:
    clean, noisy = slipping(3.0, 0.0), slipping(3.0, 0.06)
    best, seen = (area_under_curve(scores, ~wrong) for scores, wrong in (clean, noisy))
    assert best > 0.95 and seen < 0.8
    assert seen + 0.1 < without_slips(seen, *noisy) < best
    assert without_slips(best, *clean) == pytest.approx(best, abs=0.005), "nothing is made good where nothing slips"


def test_a_score_that_ranks_poorly_or_not_at_all_gains_nothing_that_matters() -> None:
    for distance, slips in ((0.0, 0.0), (0.0, 0.06), (0.5, 0.0), (0.7, 0.0)):
        scores, wrong = slipping(distance, slips)
        area = area_under_curve(scores, ~wrong)
        assert area < 0.7 and without_slips(area, scores, wrong) < 0.75
    scores, wrong = slipping(0.0, 0.06)
    assert without_slips(0.5, scores, wrong) == 0.5


def test_control_without_the_bound_few_rows_would_make_good_what_is_no_slip() -> None:
    """The guard broken on purpose: the share seen among the highest instead of its lower bound."""
    chance = np.random.default_rng(3)
    made_good, broken = [], []
    for _ in range(300):
        wrong = chance.random(200) < 0.15
        scores = chance.normal(size=200) - wrong * 0.65
        area = area_under_curve(scores, ~wrong)
        slips = wrong[np.argsort(-scores)[:20]].mean() / wrong.mean()
        made_good.append(without_slips(area, scores, wrong) - area)
        broken.append((area - min(slips, 0.8) / 2) / (1 - min(slips, 0.8)) - area)
    assert np.mean(made_good) < 0.01 < 0.05 < np.mean(broken)


def test_no_rows_and_no_errors_leave_the_area_as_it_is() -> None:
    assert without_slips(0.6, np.arange(5.0), np.array([True, False] * 2 + [False])) == 0.6
    assert without_slips(0.9, np.arange(50.0), np.zeros(50, np.bool_)) == 0.9
