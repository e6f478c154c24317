"""A task's stack from doubles: an active version, a trial beside it, and what both were found to say."""

from dataclasses import replace
from datetime import UTC, datetime

from insource.backends.scripted import Scripted
from insource.cascade.builder import Active, Trial, build_task
from insource.types import Calibration, Message, Request, SpecialistVersion, Stage, Task

NOW = datetime(2026, 1, 2, tzinfo=UTC)
CALIBRATION = Calibration("band", 0.05, 0.95, 100, 0.5, 0.5, 50, 0, 0.04, 0.9)
TASK = Task("triage", audit_rate=0.5, deadline_ms=60_000)
REFERENCES = {"sure": "yes", "wrong": "no", "unsure": "no"}
OLD, NEW = {"sure": "yes", "wrong": "yes", "unsure": "no"}, {"sure": "no", "wrong": "no", "unsure": "no"}
SCORES = {"sure": 0.9, "wrong": 0.8, "unsure": 0.1}


def ask(text, id="r1", **more):
    return Request(id, (Message("user", text),), **more)


def scored(answers, name="specialist"):
    return Scripted(answers, score=lambda request, _: SCORES[request.messages[0].content], name=name)


def version(number, stage=Stage.ACTIVE, share=0.0, calibration=CALIBRATION):
    return SpecialistVersion("triage", number, "linear", f"d{number}", stage, NOW, calibration, share=share)


def normalise(raw):
    return raw if raw in ("yes", "no") else None


def trial(stage=Stage.SHADOW, share=0.0, specialist=None, calibration=CALIBRATION):
    return Trial(version(2, stage, share, calibration), specialist or scored(NEW, "new"), normalise)


def stack(upstream, findings, *, active=True, tried=None, task=TASK, calibration=CALIBRATION, **more):
    async def record(finding):
        findings.append(finding)

    old = Active(version(1, calibration=calibration), scored(OLD, "old"), normalise) if active else None
    more = {"clock": lambda: NOW, "permits": lambda _: True, "coin": lambda _: 0.0, "record": record, **more}
    return build_task(task, active=old, trial=tried, upstream=upstream, **more)


def told(findings):
    """Which version was found to do what, by request: accepted, accepts, agrees, stage."""
    found = {}
    for audit in (finding.audit for finding in findings):
        found[audit.request_id, audit.version] = (audit.accepted, audit.accepts, audit.agrees, audit.stage)
    return found


def uncertified():
    return replace(CALIBRATION, threshold=None, coverage=0.0)
