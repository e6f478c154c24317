"""The steward raises a threshold on a doubt's audits: the version goes on, whoever is killed, and is watched anew."""

from dataclasses import replace

import numpy as np
import pytest

from insource.errors import StageConflict
from insource.lifecycle.evidence import Row
from insource.lifecycle.learn import evidence_begins
from insource.lifecycle.monitors import Monitors
from insource.risk.recertify import Certified
from insource.store.recertifications import Recertified
from insource.store.signals import Signal
from insource.types import Calibration, Stage
from reliability.rehearsed import NOON, TASK, audit
from tests.lifecycle.drifting import KINDS, stream
from tests.lifecycle.test_doubting import Drifting

SERVED = Calibration("cross-fit", 0.05, 0.95, 400, 0.4, 0.8, 320, 3, 0.03, 0.9)


def shifted(requests, *, seed=1, audited=1.0, good=0.01, bad=0.12):
    """Rows after a shift: lower scores; of what is accepted at 0.4, that under 0.55 is often wrong."""
    random = np.random.default_rng(seed)
    rows = []
    for n in range(requests):
        score, answer = float(random.random()), int(random.integers(KINDS))
        agrees = random.random() >= (0.9 if score < 0.4 else bad if score < 0.55 else good)
        rows.append(Signal(1, NOON, 1, score, answer))
        if score < 0.4:
            rows.append(Signal(1, NOON, 1, None, None, agrees, answer if agrees else (answer + 1) % KINDS))
        if random.random() < audited:
            told = audit(n, 1, Stage.ACTIVE, agrees=bool(agrees), accepts=score >= 0.4)
            rows.append(Row(1, replace(told, score=score)))
    return rows


@pytest.fixture
def rehearsal(tmp_path):
    with begun(tmp_path) as rehearsal:
        yield rehearsal


def begun(folder):
    rehearsal = Drifting(folder)
    rehearsal.register(SERVED)
    rehearsal.registry.promote("triage", 1, "ada", "by hand", NOON)
    rehearsal.settle()
    rehearsal.settle(stream(1_200))
    return rehearsal


def in_force(rehearsal):
    return rehearsal.registry.active("triage").calibration.threshold


def until_raised(rehearsal, rows):
    for start in range(0, len(rows), 100):
        rehearsal.settle(rows[start : start + 100])
        if in_force(rehearsal) != 0.4:
            return start + 100
    raise AssertionError("the threshold was never raised")


@pytest.fixture(scope="module")
def settled(tmp_path_factory):
    """A rehearsal whose threshold was raised: to be looked at only."""
    with begun(tmp_path_factory.mktemp("raised")) as rehearsal:
        until_raised(rehearsal, shifted(2_000))
        yield rehearsal


def test_a_doubt_ends_with_a_higher_threshold_and_all_begins_anew(settled):
    rehearsal, raised = settled, settled.registry.recertified("triage", 1)
    assert 0.4 == raised.before < raised.calibration.threshold == in_force(rehearsal) < 0.7
    assert raised.who == "steward" and raised.doubts == 1 and raised.calibration.rows == 1_000
    assert raised.why.startswith(f"threshold raised from 0.4000 to {raised.calibration.threshold:.4f} on "
                                 f"{raised.calibration.rows:,} audits")  # fmt: skip
    assert f"certified coverage {raised.calibration.coverage:.1%}" in raised.why
    assert rehearsal.doubt is None and rehearsal.registry.suspension("triage") is None
    assert [act.what for act in rehearsal.acts("doubt", "re-certify", "end doubt")] == [
        "doubt", "re-certify", "end doubt",
    ]  # fmt: skip
    assert 0 < raised.since < len(rehearsal.ledger.rows)
    seen = rehearsal.steward.look("triage").watch
    assert (seen.audits, seen.window, seen.drift.standing.value) == (0, 0, "calm")


def test_afterwards_only_what_is_accepted_now_counts(rehearsal):
    until_raised(rehearsal, shifted(2_000))
    rows = shifted(400, seed=5)  # decided by a worker that had not heard yet: accepted at 0.4
    rehearsal.settle(rows)
    seen = rehearsal.steward.look("triage").watch
    above = sum(isinstance(row, Row) and row.audit.score >= in_force(rehearsal) for row in rows)
    assert seen.audits == 400 and seen.risk.rows == above < 240
    control = Monitors(TASK, 1)
    for row in rows:
        if isinstance(row, Row):
            control.take(replace(row, audit=replace(row.audit, request_id=f"c-{id(row)}")))
    assert control.watch().risk.rows > above


@pytest.mark.parametrize(
    ("forget", "every"), [(False, 250), (True, 500), pytest.param(True, 250, marks=pytest.mark.slow)]
)
def test_a_kill_at_any_point_changes_nothing(tmp_path, forget, every):
    told = []
    for killed in (False, True):
        with begun(tmp_path / str(killed)) as rehearsal:
            rows = shifted(1_400)
            for start in range(0, len(rows), every):
                rehearsal.settle(rows[start : start + every])
                if killed:
                    if forget:
                        with rehearsal.registry._writing() as connection:
                            connection.execute("DELETE FROM watches")
                    rehearsal.restart()
                    rehearsal.settle()
            found = rehearsal.registry.recertified("triage")
            told.append((found.calibration, found.doubts, [(act.what, act.detail) for act in rehearsal.acts()]))
    assert told[0] == told[1]


def test_a_kill_between_the_look_and_the_act_is_made_good(rehearsal, monkeypatch):
    """The look is kept with its rows; the act comes once, from the next steward."""
    late = rehearsal.registry.recertify

    def killed(told):
        raise StageConflict("as a steward that is gone")

    monkeypatch.setattr(rehearsal.registry, "recertify", killed)
    rehearsal.ledger.write(shifted(1_400))
    for _ in range(12):
        rehearsal.steward.turn()
    assert in_force(rehearsal) == 0.4 and rehearsal.steward.look("triage").watch.drift.standing.value == "doubt"
    monkeypatch.setattr(rehearsal.registry, "recertify", late)
    rehearsal.restart()
    rehearsal.settle()
    assert in_force(rehearsal) > 0.4 and len(rehearsal.acts("re-certify")) == 1


def test_a_suspension_comes_first(rehearsal):
    rehearsal.settle(shifted(1_400, bad=0.6))
    assert rehearsal.registry.suspension("triage").who == "steward" and in_force(rehearsal) == 0.4
    rehearsal.settle(shifted(1_400, seed=6))
    rehearsal.settle(shifted(2_600, seed=6, bad=0.1))
    assert in_force(rehearsal) == 0.4  # what is suspended is lifted at its own threshold, or by a new version


def test_a_person_who_promotes_another_version_has_his_way(rehearsal):
    rehearsal.settle(shifted(300))
    assert rehearsal.doubt is not None
    rehearsal.register(SERVED)
    rehearsal.registry.promote("triage", 2, "ada", "better", NOON)
    rehearsal.settle(shifted(2_600, seed=7))
    assert rehearsal.registry.recertified("triage") is None


def test_the_next_doubt_is_counted_on(settled):
    certified = settled.steward.look("triage").standing.certified
    assert certified == Certified(in_force(settled), {}, 1)


def test_what_was_seen_before_the_doubt_does_not_certify_the_next_version():
    raised = Recertified("triage", 1, NOON, 0.4, SERVED, 1, 77, "steward", "raised (ledger row 99)")
    assert evidence_begins((), ()) == 0
    assert evidence_begins((), (), raised) == 77
