"""A rehearsal tells a raised threshold as it tells a doubt, and closes the doubt with it."""

from dataclasses import replace
from types import SimpleNamespace

from insource.cli.backtest_lifecycle import NEWS
from insource.lifecycle.rehearsal import Rehearsal, Rehearsed
from insource.lifecycle.rehearsal_report import LifecycleReport
from insource.store.recertifications import Recertified
from insource.store.registry import Registry
from insource.types import Doubt
from reliability.rehearsed import CERTIFIED, NOON, TASK


def test_a_raised_threshold_is_an_event_and_ends_the_doubt(tmp_path):
    told = Rehearsal.__new__(Rehearsal)
    told._task, told._moves, told._acts = TASK, 0, 0
    told.result = Rehearsed(*[None] * 9)
    with Registry.open(tmp_path) as registry:
        registry.register("triage", "linear", "d" * 64, CERTIFIED, {}, NOON)
        registry.promote("triage", 1, "ada", "by hand", NOON)
        told._note_events(registry, 100)
        registry.raise_doubt(Doubt("triage", 1, NOON, ("scores",), 12, "steward", "scores moved"))
        told._note_events(registry, 150)
        raised = replace(CERTIFIED, threshold=0.6)
        registry.recertify(Recertified("triage", 1, NOON, 0.42, raised, 1, 12, "steward", "threshold raised"))
        told._note_events(registry, 1_200)
    events = [(event.at, event.what, event.version) for event in told.result.events]
    assert events[1:] == [(150, "doubted", 1), (1_200, "certified anew", 1), (1_200, "doubt ended", 1)]
    assert {what for _, what, _ in events[1:]} <= NEWS
    report = LifecycleReport(SimpleNamespace(), told.result)
    (doubt,) = report._stretches("doubted", "doubt ended")
    assert (doubt["from"], doubt["to"], doubt["ended"]) == (150, 1_200, "threshold raised")
