import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from insource.risk.ranking import area_under_curve


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
