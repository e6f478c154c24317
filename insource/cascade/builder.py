"""Nests the serving stack of one task: `audit_sample(shadow(canary(cascade(active), cascade(trial))))`.

A cascade is of a specialist, tiers in the house and the upstream. It opens nothing and reads no configuration; whoever
serves hands it the parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from insource.backends.contract import Backend
from insource.backends.house_tier import behind
from insource.cascade.audit_sample import AuditSample, Known, Normalise, Record
from insource.cascade.bought_label import BoughtLabels, Reserve
from insource.cascade.canary import Canary, subject_key
from insource.cascade.cascade import Cascade, Clock, Pacer, Permits, utc_now
from insource.cascade.choice import Chooser
from insource.cascade.coin import Coin, coin_rate
from insource.cascade.refusal import Refusal
from insource.cascade.shadow import Beside, Dropped, Shadow
from insource.cascade.tier import Number, Tier
from insource.types import SpecialistVersion, Stage, Task

TIER_SECONDS = 30.0
"""How long a tier in the house may take where its upstream's `deadline_s` says nothing else."""


@dataclass(frozen=True, slots=True)
class Active:
    """A task's active version with the backend opened for it, or why it could not be opened.

    `number` gives the number of a label that `normalise` gave; `find` the label of what a person writes.
    """

    version: SpecialistVersion
    specialist: Backend | None
    normalise: Normalise
    refused: Refusal | None = None
    number: Number | None = None
    find: Normalise | None = None


@dataclass(frozen=True, slots=True)
class Trial(Active):
    """The version that is tried beside the active one, in shadow or in canary."""

    @property
    def share(self) -> float:
        """The share of the requests that it decides; 0 in shadow."""
        return self.version.share if self.version.stage is Stage.CANARY else 0.0


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
    trial: Trial | None = None,
    suspended: bool = False,
    doubted: bool = False,
    upstream: Backend | None,
    permits: Permits,
    record: Record,
    coin: Coin,
    pacer: Pacer | None = None,
    reserve: Reserve | None = None,
    workers: int = 1,
    dropped: Dropped = lambda number: None,
    clock: Clock = utc_now,
) -> Chooser:
    """Return what answers the task's requests; without an active version and tiers that stand everything goes up.

    A trial in canary decides its share of the requests, one in shadow none; of either, as of the active version beside
    it, it is found out what it would say wherever the reference is known. While `suspended` nothing is accepted. For
    the coin's rate see `coin_rate`; where everything goes up anyway an audit costs nothing, and it picks every request,
    as it does while the active version is `doubted`, in a task that is audited at all. Labels are bought where the task
    says how many a day, `reserve` counts them for all `workers`, and its texts are kept to learn from.
    """

    def cascade(specialist: Active | None, standing: Sequence[ActiveTier]) -> Cascade:
        places = [_tier(specialist, seconds, numbered=task.content == "full")] if specialist else []
        places += [_tier(tier.active, tier.deadline, tier.name) for tier in standing]
        return Cascade(
            task, tiers=places, upstream=upstream, permits=permits, pacer=pacer, suspended=suspended, clock=clock
        )

    free = upstream is not None and pacer is None
    seconds = task.deadline_ms / 1000
    standing = standing_tiers(active.version if active else None, tiers)
    known, coverage = _known([active], standing), _coverage(active, standing)
    deciding = [one for one in (active, *(tier.active for tier in standing)) if one is not None]
    chooser: Chooser = cascade(active, standing)
    if trial is not None:
        known |= _known([trial], [])
        owned = [trial.specialist] if trial.specialist is not None else []
        if trial.share:
            behind_it = standing_tiers(trial.version, tiers)
            salt, key, owned = trial.version.name, subject_key(task.messages), []
            chooser = Canary(chooser, cascade(trial, behind_it), share=trial.share, key=key, salt=salt)
            known |= _known([], behind_it)
            deciding.append(trial)
            coverage += trial.share * (_coverage(trial, behind_it) - coverage)
        beside = [
            Beside(_tier(one, seconds), one.normalise, one.version.version, one.version.stage)
            for one in (active, trial)
            if one is not None
        ]
        chooser = shadow = Shadow(chooser, beside, task=task, record=record, opens=owned, dropped=dropped, clock=clock)
        record = shadow.take
    buys = task.labels_per_day > 0 and reserve is not None and task.content == "full" and upstream is not None
    all_up = suspended or all(_threshold(one.version) is None for one in deciding)
    every = all_up or (doubted and task.audit_rate > 0.0)
    return AuditSample(
        chooser,
        reference=upstream,
        permits=permits,
        known=known,
        record=record,
        coin=coin,
        rate=1.0 if known and free and every else coin_rate(task.audit_rate, coverage),
        safe=next(iter(task.moderation_safe), None),
        labels=BoughtLabels(task.labels_per_day, reserve, workers=workers) if reserve is not None and buys else None,
        clock=clock,
    )


def _known(specialists: Sequence[Active | None], tiers: Sequence[ActiveTier]) -> dict[tuple[str | None, int], Known]:
    found: list[tuple[str | None, Active]] = [(None, one) for one in specialists if one is not None]
    found += [(tier.name, tier.active) for tier in tiers]
    return {(name, one.version.version): Known(one.normalise, one.version.stage) for name, one in found}


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


def _tier(active: Active, deadline: float, name: str | None = None, *, numbered: bool = False) -> Tier:
    """Return the place of a version; `numbered` where decisions may say which answer it gave, which is content."""
    version = active.version
    number = active.number if numbered else None
    threshold = _threshold(version)
    return Tier(active.specialist, threshold, version.version, version.digest, name, active.refused, deadline, number)


def _threshold(version: SpecialistVersion) -> float | None:
    return version.calibration.threshold if version.calibration else None


def _coverage(specialist: Active | None, tiers: Sequence[ActiveTier]) -> float:
    """Return the certified share that all of them accept together; each one's own is of what is left to it."""
    left = 1.0
    for one in ([specialist] if specialist else []) + [tier.active for tier in tiers]:
        calibration = one.version.calibration
        if calibration is not None and calibration.threshold is not None:
            left *= 1.0 - calibration.coverage
    return 1.0 - left
