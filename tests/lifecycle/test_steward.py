"""The steward on a real registry: the way up, the way back, suspensions, modes, kills, and others who were first."""

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest

from insource.errors import StoreBusy
from insource.lifecycle.reading import Reading
from insource.lifecycle.steward import PAGE, Steward
from insource.types import Calibration, Mode, Stage
from reliability.rehearsed import CERTIFIED, NOON, TASK, Rehearsal, audit


@pytest.fixture
def stage(tmp_path):
    opened = []

    def make(**told):
        opened.append(Rehearsal(tmp_path / str(len(opened)), replace(TASK, **told)))
        return opened[-1]

    yield make
    for each in opened:
        each.registry.close()


def climb(rehearsal, number=1, incumbent=None, most=900, first=0, each=lambda: None):
    """Write whole audits in the stage that the version is in until it is active; return how many requests it took."""
    for request in range(first, first + most, 10):
        place = rehearsal.at(number)[0]
        if place is Stage.ACTIVE:
            return request - first
        ten = range(request, request + 10)
        beside = [] if incumbent is None else [audit(one, incumbent, Stage.ACTIVE) for one in ten]
        rehearsal.turn([*beside, *(audit(one, number, place) for one in ten)], turns=2)
        each()
    raise AssertionError(rehearsal.steward.look("triage").step)


def activate(rehearsal):
    rehearsal.register()
    rehearsal.registry.promote("triage", 1, "ada", "by hand", NOON)
    rehearsal.turn()


def spoil(rehearsal, first=5_000, most=100):
    for request in range(first, first + most):
        rehearsal.turn([audit(request, 1, Stage.ACTIVE, agrees=False, accepts=True)])
        if rehearsal.registry.suspension("triage"):
            return
    raise AssertionError("not suspended")


def test_a_first_version_goes_all_the_way_on_its_own_evidence(stage):
    rehearsal = stage()
    rehearsal.register()
    rehearsal.turn()
    assert climb(rehearsal) == 400
    moves = rehearsal.registry.moves("triage")
    assert [(move.stage, move.share) for move in moves] == [
        (Stage.SHADOW, 0.0), (Stage.CANARY, 0.01), (Stage.CANARY, 0.05), (Stage.CANARY, 0.25), (Stage.CANARY, 0.5),
        (Stage.ACTIVE, 0.0),
    ]  # fmt: skip
    assert {move.who for move in moves} == {"steward"}
    assert "200 sound requests in shadow, 0 wrong of 160" in moves[1].why and "(ledger row 200)" in moves[1].why


def test_a_second_version_needs_the_pairs_and_retires_the_first(stage):
    rehearsal = stage()
    activate(rehearsal)
    rehearsal.register()
    rehearsal.turn()
    climb(rehearsal, 2, incumbent=1)
    assert rehearsal.at(1)[0] is Stage.RETIRED
    assert "against the incumbent (promote, margin 2.0%)" in rehearsal.registry.moves("triage")[-1].why


def test_kills_change_nothing(stage):
    steady, killed = stage(), stage()
    for rehearsal in (steady, killed):
        rehearsal.register()
        rehearsal.turn()
    climb(steady)
    climb(killed, each=lambda: killed.restart() if len(killed.ledger.written) % 30 == 0 else None)
    one, other = (
        [(move.stage, move.share, move.why) for move in rehearsal.registry.moves("triage")]
        for rehearsal in (steady, killed)
    )
    assert one == other


def test_the_clock_may_jump_as_it_likes(stage):
    rehearsal = stage()
    rehearsal.register()

    def jump():
        rehearsal.clock.time = NOON + timedelta(days=hash(rehearsal.clock.time) % 900 - 450)

    rehearsal.turn()
    assert climb(rehearsal, each=jump) == 400


@pytest.mark.parametrize("mode", list(Mode))
def test_a_canary_that_is_wrong_goes_back_in_every_mode(stage, mode):
    rehearsal = stage(mode=mode)
    activate(rehearsal)
    rehearsal.register()
    rehearsal.registry.move("triage", 2, expected=Stage.CANDIDATE, to=Stage.CANARY, share=0.05, who="ada", why="try",
                            now=NOON)  # fmt: skip
    rehearsal.turn(audit(n, 2, Stage.CANARY, agrees=n % 3 > 0, accepts=True) for n in range(60))
    assert rehearsal.at(2)[0] is Stage.RETIRED
    assert rehearsal.at(1)[0] is Stage.ACTIVE
    assert "its risk is above the target" in rehearsal.registry.moves("triage")[-1].why


@pytest.mark.parametrize("mode", list(Mode))
def test_a_crossed_bound_suspends_at_once_in_every_mode(stage, mode):
    rehearsal = stage(mode=mode)
    activate(rehearsal)
    spoil(rehearsal)
    suspension = rehearsal.registry.suspension("triage")
    assert suspension.who == "steward"
    assert suspension.why.startswith("risk is above the target of 5.0%")


def test_a_suspension_is_lifted_by_evidence_since_then_after_a_restart_too(stage):
    for restarts in (False, True):
        rehearsal = stage()
        activate(rehearsal)
        spoil(rehearsal)
        lifted = None
        for request in range(6_000, 6_400, 10):
            rehearsal.turn(audit(one, 1, Stage.ACTIVE) for one in range(request, request + 10))
            if restarts:
                rehearsal.restart()
            if rehearsal.registry.suspension("triage") is None:
                lifted = request - 6_000
                break
        assert lifted is not None and 100 < lifted < 200
        rehearsal.turn(audit(request, 1, Stage.ACTIVE) for request in range(7_000, 7_050))
        assert rehearsal.registry.suspension("triage") is None


@pytest.mark.parametrize("agrees", [True, False])
def test_a_suspension_is_not_lifted_by_a_steward_that_is_behind(stage, agrees):
    """Of two pages the first shows all to be right: the second, which may show otherwise, is waited for."""
    rehearsal = stage()
    activate(rehearsal)
    spoil(rehearsal)
    rehearsal.ledger.add(*(audit(number, 1, Stage.ACTIVE) for number in range(PAGE)))
    rehearsal.ledger.add(*(audit(number, 1, Stage.ACTIVE, agrees=agrees) for number in range(PAGE, PAGE + 900)))
    rehearsal.steward.turn()
    assert rehearsal.steward.look("triage").watch.audits == PAGE
    assert rehearsal.registry.suspension("triage") is not None
    rehearsal.turn()
    assert (rehearsal.registry.suspension("triage") is None) == agrees


def test_what_a_person_suspended_only_a_person_resumes(stage):
    rehearsal = stage()
    activate(rehearsal)
    rehearsal.registry.suspend("triage", "ada", "an incident", NOON)
    rehearsal.register()
    both = [each for n in range(400) for each in (audit(n, 1, Stage.ACTIVE), audit(n, 2, Stage.SHADOW))]
    rehearsal.turn(both)
    assert rehearsal.registry.suspension("triage").who == "ada"
    assert rehearsal.at(2)[0] is Stage.SHADOW
    assert "ada suspended the task (an incident); only a person resumes it" in (
        rehearsal.steward.look("triage").step.reasons
    )


def test_a_new_version_takes_over_from_a_suspended_one_by_its_own_evidence_since(stage):
    rehearsal = stage()
    activate(rehearsal)
    spoil(rehearsal)
    rehearsal.register()
    rehearsal.turn()
    for request in range(8_000, 8_400, 10):
        ten = range(request, request + 10)
        rehearsal.turn([each for one in ten for each in
                        (audit(one, 1, Stage.ACTIVE, agrees=False), audit(one, 2, Stage.SHADOW))])  # fmt: skip
        if rehearsal.at(2)[0] is Stage.ACTIVE:
            break
    assert rehearsal.at(2)[0] is Stage.ACTIVE and 190 <= request - 8_000 < 260
    assert rehearsal.registry.suspension("triage") is None


def test_approve_proposes_each_step_once_and_takes_none(stage):
    rehearsal = stage(mode=Mode.APPROVE)
    rehearsal.register()
    rehearsal.turn()
    assert rehearsal.at()[0] is Stage.CANDIDATE
    proposal = rehearsal.registry.proposal("triage")
    assert (proposal.version, proposal.to) == (1, Stage.SHADOW)
    before = len(rehearsal.registry.acts())
    rehearsal.turn(turns=5)
    assert len(rehearsal.registry.acts()) == before
    rehearsal.registry.carry_out(proposal, "ada", "agreed", NOON)
    rehearsal.turn(audit(n) for n in range(250))
    assert rehearsal.at() == (Stage.SHADOW, 0.0)
    assert rehearsal.registry.proposal("triage").share == 0.01


def test_a_proposal_that_the_evidence_no_longer_allows_is_withdrawn(stage):
    rehearsal = stage(mode=Mode.APPROVE)
    rehearsal.register()
    rehearsal.registry.move("triage", 1, expected=Stage.CANDIDATE, to=Stage.SHADOW, who="ada", why="try", now=NOON)
    rehearsal.turn(audit(n) for n in range(200))
    assert rehearsal.registry.proposal("triage") is not None
    rehearsal.turn(replace(audit(n), accepts=None) for n in range(300, 330))
    assert rehearsal.registry.proposal("triage") is None


def test_manual_only_watches(stage):
    rehearsal = stage(mode=Mode.MANUAL)
    rehearsal.register()
    rehearsal.turn(turns=5)
    assert rehearsal.at()[0] is Stage.CANDIDATE
    assert rehearsal.registry.proposal("triage") is None and rehearsal.registry.acts() == ()


def test_a_version_deleted_in_canary_goes_back(stage):
    rehearsal = stage(mode=Mode.MANUAL)
    rehearsal.register()
    rehearsal.registry.move("triage", 1, expected=Stage.CANDIDATE, to=Stage.CANARY, share=0.05, who="ada", why="try",
                            now=NOON)  # fmt: skip
    rehearsal.turn()
    assert rehearsal.at()[0] is Stage.CANARY
    rehearsal.gone[1] = "its folder dddd is gone"
    rehearsal.turn()
    assert rehearsal.at()[0] is Stage.RETIRED
    assert "its artifact cannot be served: its folder dddd is gone" in rehearsal.registry.moves()[-1].why


def test_whoever_was_first_has_his_way(stage):
    """Two stewards and a person on one registry: every step is taken once, and nobody fails."""
    rehearsal = stage()
    rehearsal.register()
    other = Steward(lambda: {"triage": rehearsal.task}, rehearsal.registry, Reading(rehearsal.ledger, None),
                    unservable=lambda version: None, now=rehearsal.clock)  # fmt: skip
    climb(rehearsal, each=lambda: other.turn())
    moves = rehearsal.registry.moves("triage")
    assert len(moves) == 6


def test_a_step_that_somebody_else_took_meanwhile_is_left_alone(stage, monkeypatch):
    rehearsal = stage()
    rehearsal.register()
    rehearsal.turn(audit(n) for n in range(199))
    move = rehearsal.registry.move

    def first(task, version, **told):
        monkeypatch.setattr(rehearsal.registry, "move", move)
        move(task, version, expected=Stage.SHADOW, to=Stage.RETIRED, who="ada", why="no", now=NOON)
        return move(task, version, **told)

    monkeypatch.setattr(rehearsal.registry, "move", first)
    rehearsal.turn([audit(500)])
    assert rehearsal.at()[0] is Stage.RETIRED


def last_step_overtaken(stage, monkeypatch, by):
    """Let `by` happen between the steward's look at the last step and that step; return the rehearsal."""
    rehearsal = stage()
    activate(rehearsal)
    rehearsal.register()
    rehearsal.register()
    move = rehearsal.registry.move

    def overtaken(task, version, **told):
        if told["to"] is Stage.ACTIVE:
            monkeypatch.setattr(rehearsal.registry, "move", move)
            by(rehearsal.registry)
            return move(task, version, **by.strip(told))
        return move(task, version, **told)

    monkeypatch.setattr(rehearsal.registry, "move", overtaken)
    with suppress(AssertionError):  # it never becomes active
        climb(rehearsal, 3, incumbent=1)
    return rehearsal


class Promotion:
    """Somebody promotes version 2, which the trial (version 3) was never compared with."""

    def __init__(self, *without):
        self.without = without

    def __call__(self, registry):
        registry.promote("triage", 2, "ada", "mine is better", NOON)

    def strip(self, told):
        return {key: value for key, value in told.items() if key not in self.without}


def test_a_version_does_not_take_the_place_of_one_that_it_was_not_compared_with(stage, monkeypatch):
    rehearsal = last_step_overtaken(stage, monkeypatch, Promotion())
    assert rehearsal.at(2)[0] is Stage.ACTIVE and rehearsal.at(3)[0] is Stage.CANARY


def test_control_a_step_that_does_not_say_what_was_active_would_take_it(stage, monkeypatch):
    rehearsal = last_step_overtaken(stage, monkeypatch, Promotion("before"))
    assert rehearsal.at(2)[0] is Stage.RETIRED and rehearsal.at(3)[0] is Stage.ACTIVE


def test_candidates_that_were_tried_are_not_tried_again(stage):
    rehearsal = stage()
    rehearsal.register()
    rehearsal.register()
    rehearsal.turn()
    assert (rehearsal.at(1)[0], rehearsal.at(2)[0]) == (Stage.CANDIDATE, Stage.SHADOW)
    rehearsal.registry.move("triage", 2, expected=Stage.SHADOW, to=Stage.RETIRED, who="ada", why="no", now=NOON)
    rehearsal.turn()
    assert rehearsal.at(1)[0] is Stage.CANDIDATE


@pytest.mark.parametrize(("mode", "place"), [
    (Mode.AUTO, Stage.RETIRED), (Mode.APPROVE, Stage.SHADOW), (Mode.MANUAL, Stage.SHADOW)
])  # fmt: skip
def test_a_trial_makes_way_for_a_much_better_candidate_only_where_no_person_decides(stage, mode, place):
    rehearsal = stage(mode=mode)
    rehearsal.register(replace(CERTIFIED, coverage=0.2))
    rehearsal.registry.move("triage", 1, expected=Stage.CANDIDATE, to=Stage.SHADOW, who="ada", why="try", now=NOON)
    rehearsal.turn()
    rehearsal.register()
    rehearsal.turn()
    assert rehearsal.at(1)[0] is place
    assert rehearsal.at(2)[0] is (Stage.SHADOW if mode is Mode.AUTO else Stage.CANDIDATE)


def test_an_active_version_without_a_threshold_is_no_incumbent(stage):
    rehearsal = stage()
    rehearsal.register(Calibration("cross-fit", 0.05, 0.95, 40, None, 0.0, 0, 0, None, 0.9))
    rehearsal.registry.promote("triage", 1, "ada", "anyway", NOON)
    rehearsal.register()
    rehearsal.turn()
    assert climb(rehearsal, 2) == 400


def test_a_worse_canary_is_rolled_back_by_a_steward_that_is_behind(stage):
    """A steward slower than the traffic never reads all of it: it must not wait for that, and moves nothing on yet."""
    rehearsal = stage(target_risk=0.3)
    for _ in range(2):
        rehearsal.register()
    rehearsal.registry.promote("triage", 1, "ada", "by hand", NOON)
    rehearsal.registry.move("triage", 2, expected=Stage.CANDIDATE, to=Stage.CANARY, share=0.25, who="ada", why="try",
                            now=NOON)  # fmt: skip
    for number in range(3 * PAGE):
        wrong = {"agrees": number % 10 > 0}
        rehearsal.ledger.add(audit(number, 1, Stage.ACTIVE, accepts=True),
                             audit(number, 2, Stage.CANARY, accepts=True, **wrong))  # fmt: skip
    rehearsal.steward.turn()
    assert rehearsal.at(2)[0] is Stage.RETIRED
    last = rehearsal.registry.moves("triage")[-1]
    assert last.who == "steward" and last.why.endswith(f"(ledger row {PAGE})") and "answers worse" in last.why


def test_a_good_canary_is_not_moved_on_by_a_steward_that_is_behind(stage):
    rehearsal = stage()
    rehearsal.register()
    rehearsal.turn()
    rehearsal.ledger.add(*(audit(number) for number in range(2 * PAGE)))
    rehearsal.steward.turn()
    assert rehearsal.at() == (Stage.SHADOW, 0.0)
    rehearsal.turn()
    assert rehearsal.at()[0] is Stage.CANARY


def test_a_busy_store_is_waited_for(stage):
    rehearsal = stage()
    rehearsal.register()
    pauses, changed = [], rehearsal.registry.changed
    failing = iter([True, True, False])

    def busy():
        if next(failing, False):
            raise StoreBusy("held by another process")
        return changed()

    rehearsal.registry.changed = busy
    rehearsal.steward.run(pauses.append, lambda: len(pauses) >= 12, poll=0.25)
    assert rehearsal.at()[0] is Stage.SHADOW
    assert pauses[:2] == [1.0, 1.0] and pauses[-1] == 1.0 and 0.25 in pauses


def test_a_registry_edited_by_hand_is_survived(stage):
    rehearsal = stage()
    rehearsal.register()
    rehearsal.register()
    with rehearsal.registry._writing() as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("UPDATE versions SET stage = 'shadwo' WHERE version = 1")
        connection.execute("UPDATE versions SET stage = 'canary', share = 7 WHERE version = 2")
    rehearsal.turn(audit(n, 2, Stage.CANARY) for n in range(300))
    assert rehearsal.registry.moves() == ()
