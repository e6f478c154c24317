"""Folding audits into evidence: what counts, what is skipped, and that a row counts once whatever its clock says."""

import math
import random
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insource.lifecycle.evidence import Fold, Skipped
from insource.risk.paired import Verdict
from insource.types import Stage
from reliability.rehearsed import NOON, TASK, audit, rows


def folded(audits, incumbent=None, task=TASK):
    fold = Fold(task, 1 if incumbent is None else 2, incumbent)
    for row in rows(audits):
        fold.take(row)
    return fold


def evidence(audits, stage=Stage.SHADOW, **more):
    return folded(audits, **more).evidence(stage)


def test_whole_rows_are_counted():
    found = evidence([audit(n, agrees=n != 7) for n in range(100)])
    assert (found.sound, found.wrong, found.scored, found.right) == (99, 1, 100, 79)
    assert (found.risk.count, found.risk.rows) == (1, 80)
    assert found.timed == 99 and found.scores[0] < found.scores[1]
    assert (found.first, found.last) == (1, 100)


def test_an_answer_it_would_not_accept_is_no_risk_however_wrong():
    found = evidence([audit(n, accepts=False, agrees=False) for n in range(10)])
    assert (found.sound, found.wrong, found.right, found.risk.rows) == (10, 0, 0, 0)


@pytest.mark.parametrize(("told", "why"), [
    ({"agrees": None, "detail": "no reference: upstream_failed"}, Skipped.NO_REFERENCE),
    ({"score": None}, Skipped.NO_SCORE),
    ({"score": math.nan}, Skipped.NO_SCORE),
    ({"accepts": None}, Skipped.NOT_SAID),
    ({"stage": None}, Skipped.OTHER_STAGE),
    ({"stage": Stage.ACTIVE}, Skipped.OTHER_STAGE),
    ({"version": 7}, Skipped.UNKNOWN_VERSION),
])  # fmt: skip
def test_what_is_not_whole_is_skipped_and_counted(told, why):
    found = evidence([audit(1), replace(audit(2), **told)])
    assert found.sound == 1
    assert found.skipped == {why: 1}


@pytest.mark.parametrize("told", [{"score": None}, {"score": math.nan}, {"accepts": None, "accepted": True}])
def test_a_wrong_answer_counts_against_it_even_where_the_row_is_not_whole(told):
    found = evidence([audit(1, **({"agrees": False, "accepts": True} | told))])
    assert (found.sound, found.wrong, found.risk.count) == (0, 1, 1)


@pytest.mark.parametrize(("told", "failures", "slow"), [
    ({"score": None, "agrees": None, "detail": "specialist_failed: ValueError"}, 1, 0),
    ({"score": None, "agrees": None, "detail": "artifact_damaged"}, 1, 0),
    ({"score": None, "agrees": None, "detail": "specialist_slow: it has not come back"}, 0, 1),
    ({"seconds": 0.3}, 0, 1),
])  # fmt: skip
def test_failing_and_being_slow_are_counted_apart(told, failures, slow):
    found = evidence([replace(audit(1), **told)])
    assert (found.failures, found.slow, found.sound) == (failures, slow, 0)
    assert found.failing.count == 1


def test_the_pairs_are_the_requests_that_both_would_accept():
    both = [audit(n, 1, Stage.ACTIVE) for n in range(50)] + [audit(n, 2, agrees=n % 10 != 1) for n in range(60)]
    found = evidence(both, incumbent=1)
    assert found.pairs.pairs == 40
    assert found.pairs.difference == pytest.approx(5 / 40)
    assert found.incumbent == 1


def test_pairs_do_not_depend_on_which_row_comes_first():
    ours, theirs = [audit(n, 2, agrees=n % 9 != 1) for n in range(80)], [audit(n, 1, Stage.ACTIVE) for n in range(80)]
    one, other = evidence(ours + theirs, incumbent=1).pairs, evidence(theirs + ours, incumbent=1).pairs
    assert (one.pairs, one.difference, one.lower_bound) == (other.pairs, other.difference, other.lower_bound)


def test_a_candidate_that_is_worse_is_found_by_the_pairs():
    both = [each for n in range(400) for each in (audit(n, 1, Stage.ACTIVE), audit(n, 2, agrees=n % 8 != 1))]
    assert evidence(both, incumbent=1).pairs.verdict is Verdict.ROLL_BACK


def test_evidence_of_the_stage_before_is_not_that_of_this_one():
    fold = folded([audit(n) for n in range(30)] + [audit(n, stage=Stage.CANARY) for n in range(30, 40)])
    assert fold.evidence(Stage.CANARY).sound == 10
    assert fold.evidence(Stage.SHADOW).sound == 30
    assert fold.evidence(Stage.CANARY).risk.rows == 32


def test_an_incumbent_that_goes_on_alone_is_noticed():
    fold = folded([audit(0, 2), *(audit(n, 1, Stage.ACTIVE) for n in range(1, 21))], incumbent=1)
    assert fold.evidence(Stage.SHADOW).behind == 20


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.integers(0, 30))
def test_rows_twice_and_clocks_that_jump_change_nothing(seed, again):
    draw = random.Random(seed)
    plain = [audit(n, 1, Stage.ACTIVE) for n in range(40)]
    plain += [audit(n, 2, agrees=draw.random() > 0.2, accepts=draw.random() > 0.3) for n in range(40)]
    draw.shuffle(plain)
    jumping = [replace(each, time=NOON + timedelta(days=draw.randint(-400, 400))) for each in plain]
    for _ in range(again):
        place = draw.randrange(len(jumping))
        jumping.insert(draw.randrange(place, len(jumping)) + 1, jumping[place])
    one, other = evidence(plain, incumbent=1), evidence(jumping, incumbent=1)
    assert other.skipped.get(Skipped.AGAIN, 0) == again
    unnumbered = {"skipped": {}, "first": None, "last": None}
    assert replace(one, **unnumbered) == replace(other, **unnumbered)


def test_control_without_the_memory_a_row_would_count_twice(monkeypatch):
    monkeypatch.setattr("insource.lifecycle.evidence.REMEMBERED", 0)
    assert evidence([audit(1), audit(1)]).sound == 2
