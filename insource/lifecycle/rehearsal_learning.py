"""Learning in a rehearsal: when a candidate is trained, from which lessons, and how it comes into the registry.

The rules are those of `lessons` and `learn`; the texts of the whole log are prepared once and shared by every version.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from insource.answers import AnswerSpace, learn_answers
from insource.backends.specialist import Specialist, open_specialist, write_specialist
from insource.errors import DataError
from insource.lifecycle.learn import check_form, evidence_begins, lacking_for, learned_to
from insource.lifecycle.lessons import Lesson, choose, outside
from insource.lifecycle.replay import NEVER_SHOWN
from insource.lifecycle.stream import Stream
from insource.store.artifacts import ArtifactStore
from insource.store.registry import Registry
from insource.training.develop import Developed, Promise, RowSet, develop_or_forget, guards_of
from insource.training.families import Material
from insource.training.snapshot import inputs_of
from insource.training.splits import folds
from insource.training.students.contract import Rows
from insource.training.students.heads import heads_of
from insource.types import SpecialistVersion, Task

Teach = Callable[[int, Sequence[Lesson]], Sequence[Lesson]]
"""Takes a version's number and the lessons that are to make it; returns those that do."""


def as_they_are(number: int, lessons: Sequence[Lesson]) -> Sequence[Lesson]:
    """Return the lessons."""
    return lessons


@dataclass(frozen=True, slots=True)
class Made:
    """What made a version: the family, why that one, its accuracy out of fold, and its lessons."""

    family: str
    why: str
    accuracy: float
    evidence: int
    also: int


class RehearsalSchool:
    """Trains the candidates of one stream; `made` says what made each, `opened` holds each open, by their numbers."""

    def __init__(
        self,
        stream: Stream,
        material: Material,
        task: Task,
        family: str,
        *,
        registry: Registry,
        artifacts: ArtifactStore,
        now: Callable[[], datetime],
        seed: int,
        new_answers: bool = False,
        teach: Teach = as_they_are,
    ) -> None:
        self._stream, self._material, self._task, self._family = stream, material, task, family
        self._registry, self._artifacts, self._now = registry, artifacts, now
        self._seed, self._new_answers, self._teach = seed, new_answers, teach
        self._rows = {request.id: row for row, request in enumerate(stream.requests)}
        self._folds = folds(stream.groups, seed)
        self.opened: dict[int, Specialist] = {}
        self._embedder: Any = None
        self.made: dict[int, Made] = {}

    def parts(self, version: SpecialistVersion) -> dict[str, Any]:
        """Return what `Active` and `Trial` take: the version as it stands in the registry now, and its backend."""
        specialist, space = self.opened[version.version], self.opened[version.version].answers
        return {"version": version, "specialist": specialist, "normalise": space.normalise, "number": space.index}

    def learn(self, lessons: Sequence[Lesson]) -> SpecialistVersion | None:
        """Train and register a candidate where that is worth it; None where too little is new.

        Raises DataError where the references make no task, or too many of them have another form than before.
        """
        task = self._task
        before = next(reversed(self._registry.versions(task.name)), None)
        new = [lesson for lesson in lessons if lesson.seq > learned_to(before)]
        after = evidence_begins(self._registry.acts(task.name), lessons, self._registry.recertified(task.name))
        if lacking_for(task, lessons, new, after) is not None:
            return None
        known = list(lessons)
        if before is not None and not self._new_answers:
            space = self.opened[before.version].answers
            check_form(task, new, space)
            strange = {lesson.request_id for lesson in outside(known, space)}
            known = [lesson for lesson in known if lesson.request_id not in strange]
        chosen = choose(known, evidence_after=after, seed=self._seed)
        number = 1 + (before.version if before else 0)
        return self._train([self._teach(number, part) for part in (chosen.evidence, chosen.also, chosen.older)],
                           learned_to=lessons[-1].seq)  # fmt: skip

    def _train(self, parts: Sequence[Sequence[Lesson]], learned_to: int) -> SpecialistVersion:
        """Train from evidence, from what only teaches, and from what is older than the last suspension."""
        task = self._task
        space = learn_answers([lesson.answer for part in parts for lesson in part])
        rows, older = self._row_set(parts, space)
        if len(np.unique(rows.classes[rows.evidence])) < 2 or len(np.unique(rows.folds)) < 2:
            raise DataError(
                f"{len(rows.evidence):,} unbiased references of task {task.name!r} have one answer, or fall into one "
                "fold; at least two of each were expected. More traffic brings them."
            )
        promise = Promise(task.target_risk, task.confidence_level, guards_of(task, space), task.require)
        developed = develop_or_forget(self._material, rows, older, promise, self._family)
        digest = self._write(developed, space)
        told = {"to": learned_to, "evidence": len(rows.evidence), "also": len(rows.also), "older": len(older)}
        version = self._registry.register(
            task.name, developed.family, digest, developed.calibration, {"learned": told}, self._now()
        )
        self.made[version.version] = Made(
            developed.family, developed.why, developed.accuracy, len(rows.evidence), len(rows.also) + len(older)
        )
        self._open(version)
        return version

    def _row_set(self, parts: Sequence[Sequence[Lesson]], space: AnswerSpace) -> tuple[RowSet, Rows]:
        """Return the lessons as rows, the older ones apart; what nearly repeats evidence is left out."""
        classes = np.full(len(self._stream), NEVER_SHOWN)
        found: list[Rows] = []
        for lessons in parts:
            labels = space.normalise_all(lesson.answer for lesson in lessons)
            known = [(self._rows[each.request_id], label) for each, label in zip(lessons, labels, strict=True) if label]
            rows = np.array([row for row, _ in known], np.intp)
            classes[rows] = [space.index(label) for _, label in known]
            found.append(rows)
        own, groups = found[0], self._stream.groups
        also, older = (rows[~np.isin(groups[rows], groups[own])] for rows in found[1:])
        return RowSet(own, self._folds[own], also, classes, space.answers, heads_of(space)), older

    def _write(self, developed: Developed, space: AnswerSpace) -> str:
        with self._artifacts.draft() as folder:
            manifest = write_specialist(
                folder,
                task=self._task.name,
                family=developed.family,
                model=developed.student.to_artifact(folder),
                scorer=developed.scorer,
                answers=space,
                inputs=inputs_of(self._task),
                trunk=developed.trunk,
            )
            return self._artifacts.commit(folder, manifest)

    def _open(self, version: SpecialistVersion) -> None:
        """Open it as production would, with the embeddings of the log at hand."""
        artifact = self._artifacts.open(version.digest)
        self.opened[version.version] = open_specialist(
            artifact.folder, artifact.manifest, name=version.name, digest=version.digest, trunk=lambda _: self._known()
        )

    def _known(self) -> Any:
        if self._embedder is None:
            self._embedder = self._material.embedder()
        return self._embedder
