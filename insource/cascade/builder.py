"""Nests the serving stack of one task: `audit_sample(cascade(specialist, upstream), reference)`.

It opens nothing and reads no configuration; whoever serves hands it the parts.
"""

from __future__ import annotations

from dataclasses import dataclass

from insource.backends.contract import Backend
from insource.cascade.audit_sample import AuditSample, Normalise, Record
from insource.cascade.cascade import Cascade, Clock, Pacer, utc_now
from insource.cascade.choice import Chooser
from insource.cascade.coin import Coin, coin_rate
from insource.cascade.refusal import Refusal
from insource.types import SpecialistVersion, Task


@dataclass(frozen=True, slots=True)
class Active:
    """A task's active version with the backend opened for it, or why it could not be opened."""

    version: SpecialistVersion
    specialist: Backend | None
    normalise: Normalise
    refused: Refusal | None = None


def build_task(
    task: Task,
    *,
    active: Active | None,
    upstream: Backend | None,
    upstream_model: str | None,
    record: Record,
    coin: Coin,
    pacer: Pacer | None = None,
    clock: Clock = utc_now,
) -> Chooser:
    """Return what answers the task's requests; without an active version everything goes up.

    The coin's rate follows from the coverage that the active version certified: see `coin_rate`.
    """
    calibration = active.version.calibration if active else None
    cascade = Cascade(
        task,
        specialist=active.specialist if active else None,
        threshold=calibration.threshold if calibration else None,
        version=active.version.version if active else None,
        digest=active.version.digest if active else None,
        upstream=upstream,
        upstream_model=upstream_model,
        deadline=task.deadline_ms / 1000,
        pacer=pacer,
        refused=active.refused if active else None,
        clock=clock,
    )
    certified = calibration is not None and calibration.threshold is not None
    coverage = calibration.coverage if calibration is not None and certified else 0.0
    return AuditSample(
        cascade,
        reference=upstream,
        normalise=active.normalise if active else lambda _: None,
        record=record,
        coin=coin,
        rate=coin_rate(task.audit_rate, coverage),
        upstream_model=upstream_model,
        clock=clock,
    )


def upstream_model_of(task: Task, default: str | None) -> str | None:
    """Return what to send upstream for "task:NAME": the task's own, else the upstream's, else a model it matches."""
    return task.upstream_model or default or next(iter(task.match.models), None)
