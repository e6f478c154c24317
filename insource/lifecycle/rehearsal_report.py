"""A rehearsal in figures: those of a backtest, and each version's stages, suspensions, rollbacks and the timeline.

It counts what became of the requests; how to draw or print it is the command's business.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from typing import Any

import numpy as np

from insource.cascade.coin import hash_coin
from insource.errors import DataError, UserError
from insource.lifecycle.backtest import Options, Report
from insource.lifecycle.rehearsal import MADE_WAY, Event, Rehearsal, RehearsalPlan, Rehearsed
from insource.lifecycle.rehearsal_learning import Teach, as_they_are
from insource.lifecycle.rehearsal_ledger import LogClock
from insource.lifecycle.replayed import Replayed
from insource.lifecycle.schedule import default_warmup
from insource.lifecycle.stream import Stream, cost_of, to_stream
from insource.training.families import Material, check_family
from insource.training.snapshot import inputs_of
from insource.training.trunks import Say, TrunkRoom
from insource.types import Example, SpecialistVersion, Stage, Task

WINDOWS = 60
"""Windows of the timeline at most."""
FEWEST = 50
"""Requests in a window at least; of fewer, a share says little."""
TRIED = (Stage.SHADOW.value, Stage.CANARY.value)
PLACES = frozenset({"trained", MADE_WAY, *(stage.value for stage in Stage)})
"""Events that say where a version stands."""


@dataclass(frozen=True, slots=True)
class LifecycleReport:
    """The figures of a rehearsal; `to_json` gives the stable form that the reference documents."""

    figures: Report
    rehearsed: Rehearsed

    def to_json(self) -> dict[str, Any]:
        """Return what `backtest --lifecycle --json` writes: a backtest's figures, and what became of versions."""
        return self.figures.to_json() | {
            "lifecycle": True,
            "versions": [self._version(version) for version in self.rehearsed.versions],
            "suspensions": self._stretches("suspended", "resumed"),
            "doubts": self._stretches("doubted", "doubt ended"),
            "rollbacks": [asdict(event) for event in self._events if rolled_back(event)],
            "events": [asdict(event) for event in self._events],
            "timeline": self._timeline(),
        }

    @property
    def _events(self) -> list[Event]:
        return self.rehearsed.events

    def _version(self, version: SpecialistVersion) -> dict[str, Any]:
        own = [event for event in self._events if event.version == version.version and event.what in PLACES]
        answered = self.rehearsed.accepted & (self.rehearsed.version == version.version)
        made, found = self.rehearsed.made[version.version], version.calibration
        assert found is not None
        return {
            "version": version.version,
            "at": own[0].at,
            "family": version.family,
            "digest": version.digest,
            "threshold": found.threshold,
            "certified_coverage": found.coverage,
            "certified_risk": found.risk_upper_bound,
            "accuracy": made.accuracy,
            "evidence": made.evidence,
            "also": made.also,
            "took_over": any(event.what == Stage.ACTIVE for event in own),
            "accepted": int(answered.sum()),
            "wrong": int((answered & self.rehearsed.wrong).sum()),
            "stages": self._stages(own),
            "why": made.why,
            "notes": found.notes,
        }

    def _stages(self, events: Sequence[Event]) -> list[dict[str, Any]]:
        """Return where a version stood from which request to which, the end included; what took no request is left."""
        ends = [*(event.at for event in events[1:]), len(self.figures.stream)]
        return [
            {
                "from": event.at,
                "to": end,
                "stage": Stage.CANDIDATE.value if event.what == "trained" else event.what,
                "share": event.share,
                "why": "" if event.what == "trained" else event.why,
            }
            for event, end in zip(events, ends, strict=True)
        ]

    def _stretches(self, began: str, ended: str) -> list[dict[str, Any]]:
        """Return from where to where the task was in a state; one that another one replaced ends there."""
        found: list[dict[str, Any]] = []
        for event in self._events:
            if event.what in (began, ended) and found and found[-1]["to"] is None:
                found[-1] |= {"to": event.at, "ended": event.why}
            if event.what == began:
                told = {"version": event.version, "why": event.why, "to": None, "ended": None}
                found.append({"from": event.at, "time": event.time, **told})
        return found

    def _timeline(self) -> list[dict[str, Any]]:
        n, result = len(self.figures.stream), self.rehearsed
        edges = np.linspace(0, n, max(1, min(WINDOWS, n // FEWEST)) + 1).astype(int).tolist()
        spent = self._spent()
        bounds = {each.version: each.calibration.risk_upper_bound for each in result.versions if each.calibration}
        away = [(each["from"], each["to"] or n) for each in self._stretches("suspended", "resumed")]
        windows = []
        for start, stop in zip(edges, edges[1:], strict=False):
            accepted = result.accepted[start:stop]
            kept, wrong = int(accepted.sum()), int((accepted & result.wrong[start:stop]).sum())
            active = int(result.active[stop - 1]) or None
            suspended = any(begun < stop <= ended for begun, ended in away)
            windows.append(
                {
                    "from": start,
                    "to": stop,
                    "coverage": kept / (stop - start),
                    "risk": wrong / kept if kept else None,
                    "accepted": kept,
                    "wrong": wrong,
                    "audited": int(result.audited[start:stop].sum()),
                    "upstream_calls": int(result.calls[:stop].sum()),
                    "active": active,
                    "certified_risk": bounds.get(active) if active and not suspended else None,
                    "cost": None if spent is None else str(spent[0][stop]),
                    "cost_upstream_only": None if spent is None else str(spent[1][stop]),
                }
            )
        return windows

    def _spent(self) -> tuple[list[Decimal], list[Decimal]] | None:
        """Return the money spent before each request and after the last, with insource and without; None unpriced."""
        prices = self.figures.options.prices
        if prices.price_in is None or prices.price_out is None:
            return None
        here, without = [Decimal(0)], [Decimal(0)]
        for usage, calls in zip(self.figures.stream.usages, self.rehearsed.calls.tolist(), strict=True):
            cost = cost_of(usage, prices.price_in, prices.price_out)
            without.append(without[-1] + cost)
            here.append(here[-1] + cost * calls)
        return here, without


def rolled_back(event: Event) -> bool:
    """Say whether a trial was taken back."""
    return event.what == Stage.RETIRED and event.before in TRIED


async def rehearse(
    examples: Sequence[Example],
    task: Task,
    options: Options,
    *,
    room: TrunkRoom | None,
    say: Say,
    skipped: int = 0,
    new_answers: bool = False,
    teach: Teach = as_they_are,
) -> LifecycleReport:
    """Take the examples in their order through the whole lifecycle; `room` as in `backtest`.

    `new_answers` learns answers that turn up later, as a person may allow. `teach` stands between lessons and training
    (for tests: what a version learns that is not so). Raises as `backtest`, and UserError where a budget is given.
    """
    started = time.perf_counter()
    check_family(options.family)
    if options.budget is not None:
        raise UserError(
            "A lifecycle keeps a promise, and a budget stands instead of one; drop --budget or --lifecycle."
        )
    stream = to_stream(examples, inputs_of(task))
    warmup = _warmup(options, task, stream)
    material = Material(stream.texts, lambda: _given(room), say, options.base)
    plan = RehearsalPlan(task, options.family, options.seed, warmup, new_answers)
    clock = LogClock(stream.requests, examples)
    rehearsal = Rehearsal(stream, clock, material, plan, hash_coin(options.seed), say("lifecycle"), teach)
    found = await rehearsal.run()
    options = replace(options, warmup=warmup)
    seconds = time.perf_counter() - started
    return LifecycleReport(Report(task, stream, _replayed(found), options, warmup, skipped, seconds), found)


def _replayed(found: Rehearsed) -> Replayed:
    """Return what a backtest's figures are counted from."""
    nothing = np.zeros(len(found.accepted), np.bool_)
    return Replayed(found.accepted, nothing, found.audited, found.wrong, found.served, found.scores, found.reasons)


def _warmup(options: Options, task: Task, stream: Stream) -> int:
    warmup = options.warmup if options.warmup is not None else default_warmup(task.target_risk)
    if len(stream) <= warmup:
        raise DataError(
            f"The task has {len(stream):,} requests with text and reference; more than {warmup:,} were expected, since "
            "the first version is trained from so many. Bring more traffic, or set a shorter --warmup."
        )
    if len({request.id for request in stream.requests}) < len(stream):
        raise DataError("Several requests have the same id; ids that tell them apart were expected. Read one file.")
    return warmup


def _given(room: TrunkRoom | None) -> TrunkRoom:
    if room is None:
        raise UserError("This rehearsal was opened without encoders; --family linear was expected.")
    return room
