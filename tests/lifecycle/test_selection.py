"""What is worth a gold label: doubt before certainty, disagreement before doubt, within the budget."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from insource.lifecycle.selection import committee, doubt_of, worth_labelling
from reliability.rehearsed import audit


def row(score=None, threshold=0.6, *audits):
    return SimpleNamespace(decision=SimpleNamespace(score=score, threshold=threshold), audits=audits)


def test_near_the_threshold_first_and_never_more_than_the_budget():
    rows = [row(0.99), row(0.61), row(0.05), row(0.55)]
    assert worth_labelling(rows, 2) == [rows[1], rows[3]]
    assert worth_labelling(rows, 0) == [] == worth_labelling(rows, -1)
    assert len(worth_labelling(rows, 99)) == 4


def test_versions_that_disagree_come_before_any_margin():
    one, other = replace(audit(1), agrees=True), replace(audit(1, 2), agrees=False)
    disagreed, near = row(0.99, 0.6, one, other), row(0.6)
    assert worth_labelling([near, disagreed], 1) == [disagreed]
    assert doubt_of(row(0.9, 0.6, one, replace(other, agrees=True))).disagrees is False
    assert doubt_of(row(0.9, 0.6, one, replace(other, agrees=None, accepts=False))).disagrees is True


def test_equals_keep_their_order():
    rows = [row(0.7) for _ in range(5)]
    assert worth_labelling(rows, 5) == rows


@pytest.mark.parametrize(("score", "threshold", "margin"), [
    (0.6, 0.6, 1.0), (1.0, 0.6, 0.0), (0.0, 0.6, 0.0), (0.3, 0.6, 0.5), (0.5, None, 1.0), (None, 0.6, 0.5),
    (float("nan"), 0.6, 0.5), (0.0, 0.0, 1.0), (1.0, 1.0, 1.0), (0.4, 1.5, pytest.approx(1 - 1.1 / 1.5)),
])  # fmt: skip
def test_the_margin(score, threshold, margin):
    assert doubt_of(row(score, threshold)).margin == margin


def test_a_committee_of_one_never_disagrees():
    assert not committee(["card"]) and not committee(["card", None, "card"]) and committee(["card", "refund"])
