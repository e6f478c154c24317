"""The rollout's plan: from candidate to active step by step, back at once, and never on another's evidence."""

from dataclasses import replace

import pytest

from insource.lifecycle.evidence import Evidence, Fold
from insource.lifecycle.rollout import PATIENCE, Back, Hold, Rollout, State, Step, audits_to_go
from insource.types import Stage, Suspension
from reliability.rehearsed import CERTIFIED, NOON, TASK, audit, rows, version

SUSPENDED = Suspension("triage", NOON, "steward", "drift")


def evidence(n, stage, number=1, incumbent=None, agrees=lambda each: True):
    fold = Fold(TASK, number, incumbent)
    for row in rows([audit(each, number, Stage.SHADOW) for each in range(200)]
                    + [audit(each, number, stage, agrees=agrees(each)) for each in range(500, 500 + n)]):  # fmt: skip
        fold.take(row)
    return fold.evidence(stage)


def test_a_certified_candidate_begins_in_shadow_and_another_stays():
    begun = Rollout().next(State(TASK, version(stage=Stage.CANDIDATE), Evidence(1, Stage.CANDIDATE)))
    assert begun == Step(Stage.SHADOW, 0.0, "certified coverage 80.0%, risk at most 3.0% on 400 rows")
    none = version(stage=Stage.CANDIDATE, calibration=None)
    assert Rollout().next(State(TASK, none, Evidence(1, Stage.CANDIDATE))) == Hold(("it was never certified",))


@pytest.mark.parametrize(("stage", "share", "to", "next_share"), [
    (Stage.SHADOW, 0.0, Stage.CANARY, 0.01),
    (Stage.CANARY, 0.01, Stage.CANARY, 0.05),
    (Stage.CANARY, 0.05, Stage.CANARY, 0.25),
    (Stage.CANARY, 0.10, Stage.CANARY, 0.25),
    (Stage.CANARY, 0.25, Stage.CANARY, 0.50),
    (Stage.CANARY, 0.50, Stage.ACTIVE, 0.0),
])  # fmt: skip
def test_the_steps(stage, share, to, next_share):
    step = Rollout().next(State(TASK, version(1, stage, share), evidence(200, stage)))
    assert (step.to, step.share) == (to, next_share)


def test_the_figures_stand_in_the_reason():
    step = Rollout().next(State(TASK, version(1, Stage.CANARY, 0.5), evidence(200, Stage.CANARY)))
    assert step.why.startswith(
        "200 sound requests in canary, 0 wrong of 320 it would accept, risk 0.0% to 1.8% (target"
    )


def test_with_an_incumbent_the_last_step_waits_for_the_pairs():
    about = State(TASK, version(2, Stage.CANARY, 0.5), evidence(200, Stage.CANARY, 2, 1), version(1, Stage.ACTIVE))
    assert isinstance(Rollout().next(about), Hold)
    assert isinstance(Rollout().next(replace(about, version=version(2, Stage.CANARY, 0.25))), Step)


@pytest.mark.parametrize("told", [{"incumbent": None}, {"version": 7}, {"stage": Stage.SHADOW}])
def test_evidence_about_something_else_holds(told):
    right = evidence(200, Stage.CANARY, 2, 1)
    about = State(TASK, version(2, Stage.CANARY, 0.05), replace(right, **told), version(1, Stage.ACTIVE))
    assert isinstance(Rollout().next(about), Hold)


def test_what_is_shown_against_it_takes_it_back_at_any_step():
    bad = evidence(200, Stage.CANARY, agrees=lambda each: each % 3 > 0)
    for share in (0.01, 0.5):
        step = Rollout().next(State(TASK, version(1, Stage.CANARY, share), bad))
        assert isinstance(step, Back) and "its risk is above the target" in step.why


def test_a_version_that_was_deleted_goes_back():
    about = State(TASK, version(1, Stage.CANARY, 0.05), evidence(9, Stage.CANARY), why_unservable="its folder is gone")
    assert Rollout().next(about) == Back("its artifact cannot be served: its folder is gone")
    candidate = replace(about, version=version(stage=Stage.CANDIDATE))
    assert isinstance(Rollout().next(candidate), Hold)


def test_while_suspended_a_version_takes_over_from_shadow_by_a_bound_that_is_shown():
    about = State(TASK, version(2), replace(evidence(0, Stage.SHADOW, 2), sound=200), None, SUSPENDED)
    step = Rollout().next(about)
    assert isinstance(step, Step) and step.to is Stage.ACTIVE
    risky = replace(about.evidence, risk=replace(about.evidence.risk, upper=0.06))
    assert isinstance(Rollout().next(replace(about, evidence=risky)), Hold)


def test_a_trial_without_a_verdict_makes_room_for_a_newer_candidate():
    stuck = replace(evidence(200, Stage.CANARY, 2, 1), scored=PATIENCE)
    about = State(TASK, version(2, Stage.CANARY, 0.5), stuck, version(1, Stage.ACTIVE))
    assert isinstance(Rollout().next(about), Hold)
    step = Rollout().next(replace(about, newer=version(3, Stage.CANDIDATE, calibration=CERTIFIED)))
    assert isinstance(step, Back) and "triage@3 is newer" in step.why


def certifying(coverage):
    return replace(CERTIFIED, coverage=coverage)


@pytest.mark.parametrize(("incumbent", "ours", "theirs", "goes"), [
    (None, 0.15, 0.79, True),
    (None, 0.15, 0.19, False),  # not 5 points more
    (None, 0.60, 0.79, False),  # not half as much again
    (0.50, 0.60, 0.66, True),
    (0.50, 0.60, 0.64, False),
    (0.70, 0.60, 0.64, False),  # no gain at all
    (0.70, 0.60, 0.76, True),
])  # fmt: skip
def test_a_trial_makes_way_for_a_candidate_that_gains_much_more(incumbent, ours, theirs, goes):
    served = None if incumbent is None else version(1, Stage.ACTIVE, calibration=certifying(incumbent))
    about = State(TASK, version(2, Stage.CANARY, 0.05, certifying(ours)), evidence(9, Stage.CANARY, 2, served and 1),
                  served, newer=version(3, Stage.CANDIDATE, calibration=certifying(theirs)))  # fmt: skip
    step = Rollout().next(about)
    assert isinstance(step, Back) is goes and (not goes or step.makes_way)
    assert not isinstance(Rollout().next(replace(about, newer=version(3, Stage.CANDIDATE, calibration=None))), Back)


def test_only_so_many_candidates_in_a_row_can_make_trials_give_way():
    gain, times = 0.05, 0
    while (further := max(1.5 * gain, gain + 0.05)) <= 1.0:
        gain, times = further, times + 1
    assert times <= 8


def test_how_many_audits_are_to_come():
    assert audits_to_go(evidence(0, Stage.SHADOW), TASK, version()) == 0
    assert audits_to_go(evidence(20, Stage.CANARY), TASK, version(1, Stage.CANARY, 0.05)) == 80
    nothing = Evidence(1, Stage.SHADOW)
    assert audits_to_go(nothing, TASK, version()) is None
