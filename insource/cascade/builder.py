"""Nests the serving stack of one task: `audit_sample(cascade(specialist, tiers in the house, upstream), reference)`.

It opens nothing and reads no configuration; whoever serves hands it the parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from insource.backends.contract import Backend
from insource.backends.house_tier import behind
from insource.cascade.audit_sample import AuditSample, Normalise, Record
from insource.cascade.cascade import Cascade, Clock, Pacer, Permits, utc_now
from insource.cascade.choice import Chooser
from insource.cascade.coin import Coin, coin_rate
from insource.cascade.refusal import Refusal
from insource.cascade.tier import Tier
from insource.types import SpecialistVersion, Task

TIER_SECONDS = 30.0
"""How long a tier in the house may take where its upstream's `deadline_s` says nothing else."""


@dataclass(frozen=True, slots=True)
class Active:
    """A task's active version with the backend opened for it, or why it could not be opened."""

    version: SpecialistVersion
    specialist: Backend | None
    normalise: Normalise
    refused: Refusal | None = None


@dataclass(frozen=True, slots=True)
class ActiveTier:
    """A tier in the house: the upstream's name and the active version of "TASK/NAME"; `deadline` is in seconds."""

    name: str
    active: Active
    deadline: float = TIER_SECONDS


def build_task(
    task: Task,
    *,
    active: Active | None,
    tiers: Sequence[ActiveTier] = (),
    upstream: Backend | None,
    permits: Permits,
    record: Record,
    coin: Coin,
    pacer: Pacer | None = None,
    clock: Clock = utc_now,
) -> Chooser:
    """Return what answers the task's requests; without an active version and tiers that stand everything goes up.

    The coin's rate follows from the coverage that specialist and tiers certified together: see `coin_rate`.
    """
    standing = standing_tiers(active.version if active else None, tiers)
    places = [_tier(active, task.deadline_ms / 1000)] if active else []
    places += [_tier(tier.active, tier.deadline, tier.name) for tier in standing]
    cascade = Cascade(task, tiers=places, upstream=upstream, permits=permits, pacer=pacer, clock=clock)
    versions = [active.version] if active else []
    return AuditSample(
        cascade,
        reference=upstream,
        permits=permits,
        normalise=active.normalise if active else lambda _: None,
        normalise_tiers={tier.name: tier.active.normalise for tier in standing},
        record=record,
        coin=coin,
        rate=coin_rate(task.audit_rate, _coverage([*versions, *(tier.active.version for tier in standing)])),
        safe=next(iter(task.moderation_safe), None),
        clock=clock,
    )


def standing_tiers(specialist: SpecialistVersion | None, tiers: Sequence[ActiveTier]) -> list[ActiveTier]:
    """Return the tiers that may be asked: those certified behind just what stands before them now.

    A tier's certificate is about the requests that the versions before it escalate; behind another version, or the
    same one with another threshold, it says nothing, and the tier is left out until it is certified anew.
    """
    before = behind([specialist] if specialist else [])
    standing = []
    for tier in tiers:
        version = tier.active.version
        if version.lineage.get("behind") == before and _threshold(version) is not None:
            standing.append(tier)
            before += behind([version])
    return standing


def _tier(active: Active, deadline: float, name: str | None = None) -> Tier:
    version = active.version
    threshold = _threshold(version)
    return Tier(active.specialist, threshold, version.version, version.digest, name, active.refused, deadline)


def _threshold(version: SpecialistVersion) -> float | None:
    return version.calibration.threshold if version.calibration else None


def _coverage(versions: Sequence[SpecialistVersion]) -> float:
    """Return the certified share that all of them accept together; each one's own is of what is left to it."""
    left = 1.0
    for version in versions:
        if version.calibration is not None and version.calibration.threshold is not None:
            left *= 1.0 - version.calibration.coverage
    return 1.0 - left
