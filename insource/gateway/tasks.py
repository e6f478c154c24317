"""`GET /v1/insource/tasks`: how each task stands in its rollout, by the registry alone.

It reads and renders; it knows no ledger, so that of the figures only those of drift are here, as the steward kept them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from insource.gateway.parts import Registry
from insource.store.doubts import KeptWatch
from insource.store.recertifications import Recertified
from insource.types import SpecialistVersion, Task


def told_task(registry: Registry, task: Task, now: datetime) -> dict[str, Any]:
    """Return how a task stands, as JSON; called in a thread. Raises StoreError."""
    versions = registry.versions(task.name)
    active, trial = registry.active(task.name), registry.trial(task.name)
    suspension, proposal = registry.suspension(task.name), registry.proposal(task.name)
    doubt, kept = registry.doubt(task.name), registry.kept_watch(task.name)
    raised = registry.recertified(task.name, active.version) if active is not None else None
    ahead = trial or active or (versions[-1] if versions else None)
    return {
        "name": task.name,
        "object": "insource.task",
        "mode": task.mode,
        "stage": ahead.stage if ahead is not None else None,
        "active": active.version if active is not None else None,
        "trial": trial.version if trial is not None else None,
        "share": trial.share if trial is not None else 0.0,
        "suspension": None
        if suspension is None
        else {"since": suspension.time.isoformat(), "who": suspension.who, "why": suspension.why},
        "doubt": None
        if doubt is None
        else {
            "version": doubt.version,
            "since": doubt.time.isoformat(),
            "kinds": list(doubt.kinds),
            "row": doubt.row,
            "who": doubt.who,
            "why": doubt.why,
        },
        "recertified": None if raised is None else _told_raised(raised),
        "drift": _told_drift(kept, active),
        "proposal": None
        if proposal is None
        else {
            "version": proposal.version,
            "from": proposal.before,
            "to": proposal.to,
            "share": proposal.share,
            "why": list(proposal.why),
            "since": proposal.time.isoformat(),
        },
        "labels": {"today": registry.labels_taken(task.name, now), "per_day": task.labels_per_day},
        "versions": [_told_version(version) for version in versions],
    }


def _told_drift(kept: KeptWatch | None, active: SpecialistVersion | None) -> dict[str, Any] | None:
    """Return what the steward kept of the active version, and of when it is."""
    if kept is None or active is None or kept.told.get("version") != active.version:
        return None
    return {"row": kept.row, "at": kept.time.isoformat(), **kept.told}


def _told_raised(raised: Recertified) -> dict[str, Any]:
    """Return how the active version was certified anew, after the doubt that raised its threshold."""
    return {
        "version": raised.version,
        "since": raised.time.isoformat(),
        "before": raised.before,
        "threshold": raised.calibration.threshold,
        "audits": raised.calibration.rows,
        "coverage": raised.calibration.coverage,
        "row": raised.since,
        "who": raised.who,
        "why": raised.why,
    }


def _told_version(version: SpecialistVersion) -> dict[str, Any]:
    calibration = version.calibration
    return {
        "version": version.version,
        "stage": version.stage,
        "share": version.share,
        "family": version.family,
        "digest": version.digest,
        "created": version.created.isoformat(),
        "threshold": calibration.threshold if calibration is not None else None,
        "coverage": calibration.coverage if calibration is not None else None,
        "risk_upper_bound": calibration.risk_upper_bound if calibration is not None else None,
    }
