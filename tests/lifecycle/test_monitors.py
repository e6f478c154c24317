"""The monitors of the version that serves: risk, guards, the form of references, and what lifts a suspension."""

import random
from dataclasses import replace

import pytest

from insource.lifecycle.monitors import Monitors, outside_of
from insource.types import Stage
from reliability.rehearsed import TASK, audit, rows


def watched(audits, task=TASK, **told):
    monitors = Monitors(task, 1)
    for row in rows(audits):
        monitors.take(replace(row, **told))
    return monitors


def served(n, wrong=0.0, seed=0, first=0, **told):
    draw = random.Random(seed)
    return [audit(first + each, stage=Stage.ACTIVE, agrees=draw.random() >= wrong, **told) for each in range(n)]


def test_a_version_that_keeps_its_promise_is_left_alone():
    assert not watched(served(4_000, wrong=0.03)).crossed


def test_a_version_that_was_bad_from_the_start_is_found():
    found = watched(served(200, wrong=0.2))
    assert found.crossed
    assert found.watch().crossed[0].startswith("risk is above the target of 5.0%: ")


def test_what_turns_bad_after_long_good_times_is_found_soon():
    good, bad = served(3_000, wrong=0.02), served(400, wrong=0.25, seed=1, first=9_000)
    assert not watched(good).crossed
    assert watched(good + bad).crossed


def test_control_a_sequence_alone_forgives_what_came_after_good_times():
    from insource.lifecycle.watched import Watched

    alone, both = Watched(0.05, 0.95), Watched(0.05, 0.95, changes=True)
    for bad in [*[False] * 10_000, *([False, False, False, True] * 75)]:
        alone.take(bad)
        both.take(bad)
    assert both.crossed and not alone.crossed


def test_a_guard_that_is_crossed_is_told_with_its_answer():
    task = replace(TASK, guard={"unsafe": 0.1})
    found = watched(served(80, wrong=0.4, accepts=True), task, label="unsafe")
    assert any(each.startswith("guard unsafe is crossed") for each in found.watch().crossed)
    assert "limit 10.0%" in found.watch().crossed[-1]


def test_a_teacher_that_changes_its_format_is_answer_drift_even_where_nothing_is_accepted():
    found = watched(served(60, accepts=False), outside=True)
    assert found.watch().crossed[0].startswith("answer drift: 60 of 60 references lie outside the closed set")


def test_an_outage_of_the_upstream_is_no_drift():
    found = watched(served(500, detail="no reference: upstream_failed"))
    found = watched([replace(each, agrees=None) for each in served(500, detail="no reference: upstream_timeout")])
    assert not found.crossed and found.watch().outside.rows == 0


@pytest.mark.parametrize(("told", "outside"), [
    ({"agrees": True}, False),
    ({"agrees": False}, None),
    ({"agrees": None, "detail": "the reply holds no text"}, True),
    ({"agrees": None, "detail": "no reference: kept_local"}, None),
    ({"agrees": None, "detail": "specialist_slow"}, None),
    ({"agrees": None, "detail": "256 audits were waiting already"}, None),
    ({"agrees": None, "detail": None}, None),
])  # fmt: skip
def test_what_says_that_a_reference_lies_outside(told, outside):
    assert outside_of(rows([replace(audit(1), **told)])[0]) is outside


def test_it_is_certified_again_by_good_evidence_and_not_by_its_absence():
    assert not watched([]).recertified
    assert not watched(served(60)).recertified
    assert watched(served(200)).recertified
    assert not watched(served(200, wrong=0.2)).recertified
    assert not watched(served(200), replace(TASK, guard={"unsafe": 0.1})).recertified


def test_rows_of_others_and_rows_twice_are_passed_over():
    found = watched([*served(5), *served(5), *(audit(n, 2) for n in range(9)), audit(77, stage=Stage.SHADOW)])
    assert found.watch().audits == 5
