"""The gates: what each wants, in words with figures, and that bad evidence never opens one."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insource.lifecycle import gates
from insource.lifecycle.evidence import Evidence, Fold
from insource.types import GuardResult, Require, Stage
from reliability.rehearsed import CERTIFIED, TASK, audit, rows, version

GATES = (gates.may_leave_shadow, gates.may_take_step, gates.may_become_active, gates.may_lift_suspension)


def evidence(audits, stage=Stage.SHADOW, incumbent=None, task=TASK):
    fold = Fold(task, 1 if incumbent is None else 2, incumbent)
    for row in rows(audits):
        fold.take(row)
    return fold.evidence(stage)


def whole(n, number=1, stage=Stage.SHADOW, **told):
    return [audit(each, number, stage, **told) for each in range(n)]


def test_whole_evidence_opens_the_gate():
    assert gates.may_leave_shadow(evidence(whole(200)), TASK, version()) == ()


def test_no_evidence_is_a_reason_at_every_gate():
    nothing = Evidence(1, Stage.SHADOW)
    assert all(gate(nothing, TASK, version()) for gate in GATES)


def test_the_reasons_say_how_much_is_there():
    reasons = gates.may_leave_shadow(evidence(whole(21)), TASK, version())
    assert "21 of 200 scored requests in shadow so far" in reasons
    assert "16 of 59 requests that it would accept, rightly so far" in reasons


@pytest.mark.parametrize(("share", "wanted"), [(0.01, 50), (0.05, 100), (0.10, 100), (0.25, 150), (0.5, 200)])
def test_each_step_of_a_canary_wants_fifty_more(share, wanted):
    canary = version(stage=Stage.CANARY, share=share)
    shadow = whole(200)
    before, after = (
        evidence([*shadow, *(audit(each, stage=Stage.CANARY) for each in range(500, 500 + n))], Stage.CANARY)
        for n in (wanted - 1, wanted)
    )
    told = f"{wanted - 1} of {wanted} scored requests in canary (share {share:.0%}) so far"
    assert gates.may_take_step(before, TASK, canary) == (told,)
    assert gates.may_take_step(after, TASK, canary) == ()


@pytest.mark.parametrize(("calibration", "told"), [
    (None, "never certified"),
    (replace(CERTIFIED, threshold=None, risk_upper_bound=None), "certify no threshold"),
    (replace(CERTIFIED, risk_upper_bound=0.06), "its certified bound is 6.0%; the target is 5.0%"),
    (replace(CERTIFIED, risk_upper_bound=float("nan")), "its certified bound is nan%"),
    (replace(CERTIFIED, confidence_level=0.9), "certified at 0.9; the task asks for 0.95"),
    (replace(CERTIFIED, guards=(GuardResult("unsafe", 0.1, 9, 0, None, False, 20),)), "0 of 1 guards are certified"),
])  # fmt: skip
def test_the_certificate_has_to_keep_the_promise_of_now(calibration, told):
    reasons = gates.certified(Evidence(1, Stage.SHADOW), TASK, version(calibration=calibration))
    assert any(told in reason for reason in reasons)


def test_a_guard_that_was_set_since_is_not_certified():
    task = replace(TASK, guard={"unsafe": 0.1})
    assert gates.certified(Evidence(1, Stage.SHADOW), task, version()) == ("0 of 1 guards are certified",)


@pytest.mark.parametrize(("spoil", "told"), [
    ({"score": 0.7}, "the score is the same for all 200 requests"),
    ({"seconds": 0.0}, "the latency is the same for all 200 requests"),
    ({"seconds": None}, "latency was measured on 0 of 200 requests"),
    ({"accepts": False}, "it rightly accepts 0.0% of 200 requests; it certified 80.0%"),
    ({"accepts": True}, "it would accept 100.0% of 200 requests; it certified 80.0%"),
])  # fmt: skip
def test_figures_that_tell_nothing_are_reasons(spoil, told):
    reasons = gates.may_leave_shadow(evidence(whole(200, **spoil)), TASK, version())
    assert any(told in reason for reason in reasons), reasons


def test_partial_evidence_is_a_reason():
    found = whole(300)
    found[::3] = [replace(each, score=None) for each in found[::3]]
    reasons = gates.complete(evidence(found), TASK, version())
    assert reasons == ("evidence is partial: 200 sound rows, 100 no score",)


def test_evidence_that_stops_coming_is_a_reason():
    found = evidence([*whole(50, 2), *whole(250, 1, Stage.ACTIVE)], incumbent=1)
    assert "250 audits of the incumbent came since its own last one" in gates.complete(found, TASK, version(2))


def test_what_is_shown_against_it_takes_it_back():
    wrong = evidence([audit(n, agrees=n % 4 > 0) for n in range(100)])
    failing = evidence([replace(audit(n), agrees=None, score=None, detail="specialist_failed") for n in range(40)])
    assert "its risk is above the target of 5.0%" in gates.must_go_back(wrong, TASK, version())[0]
    assert "it fails: 40 of 40" in gates.must_go_back(failing, TASK, version())[0]
    assert gates.must_go_back(evidence(whole(200)), TASK, version()) == ()


def test_a_guard_that_is_crossed_takes_it_back():
    task = replace(TASK, guard={"unsafe": 0.1})
    fold = Fold(task, 1)
    for row in rows(whole(40)):
        fold.take(replace(row, audit=replace(row.audit, agrees=False, accepts=True), label="unsafe"))
    told = gates.guards_shown(fold.evidence(Stage.SHADOW), task, version())
    assert told[0].startswith("guard unsafe is crossed: 40 of 40")


def test_half_of_the_answers_above_the_latency_that_was_asked():
    task = replace(TASK, require=Require(latency_ms=1.0))
    reasons = gates.failing_kept(evidence(whole(200), task=task), task, version())
    assert any("half of its answers take" in reason for reason in reasons)


def test_the_last_step_wants_the_paired_test_where_there_is_an_incumbent():
    alone = evidence(whole(200, 2, Stage.CANARY), Stage.CANARY, incumbent=1)
    canary = version(2, Stage.CANARY, 0.5)
    assert "no request yet that both it and the incumbent would accept" in gates.may_become_active(alone, TASK, canary)
    pairs = [each for n in range(100) for each in (audit(n, 1, Stage.ACTIVE), audit(n, 2, Stage.CANARY))]
    (told,) = gates.not_worse(evidence(pairs, Stage.CANARY, incumbent=1), TASK, canary)
    assert told.startswith("80 requests that both would accept leave a loss of") and "to go" in told


def test_a_suspension_is_lifted_by_a_bound_that_is_shown_and_nothing_less():
    few, many = evidence(whole(200)), evidence(whole(120))
    assert gates.shown(few, TASK, version()) == ()
    assert "must be shown" in gates.shown(many, TASK, version())[0]


BAD = {
    "wrong": {"agrees": False, "accepts": True},
    "wrong, with another score": {"agrees": False, "accepts": True, "score": 0.123},
    "failed": {"agrees": None, "score": None, "detail": "specialist_failed"},
    "slow": {"agrees": None, "score": None, "detail": "specialist_slow"},
    "late": {"seconds": 3.0},
    "no score": {"score": None},
    "not said": {"accepts": None},
    "no stage": {"stage": None},
    "no reference": {"agrees": None, "detail": "no reference: upstream_failed"},
}  # fmt: skip


@settings(max_examples=25)
@given(
    sound=st.integers(195, 204),
    constant=st.sampled_from([{}, {"score": 0.7}, {"seconds": 0.002}]),
    before=st.lists(st.sampled_from(sorted(BAD)), max_size=3),
    more=st.lists(st.sampled_from(sorted(BAD)), min_size=1, max_size=30),
    incumbent=st.booleans(),
    stage=st.sampled_from([Stage.SHADOW, Stage.CANARY]),
)
def test_more_bad_evidence_never_turns_no_into_yes(sound, constant, before, more, incumbent, stage):
    number = 2 if incumbent else 1
    given_, added = [], []
    for request in range(sound):
        given_ += [audit(request, 1, Stage.ACTIVE)] if incumbent else []
        given_ += [replace(audit(request, number, stage), **constant)]
    for request, kind in enumerate(before, 1_000):
        given_ += [replace(audit(request, number, stage), **BAD[kind])]
    for request, kind in enumerate(more, 2_000):
        added += (
            [audit(request, 1, Stage.ACTIVE, accepts=True)] if incumbent and BAD[kind].get("agrees") is False else []
        )
        added += [replace(audit(request, number, stage), **BAD[kind])]
    one = evidence(given_, stage, 1 if incumbent else None)
    other = evidence(given_ + added, stage, 1 if incumbent else None)
    for share in (0.01, 0.5):
        about = version(number, stage, share)
        for gate in GATES:
            if gate(one, TASK, about):
                assert gate(other, TASK, about), gate.__name__
        if gates.must_go_back(one, TASK, about):
            assert gates.must_go_back(other, TASK, about)


def test_control_a_gate_that_counts_bad_rows_as_evidence_is_found():
    """The guard broken on purpose: counting every row, a wrong answer completes what was lacking."""

    def careless(found, task, about):
        return gates.fewest(found.sound + found.wrong, 200, "requests")

    one, other = evidence(whole(199)), evidence([*whole(199), replace(audit(999), agrees=False, accepts=True)])
    assert careless(one, TASK, version()) and not careless(other, TASK, version())
    assert gates.may_leave_shadow(one, TASK, version()) and gates.may_leave_shadow(other, TASK, version())
