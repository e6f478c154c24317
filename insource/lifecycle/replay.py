"""Replaying a stream exactly as production would behave: shadow, train, certify, serve, audit, train again.

It decides with the cascade and learns only from references that production would have; it prints and stores nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insource.answers import AnswerSpace, learn_answers
from insource.backends.specialist import Specialist, open_specialist, write_specialist
from insource.cascade.builder import Active, build_task
from insource.cascade.choice import Choice
from insource.cascade.coin import Coin
from insource.cascade.pacing import Pacer
from insource.errors import DataError, UserError
from insource.lifecycle.neighbours import Agreement, Selection, views_of
from insource.lifecycle.replayed import Replayed, Version
from insource.lifecycle.schedule import GROWTH, segments, stands, takes_over
from insource.lifecycle.stream import Stream
from insource.store import manifest as manifests
from insource.training.develop import Developed, Promise, RowSet, develop, guards_of
from insource.training.families import Material
from insource.training.snapshot import inputs_of
from insource.training.splits import folds
from insource.training.students.heads import heads_of
from insource.types import Outcome, Reason, SpecialistVersion, Stage, Task

NEVER_SHOWN = np.intp(-1)

Advance = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How to replay: `budget` counts upstream calls in all, None for the promise alone; `warmup` counts requests."""

    task: Task
    family: str
    seed: int
    warmup: int
    budget: int | None = None
    growth: float = GROWTH


class Replay:
    """One pass over a stream."""

    def __init__(
        self,
        stream: Stream,
        material: Material,
        plan: Plan,
        coin: Coin,
        advance: Advance,
        select: Selection | None = None,
    ) -> None:
        self.stream, self._material, self._plan = stream, material, plan
        self.serving: Active | None = None
        self._coin, self._advance = coin, advance
        self._select: Selection = select or Agreement(lambda: views_of(material))
        n = len(stream)
        self._folds = folds(stream.groups, plan.seed)
        self.known = np.zeros(n, np.bool_)
        self._evidence = np.zeros(n, np.bool_)
        self._since = 0
        self._task = plan.task if plan.budget is None else replace(plan.task, audit_rate=0.0)  # a budget is not audited
        self._pacer = Pacer(plan.budget - plan.warmup, n - plan.warmup) if plan.budget is not None else None
        self.result = Replayed(
            accepted=np.zeros(n, np.bool_),
            spent=np.zeros(n, np.bool_),
            audited=np.zeros(n, np.bool_),
            wrong=np.zeros(n, np.bool_),
            served=[None] * n,
            scores=np.full(n, np.nan),
            reasons=[Reason.NO_SPECIALIST] * n,
        )

    async def run(self) -> Replayed:
        """Go through the stream once; then `serving` is the version that served last, `known` the referenced rows."""
        with TemporaryDirectory(prefix="insource-backtest-") as folder:
            for start, stop in segments(len(self.stream), self._plan.warmup, self._plan.growth):
                if start:
                    self.serving = self._next_version(self.serving, start, Path(folder) / str(start))
                await self._serve(self.serving, start, stop)
                self._advance(stop, len(self.stream))
        return self.result

    async def _serve(self, active: Active | None, start: int, stop: int) -> None:
        certified = active is not None and _threshold(active) is not None
        chooser = build_task(
            self._task,
            active=active if self._pacer is None else _unbounded(active),
            upstream=None,
            permits=lambda _: True,
            record=_record_nothing,
            coin=self._coin,
            pacer=self._pacer if active is not None else None,
            clock=lambda: datetime(1970, 1, 1, tzinfo=UTC),
        )
        async with chooser:
            requests = self.stream.requests[start:stop]
            if self._pacer is None:
                choices = await chooser.decide_many(requests)
            else:
                choices, sure = [], self._sure(active, np.arange(start, stop))
                for number, request in enumerate(requests):
                    if start:
                        self._pass(self._pacer, None if sure is None else float(sure[number]))
                    choices += await chooser.decide_many([request])
        for row, choice in enumerate(choices, start):
            self._note(row, choice, certified, active)

    def _sure(self, active: Active | None, rows: NDArray[np.intp]) -> NDArray[np.float64] | None:
        """Return how sure the version's answers are, as the selection sees it; None without a version."""
        if active is None or not isinstance(active.specialist, Specialist):
            return None
        return self._select(rows, active.specialist.probabilities([self.stream.texts[row] for row in rows]))

    def _pass(self, pacer: Pacer, sure: float | None) -> None:
        """Count a request after the shadow period, which the budget pays for where no version could answer it."""
        pacer.passed(sure=sure)
        if sure is not None:
            return
        if pacer.calls <= 0:
            raise UserError(
                f"The budget of {self._plan.budget} upstream calls was spent before the references made a task; a "
                "budget that lasts until a first version is trained was expected. Raise --budget."
            )
        pacer.calls -= 1

    def _note(self, row: int, choice: Choice, certified: bool, active: Active | None) -> None:
        result, decision = self.result, choice.decision
        kept = decision.outcome is Outcome.ACCEPTED
        result.reasons[row] = decision.reason
        result.spent[row] = decision.reason is Reason.BUDGET_SPENT
        result.accepted[row] = kept and not result.spent[row]
        result.audited[row] = decision.audited
        if choice.scored is not None:
            result.scores[row] = choice.scored.score
        if kept and choice.scored is not None and active is not None:
            result.served[row] = choice.scored.content
            result.wrong[row] = active.normalise(self.stream.references[row]) != choice.scored.label
        else:
            result.served[row] = self.stream.references[row]
        self.known[row] = not kept or decision.audited
        self._evidence[row] = self.known[row] and (decision.audited or (not certified and self._pacer is None))
        if self._pacer is not None and active is None:
            self._evidence[row] = True

    def _next_version(self, serving: Active | None, at: int, folder: Path) -> Active | None:
        """Learn from all references so far, and return what serves from here on.

        That is the version in service where the new one certifies less, or where the references make no task yet.
        """
        seen = np.flatnonzero(self.known[:at])
        try:
            space = learn_answers([self.stream.references[row] for row in seen])
        except DataError:
            return serving
        rows = self._rows(seen, space)
        if len(np.unique(rows.classes[rows.evidence])) < 2 or len(np.unique(rows.folds)) < 2:
            return serving
        task = self._plan.task
        promise = Promise(task.target_risk, task.confidence_level, guards_of(task, space), task.require)
        developed = develop(self._material, rows, promise, self._plan.family)
        better = serving is None or self._gives_way(serving, at, developed.calibration.coverage)
        tried = self._open(developed, space, at, len(rows.evidence), better, folder)
        if not better:
            return serving
        self._since = at
        if self._pacer is not None:
            self._select.fit(rows, developed.probabilities)
        return tried

    def _gives_way(self, serving: Active, at: int, found: float) -> bool:
        """Say whether the version in service makes room for one that certified `found`.

        Under a budget the newest always serves: it is asked about what it does not accept, too.
        """
        if self._pacer is not None:
            return True
        own = slice(self._since, at)
        audited = self.result.audited[own] & self.result.accepted[own]
        errors = int((audited & self.result.wrong[own]).sum())
        task = self._plan.task
        holds = stands(errors, int(audited.sum()), task.target_risk, task.confidence_level)
        return takes_over(found, _coverage(serving), stands=holds)

    def _rows(self, seen: NDArray[np.intp], space: AnswerSpace) -> RowSet:
        labels = space.normalise_all(self.stream.references[row] for row in seen)
        classes = np.full(len(self.stream), NEVER_SHOWN)
        classes[seen] = [NEVER_SHOWN if label is None else space.index(label) for label in labels]
        usable = seen[classes[seen] >= 0]
        evidence = usable[self._evidence[usable]]
        also = usable[~self._evidence[usable]]
        return RowSet(evidence, self._folds[evidence], also, classes, space.answers, heads_of(space))

    def _open(
        self, developed: Developed, space: AnswerSpace, at: int, evidence: int, took_over: bool, folder: Path
    ) -> Active:
        """Write the artifact as production would, and open it with the backend that would serve it."""
        folder.mkdir()
        task, inputs = self._plan.task, inputs_of(self._plan.task)
        manifest: dict[str, Any] = write_specialist(
            folder,
            task=task.name,
            family=developed.family,
            model=developed.student.to_artifact(folder),
            scorer=developed.scorer,
            answers=space,
            inputs=inputs,
            trunk=developed.trunk,
        )
        number, calibration = len(self.result.versions) + 1, developed.calibration
        digest = _digest(folder, manifest)
        specialist = open_specialist(
            folder, manifest, name=f"{task.name}@{number}", digest=digest, trunk=lambda _: self._material.embedder()
        )
        self.result.versions.append(
            Version(
                at=at,
                family=developed.family,
                digest=digest,
                threshold=calibration.threshold,
                certified_coverage=calibration.coverage,
                accuracy=developed.accuracy,
                evidence=evidence,
                took_over=took_over,
                why=developed.why,
                notes=calibration.notes,
            )
        )
        version = SpecialistVersion(
            task.name,
            number,
            developed.family,
            digest,
            Stage.ACTIVE,
            datetime(1970, 1, 1, tzinfo=UTC),
            calibration,
        )
        return Active(version, specialist, space.normalise)


def _threshold(active: Active) -> float | None:
    return active.version.calibration.threshold if active.version.calibration else None


def _unbounded(active: Active | None) -> Active | None:
    """Return the version without its threshold: a budget stands instead of a target, and every request competes."""
    return None if active is None else replace(active, version=replace(active.version, calibration=None))


def _coverage(active: Active) -> float:
    return active.version.calibration.coverage if active.version.calibration else 0.0


async def _record_nothing(finding: Any) -> None:
    """The stream holds every reference already."""


def _digest(folder: Path, manifest: Mapping[str, Any]) -> str:
    """Return the digest that the artifact store would give the version."""
    files = {
        path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
        for path in sorted(folder.iterdir())
    }
    return manifests.digest_of(manifests.encode({**manifest, "format": manifests.FORMAT, "files": files}))
