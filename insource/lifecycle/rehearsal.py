"""Rehearsing the whole lifecycle on a log: the gateway's stack, the steward and the learner, by the log's own clock.

Nothing here decides: the stack is the one that serves, the steward the one that watches it, over a registry in a
folder that is gone afterwards. It prints nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from insource.cascade.builder import Active, Trial, build_task
from insource.cascade.choice import Choice, Chooser
from insource.cascade.coin import Coin
from insource.errors import DataError
from insource.lifecycle.reading import Artifacts, Reading
from insource.lifecycle.rehearsal_learning import Made, RehearsalSchool, Teach, as_they_are
from insource.lifecycle.rehearsal_ledger import LogClock, RecordedUpstream, RehearsalLedger
from insource.lifecycle.rollout import MAKES_WAY
from insource.lifecycle.steward import Steward
from insource.lifecycle.stream import Stream
from insource.store.artifacts import ArtifactStore
from insource.store.registry import Registry
from insource.training.families import Material
from insource.types import Mode, Move, Outcome, Reason, SpecialistVersion, Task

BATCH = 50
"""Requests after which the steward looks at the latest; a verdict takes effect on the next ones."""
LOOK = 200
"""Requests after which the learner looks whether training is worth it."""
WORDS = {
    "suspend": "suspended", "resume": "resumed", "doubt": "doubted", "re-certify": "certified anew",
    "end doubt": "doubt ended",
}  # fmt: skip
"""Acts that are no moves, and what they make of the task."""
MADE_WAY = "made way"
"""What became of a trial that was retired for a candidate which certifies much more."""
DEADLINE_MS = 60_000.0
"""No deadline is kept: the machine that rehearses is not the one that serves, and may be busy with other things."""


@dataclass(frozen=True, slots=True)
class RehearsalPlan:
    """What to rehearse; `warmup` counts the requests before the first version is trained."""

    task: Task
    family: str
    seed: int
    warmup: int
    new_answers: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a version or the task before request `at`; `what` is a stage or one of these words.

    "trained", "made way", "not learned", "suspended", "resumed", "doubted", "certified anew", "doubt ended"; `version`
    is None where it is about the task.
    """

    at: int
    time: datetime
    what: str
    version: int | None = None
    before: str | None = None
    share: float = 0.0
    why: str = ""


@dataclass(slots=True)
class Rehearsed:
    """What became of each request; arrays (n,) in the stream's order.

    `version` is the one that was asked last (0: none), `active` the one that was active (0: none), `calls` how often
    the upstream was asked.
    """

    accepted: NDArray[np.bool_]
    audited: NDArray[np.bool_]
    wrong: NDArray[np.bool_]
    version: NDArray[np.intp]
    active: NDArray[np.intp]
    calls: NDArray[np.intp]
    scores: NDArray[np.float64]
    served: list[str | None]
    reasons: list[Reason]
    events: list[Event] = field(default_factory=list)
    versions: tuple[SpecialistVersion, ...] = ()
    made: dict[int, Made] = field(default_factory=dict)


class Rehearsal:
    """One pass over a stream; `clock` tells the log's time, `advance` hears of requests done and in all."""

    def __init__(
        self,
        stream: Stream,
        clock: LogClock,
        material: Material,
        plan: RehearsalPlan,
        coin: Coin,
        advance: Callable[[int, int], None],
        teach: Teach = as_they_are,
    ) -> None:
        self._stream, self._clock, self._material, self._plan = stream, clock, material, plan
        self._coin, self._advance, self._teach = coin, advance, teach
        self._task = replace(plan.task, mode=Mode.AUTO, content="full", deadline_ms=DEADLINE_MS)
        self._ledger = RehearsalLedger(clock)
        self._upstream = RecordedUpstream(stream, self._ledger)
        self._moves = self._acts = 0
        self._refused = False
        n = len(stream)
        self.result = Rehearsed(
            accepted=np.zeros(n, np.bool_),
            audited=np.zeros(n, np.bool_),
            wrong=np.zeros(n, np.bool_),
            version=np.zeros(n, np.intp),
            active=np.zeros(n, np.intp),
            calls=np.zeros(n, np.intp),
            scores=np.full(n, np.nan),
            served=[None] * n,
            reasons=[Reason.NO_SPECIALIST] * n,
        )

    async def run(self) -> Rehearsed:
        """Go through the stream once."""
        name = self._task.name
        with TemporaryDirectory(prefix="insource-backtest-") as folder, Registry.open(Path(folder)) as registry:
            store = ArtifactStore(Path(folder))
            artifacts = Artifacts(store)
            steward = Steward(
                lambda: {name: self._task},
                registry,
                Reading(self._ledger, artifacts),
                unservable=artifacts.unservable,
                now=self._clock.now,
            )
            school = self._school(registry, store)
            looked = self._plan.warmup
            for start, stop in _batches(len(self._stream), self._plan.warmup):
                await self._serve(registry, school, start, stop)
                _settle(steward)
                self._note_events(registry, stop)
                if stop >= looked:
                    looked = stop + LOOK
                    self._learn(school, stop)
                    _settle(steward)
                    self._note_events(registry, stop)
                self._advance(stop, len(self._stream))
            self.result.versions = registry.versions(name)
            self.result.made = school.made
        return self.result

    def _school(self, registry: Registry, store: ArtifactStore) -> RehearsalSchool:
        plan = self._plan
        return RehearsalSchool(
            self._stream,
            self._material,
            self._task,
            plan.family,
            registry=registry,
            artifacts=store,
            now=self._clock.now,
            seed=plan.seed,
            new_answers=plan.new_answers,
            teach=self._teach,
        )

    async def _serve(self, registry: Registry, school: RehearsalSchool, start: int, stop: int) -> None:
        """Serve a batch by what stands in the registry; leaving the stack waits for its audits."""
        active = registry.active(self._task.name)
        requests = self._stream.requests[start:stop]
        self._clock.row = stop - 1
        async with self._stack(registry, school, active) as chooser:
            choices = await chooser.decide_many(requests)
            for row, (request, choice) in enumerate(zip(requests, choices, strict=True), start):
                version = choice.decision.version
                space = school.opened[version].answers if version is not None else None
                self._ledger.decided(choice, self._stream.texts[row], space)
                self.result.served[row] = (await chooser.reply(request, choice)).content
        for row, choice in enumerate(choices, start):
            self._note(row, choice, school)
        self.result.active[start:stop] = active.version if active else 0

    def _stack(self, registry: Registry, school: RehearsalSchool, active: SpecialistVersion | None) -> Chooser:
        trial = registry.trial(self._task.name)
        return build_task(
            self._task,
            active=Active(**school.parts(active)) if active else None,
            trial=Trial(**school.parts(trial)) if trial else None,
            suspended=registry.suspension(self._task.name) is not None,
            doubted=registry.doubt(self._task.name) is not None,
            upstream=self._upstream,
            permits=lambda _: True,
            record=self._ledger.record,
            coin=self._coin,
            clock=self._clock.now,
        )

    def _note(self, row: int, choice: Choice, school: RehearsalSchool) -> None:
        result, decision = self.result, choice.decision
        result.reasons[row] = decision.reason
        result.accepted[row] = decision.outcome is Outcome.ACCEPTED
        result.audited[row] = decision.audited
        result.version[row] = decision.version or 0
        result.calls[row] = self._upstream.calls[decision.request_id]
        if choice.scored is not None:
            result.scores[row] = choice.scored.score
        if result.accepted[row] and choice.scored is not None and decision.version is not None:
            space = school.opened[decision.version].answers
            result.wrong[row] = space.normalise(self._stream.references[row]) != choice.scored.label

    def _learn(self, school: RehearsalSchool, at: int) -> None:
        try:
            version = school.learn(self._ledger.lessons)
        except DataError as error:
            if not self._refused:  # once, however often it is tried in vain
                self.result.events.append(Event(at, self._clock.now(), "not learned", why=str(error)))
            self._refused = True
            return
        if version is not None:
            self._refused = False
            made = school.made[version.version]
            self.result.events.append(Event(at, self._clock.now(), "trained", version.version, why=made.why))

    def _note_events(self, registry: Registry, at: int) -> None:
        """Put the moves, suspensions and doubts that are new since the last batch beside the requests."""
        moves = registry.moves(self._task.name, after=self._moves)
        self._moves += len(moves)
        self.result.events += [_moved(at, move) for move in moves]
        acts = registry.acts()
        self.result.events += [
            Event(at, act.time, WORDS[act.what], _version_in(act.subject), why=act.detail or "")
            for act in acts[self._acts :]
            if act.what in WORDS
        ]
        self._acts = len(acts)


def _batches(requests: int, warmup: int) -> list[tuple[int, int]]:
    """Return from where to where the steward waits; the shadow period ends with a batch."""
    edges = sorted({*range(0, warmup, BATCH), *range(warmup, requests, BATCH), requests})
    return list(zip(edges, edges[1:], strict=False))


def _settle(steward: Steward) -> None:
    """Turn until nothing new is found: between two requests the steward has all the time it needs."""
    while steward.turn():
        pass


def _version_in(subject: str | None) -> int | None:
    """Return the version that an act is about, None where it is about the task."""
    number = (subject or "").rpartition("@")[2] if "@" in (subject or "") else ""
    return int(number) if number else None


def _moved(at: int, move: Move) -> Event:
    what = MADE_WAY if (move.why or "").startswith(MAKES_WAY) else move.stage.value
    return Event(at, move.time, what, move.version, move.before.value, move.share, move.why)
