"""The steward and doubts: raised and ended as the ledger says, whoever is killed; and what is kept for the next one."""

from dataclasses import replace

import pytest

from insource.errors import StageConflict
from insource.lifecycle.reading import Reading
from insource.lifecycle.steward import PAGE, Steward
from insource.types import Doubt
from reliability.rehearsed import NOON, Rehearsal
from tests.lifecycle.drifting import SignalLedger, stream


class Drifting(Rehearsal):
    """A rehearsal whose ledger has signals."""

    def restart(self):
        if not isinstance(self.ledger, SignalLedger):
            self.ledger = SignalLedger()
        self.steward = Steward(
            lambda: {self.task.name: self.task}, self.registry, Reading(self.ledger, None, self.ledger),
            unservable=lambda version: None, now=self.clock,
        )  # fmt: skip

    def settle(self, rows=()):
        self.ledger.write(rows)
        while self.steward.turn():
            pass

    @property
    def doubt(self):
        return self.registry.doubt(self.task.name)

    def acts(self, *what):
        return [act for act in self.registry.acts() if act.what in (what or ("doubt", "end doubt"))]


@pytest.fixture
def rehearsal(tmp_path):
    with Drifting(tmp_path) as rehearsal:
        rehearsal.register()
        rehearsal.registry.promote("triage", 1, "ada", "by hand", NOON)
        rehearsal.settle()
        yield rehearsal


STRANGE = {"seed": 1, "strange": 0.4}


def drift(rehearsal):
    rehearsal.settle(stream(2_000))
    assert rehearsal.doubt is None
    rehearsal.settle(stream(800, **STRANGE))
    assert rehearsal.doubt is not None


def test_drift_raises_a_doubt_with_what_moved_and_from_which_row(rehearsal):
    drift(rehearsal)
    doubt = rehearsal.doubt
    assert (doubt.version, doubt.who, doubt.row) == (1, "steward", len(rehearsal.ledger.rows))
    assert "scores" in doubt.kinds and "risk" not in doubt.kinds
    assert "so every request is audited" in doubt.why and f"(ledger row {doubt.row})" in doubt.why
    assert rehearsal.registry.suspension("triage") is None
    (act,) = rehearsal.acts()
    assert (act.who, act.subject, act.detail) == ("steward", "triage@1", doubt.why)


def test_it_ends_when_no_harm_is_shown(rehearsal):
    drift(rehearsal)
    rehearsal.settle(stream(600, seed=2, strange=0.4, wrong=0.0, audited=1.0))
    assert rehearsal.doubt is None
    assert [act.what for act in rehearsal.acts()] == ["doubt", "end doubt"]
    assert "no harm was shown" in rehearsal.acts()[-1].detail


def test_it_ends_with_the_suspension_that_it_found(rehearsal):
    drift(rehearsal)
    rehearsal.settle(stream(600, seed=2, strange=0.4, wrong=0.3, audited=1.0))
    assert rehearsal.registry.suspension("triage").who == "steward"
    assert rehearsal.doubt is None and "the task is suspended" in rehearsal.acts()[-1].detail


def test_a_suspicion_comes_and_goes_without_acts(rehearsal):
    rehearsal.settle(stream(1_200, audited=0.0))
    rows = stream(400, seed=3, wrong=0.12, audited=1.0)
    for start in range(0, len(rows), 20):
        rehearsal.settle(rows[start : start + 20])
        if rehearsal.doubt is not None:
            break
    assert rehearsal.doubt.kinds == ("risk",)
    rehearsal.settle(stream(400, seed=4, wrong=0.0, audited=1.0))
    assert rehearsal.doubt is None and rehearsal.acts() == []


@pytest.mark.parametrize("forget", [False, True])
def test_a_kill_at_any_point_changes_nothing(tmp_path, forget):
    """Killed after every page, with what was kept or without, a steward comes to the same."""
    rows = [*stream(1_600), *stream(800, **STRANGE), *stream(500, seed=2, strange=0.4, wrong=0.0, audited=1.0)]
    told = []
    for killed in (False, True):
        with Drifting(tmp_path / str(killed)) as rehearsal:
            rehearsal.register()
            rehearsal.registry.promote("triage", 1, "ada", "by hand", NOON)
            rehearsal.settle()
            for start in range(0, len(rows), 800):
                rehearsal.settle(rows[start : start + 800])
                if killed:
                    if forget:
                        with rehearsal.registry._writing() as connection:
                            connection.execute("DELETE FROM watches")
                    rehearsal.restart()
                    rehearsal.settle()
            told.append([(act.what, act.detail) for act in rehearsal.acts()])
    assert told[0] == told[1] and [what for what, _ in told[0]] == ["doubt", "end doubt"]


def test_a_restart_reads_only_what_was_not_kept(rehearsal):
    rehearsal.settle(stream(1_500))
    for row in stream(50, seed=9):
        rehearsal.settle([row])
    kept = rehearsal.registry.kept_watch("triage")
    assert kept.row > len(rehearsal.ledger.rows) - 60 and kept.told["standing"] == "calm"
    asked = []
    signals = rehearsal.ledger.signals
    rehearsal.ledger.signals = lambda task, *, after=0, until: (
        asked.append(after) or signals(task, after=after, until=until)
    )
    rehearsal.restart()
    rehearsal.settle()
    assert asked[0] == kept.row
    assert rehearsal.steward.look("triage").watch.window == 1_000


@pytest.mark.parametrize("spoil", [
    lambda kept: replace(kept, state={"drift": 1}),
    lambda kept: replace(kept, basis="of another version"),
    lambda kept: replace(kept, row=10**9),
])  # fmt: skip
def test_what_was_kept_of_something_else_is_not_gone_on_from(rehearsal, spoil):
    rehearsal.settle(stream(1_500))
    whole = rehearsal.steward.look("triage").watch
    rehearsal.registry.keep_watch(spoil(rehearsal.registry.kept_watch("triage")))
    rehearsal.restart()
    rehearsal.settle()
    assert rehearsal.steward.look("triage").watch == whole


def test_control_what_was_kept_would_be_gone_on_from(rehearsal):
    rehearsal.settle(stream(1_500))
    kept = rehearsal.registry.kept_watch("triage")
    rehearsal.registry.keep_watch(replace(kept, state=kept.state | {"counts": [7_777, 0, 0]}))
    rehearsal.restart()
    rehearsal.settle()
    assert rehearsal.steward.look("triage").watch.audits >= 7_777


def test_a_doubt_under_another_version_is_void(rehearsal):
    drift(rehearsal)
    rehearsal.register()
    rehearsal.registry.promote("triage", 2, "ada", "better", NOON)
    assert rehearsal.doubt is None
    rehearsal.settle(stream(200, seed=5, version=2))
    assert rehearsal.doubt is None


def test_a_doubt_that_nothing_speaks_for_is_ended(rehearsal):
    rehearsal.settle(stream(1_200))
    rehearsal.registry.raise_doubt(Doubt("triage", 1, NOON, ("scores",), 1, "steward", "left over by a kill"))
    rehearsal.settle()
    assert rehearsal.doubt is None


def test_half_of_what_was_written_ends_no_doubt(rehearsal):
    drift(rehearsal)
    with rehearsal.registry._writing() as connection:
        connection.execute("DELETE FROM watches")
    rehearsal.restart()
    assert len(rehearsal.ledger.rows) > 3 * PAGE
    rehearsal.steward.turn()
    assert rehearsal.doubt is not None and len(rehearsal.acts()) == 1


def test_whoever_promotes_meanwhile_was_first(rehearsal, monkeypatch):
    rehearsal.settle(stream(2_000))

    def late(doubt, **told):
        raise StageConflict("another version is active by now")

    monkeypatch.setattr(rehearsal.registry, "raise_doubt", late)
    rehearsal.ledger.write(stream(800, **STRANGE))
    for _ in range(8):
        rehearsal.steward.turn()
    assert rehearsal.doubt is None
