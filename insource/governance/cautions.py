"""What a reader must know before trusting a task's figures, in plain sentences with what to do.

It judges the figures that are there; it fetches none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from insource.governance.figures import Caution, TaskFigures, Verdict, VersionFigures
from insource.governance.wording import count, percent
from insource.types import Reason


def cautions_of(task: TaskFigures, refused: Mapping[str, int]) -> TaskFigures:
    """Return the task with its cautions, gravest first; `refused` counts refused artifacts by NAME@V."""
    found = [*_risk(task), *_damage(task, refused), *_evidence(task), *_promise(task), *_rows(task)]
    return replace(task, cautions=tuple(found))


def verdict_of(task: TaskFigures) -> Verdict:
    """Return what the audits of the active version say: held or broken only where the whole interval says so."""
    active = task.active
    if active is None:
        return Verdict.NOT_SERVING
    if active.audits.risk is None:
        return Verdict.UNCHECKED
    target = _promised(active, task)
    if bound_crossed(active, target):
        return Verdict.BROKEN
    return Verdict.HELD if active.audits.risk.high <= target else Verdict.UNDECIDED


def bound_crossed(version: VersionFigures, target_risk: float) -> bool:
    """Say whether audits show a risk over the promise: the interval of the risk realised lies above it entirely."""
    risk = version.audits.risk
    return risk is not None and risk.low > target_risk


def _promised(version: VersionFigures, task: TaskFigures) -> float:
    return task.target_risk if version.target_risk is None else version.target_risk


def _risk(task: TaskFigures) -> Iterator[Caution]:
    for version in task.versions:
        target = _promised(version, task)
        risk = version.audits.risk
        if risk is not None and bound_crossed(version, target):
            todo = "Train and certify it anew" if version.stage == "active" else "It no longer serves"
            yield Caution(
                "bound_crossed",
                f"{version.name} breaks its promise: {count(risk.count)} of {count(risk.of)} audited accepted answers "
                f"differ from the reference ({percent(risk.value)}, at least {percent(risk.low)}); at most "
                f"{percent(target)} was promised. {todo}.",
            )


def _damage(task: TaskFigures, refused: Mapping[str, int]) -> Iterator[Caution]:
    damaged = task.reasons.get(Reason.ARTIFACT_DAMAGED, 0)
    names = [version.name for version in task.versions if refused.get(version.name)]
    if damaged or names:
        which = ", ".join(names) or "The artifact"
        yield Caution(
            "artifact_damaged",
            f"{which} could not be opened as promoted; {count(damaged)} requests went upstream for it. Restore its "
            "folder from a backup, or train the version again.",
        )
    failed = task.reasons.get(Reason.SPECIALIST_FAILED, 0) + task.reasons.get(Reason.SPECIALIST_SLOW, 0)
    if failed:
        yield Caution(
            "specialist_failed",
            f"The specialist failed or was too slow for {count(failed)} requests, which went upstream. "
            "`insource explain REQUEST_ID` tells why for one of them.",
        )


def _evidence(task: TaskFigures) -> Iterator[Caution]:
    audits = task.audits
    if task.accepted and not audits.compared:
        if task.audit_rate > 0:
            todo = f"The audit coin picks {percent(task.audit_rate)} of the requests; wait for more."
        else:
            todo = "Its audit_rate is 0, so nothing will ever check it: set one."
        yield Caution(
            "no_audits",
            f"None of the {count(task.accepted)} accepted answers has been compared with a reference yet: the risk "
            f"realised is unknown, and only the certificate speaks for it. {todo}",
        )
    if missing := audits.audited - audits.compared:
        yield Caution(
            "audits_without_reference",
            f"{count(missing)} audited answers got no reference (the upstream failed, or gave an answer outside the "
            "closed set) and are not in the risk realised.",
        )


def _promise(task: TaskFigures) -> Iterator[Caution]:
    active = task.active
    if active is None:
        return
    if active.threshold is None:
        yield Caution(
            "nothing_certified",
            f"{active.name} has no admissible threshold, so it accepts nothing and every request goes upstream. "
            "Collect more references, or choose another target_risk.",
        )
    elif (active.target_risk or 0) > task.target_risk or (active.confidence_level or 1) < task.confidence_level:
        yield Caution(
            "promise_changed",
            f"{active.name} was certified for {percent(active.target_risk)} at confidence {active.confidence_level}, "
            f"but the task promises {percent(task.target_risk)} at {task.confidence_level} now. Train it again.",
        )
    for note in active.notes:
        yield Caution("calibration_note", f"{active.name}: {note}")


def _rows(task: TaskFigures) -> Iterator[Caution]:
    if task.aborted:
        yield Caution(
            "aborted",
            f"{count(task.aborted)} decisions were never settled before the gateway ended: whether their replies "
            "arrived is not known, and their cost is missing here.",
        )
    if not task.configured:
        yield Caution(
            "not_configured",
            "The task is in no insource.toml here, so defaults are shown for its promise.",
        )
