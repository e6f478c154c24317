"""Learning: from the references since the last version to a candidate, which the steward takes from there.

It chooses what to learn from and when it is worth it; training is `training.run`'s business, and moving versions is
nobody's here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from insource.answers import AnswerSpace
from insource.errors import DataError, UserError
from insource.lifecycle.lessons import Lesson, choose, gather, outside
from insource.lifecycle.monitors import OUTSIDE
from insource.lifecycle.schedule import GROWTH
from insource.lifecycle.watching import Start
from insource.risk.bounds import rows_needed
from insource.store.artifacts import ArtifactStore
from insource.store.recertifications import Recertified
from insource.training.outcome import Trained
from insource.training.recipe import Recipe
from insource.training.run import train
from insource.training.trunks import Say
from insource.types import SpecialistVersion, Task

FEWEST_OUTSIDE = 20
"""References to judge the form by: of fewer, one slip is too large a share."""
SHOWN = 3


@dataclass(frozen=True, slots=True)
class NotYet:
    """Why nothing was trained; a value, not an error."""

    why: str


@dataclass(frozen=True, slots=True)
class Learned:
    """The candidate that was registered, and what it learned from."""

    trained: Trained
    evidence: int
    also: int
    new: int
    gold: int
    left_out: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return what `learn --json` writes."""
        told = {"evidence": self.evidence, "also": self.also, "new": self.new, "gold": self.gold,
                "left_out": self.left_out}  # fmt: skip
        return self.trained.to_json() | {"lessons": told}


class School:
    """Trains candidates of one home; `ledger`, `registry` and `artifacts` are the store's own."""

    def __init__(
        self,
        ledger: Any,
        registry: Any,
        artifacts: ArtifactStore,
        *,
        home: Path,
        say: Say,
        now: Callable[[], datetime],
    ) -> None:
        self._ledger, self._registry, self._artifacts = ledger, registry, artifacts
        self._home, self._say, self._now = home, say, now

    def learn(
        self, task: Task, recipe: Recipe | None = None, *, anyway: bool = False, new_answers: bool = False,
        same: Sequence[str] = (),
    ) -> Learned | NotYet:  # fmt: skip
        """Train a candidate where that is worth it; `anyway` however little is new.

        What `same` names of the recipe is taken from the last version's, where there is one.
        Worth it is a quarter more lessons than the last version had (as in a backtest), or, once the task was
        suspended, as many more unbiased ones since, and enough to certify anything. Raises UserError where the task
        keeps no text, DataError where too many references of the teacher lie outside the closed set that the last
        version knows: they are learned only with `new_answers`. What `training.run.train` raises, it raises, too.
        """
        check_content(task)
        before = next(reversed(self._registry.versions(task.name)), None)
        recipe = recipe or Recipe()
        if before is not None:
            last = Recipe.of_lineage(before.lineage.get("recipe", {}))
            recipe = replace(recipe, **{name: getattr(last, name) for name in same})
        lessons = self._lessons(task)
        since = learned_to(before)
        new = [lesson for lesson in lessons if lesson.seq > since]
        after = evidence_begins(self._registry.acts(task.name), lessons, self._registry.recertified(task.name))
        if not anyway and (lacking := lacking_for(task, lessons, new, after)) is not None:
            return NotYet(lacking)
        strange = 0
        if not new_answers and before is not None and (space := self._space(before)) is not None:
            check_form(task, [lesson for lesson in new if not lesson.gold], space)
            dropped = {lesson.request_id for lesson in outside(lessons, space)}
            strange = len(dropped)
            lessons = [lesson for lesson in lessons if lesson.request_id not in dropped]
        chosen = choose(lessons, evidence_after=after, seed=recipe.seed)
        told = {"to": max((lesson.seq for lesson in lessons), default=0), "evidence": len(chosen.evidence),
                "also": len(chosen.also), "older": len(chosen.older), "lessons": len(lessons),
                "evidence_after": after}  # fmt: skip
        trained = train(
            [lesson.example(task.messages) for lesson in chosen.evidence],
            task,
            replace(recipe, gold=True),
            home=self._home,
            registry=self._registry,
            artifacts=self._artifacts,
            say=self._say,
            now=self._now,
            also=[lesson.example(task.messages) for lesson in chosen.also],
            older=[lesson.example(task.messages) for lesson in chosen.older],
            told={"learned": told},
        )
        left_out = chosen.left_out | ({"outside the closed set": strange} if strange else {})
        teaching = (*chosen.also, *chosen.older)
        gold = sum(lesson.gold for lesson in (*chosen.evidence, *teaching))
        return Learned(trained, len(chosen.evidence), len(teaching), len(new), gold, left_out)

    def _lessons(self, task: Task) -> list[Lesson]:
        reviews = self._registry.reviews(task.name, "answered")
        return gather(self._ledger.references(task.name), reviews, self._ledger.decision, self._ledger.feedback)

    def _space(self, version: SpecialistVersion) -> AnswerSpace | None:
        manifest = self._artifacts.open(version.digest).manifest
        return AnswerSpace.from_json(manifest["answers"]) if "answers" in manifest else None


def check_content(task: Task) -> None:
    """Raise UserError where the task keeps no text to learn from."""
    if task.content != "full":
        raise UserError(
            f'Task {task.name!r} keeps no texts (content = "{task.content}"), so there is no text to learn from; '
            f'content = "full" was expected. Set it in [tasks.{task.name}], and learn once requests have passed.'
        )


def check_form(task: Task, teachers: list[Lesson], space: AnswerSpace) -> None:
    """Raise DataError where the teacher's new references have another form, or name answers that nobody knows yet."""
    strange = outside(teachers, space)
    if len(teachers) < FEWEST_OUTSIDE or len(strange) <= OUTSIDE * len(teachers):
        return
    shown = ", ".join(repr(lesson.answer[:40]) for lesson in strange[-SHOWN:])
    raise DataError(
        f"{len(strange):,} of {len(teachers):,} new references of task {task.name!r} lie outside its closed set of "
        f"{len(space)} answers, such as {shown}; at most {OUTSIDE:.0%} were expected. If the upstream changed its "
        "format, mend the prompt or the model; if these are right answers, learn them with --new-answers."
    )


def learned_to(version: SpecialistVersion | None) -> int:
    """Return up to which row of the ledger a version has learned; 0 for one that was trained from a file."""
    told = version.lineage.get("learned") if version is not None else None
    return int(told["to"]) if told else 0


def evidence_begins(acts: Sequence[Any], lessons: Sequence[Lesson], recertified: Recertified | None = None) -> int:
    """Return the row of the ledger after which references certify: that of the task's last suspension, or of the doubt
    that a version was last `recertified` in, whichever is later; 0 without either.

    Lifting it changes nothing about that: what was seen before is about the world as it was. `acts` are the task's,
    oldest first; the row is known by the act's word, else by the time of the lessons.
    """
    return max(_suspended_at(acts, lessons), 0 if recertified is None else recertified.since)


def _suspended_at(acts: Sequence[Any], lessons: Sequence[Lesson]) -> int:
    last = next((act for act in reversed(acts) if act.what == "suspend"), None)
    if last is None:
        return 0
    start = Start.of(last.who, last.detail, last.time)
    if start.row is not None:
        return start.row
    return max((lesson.seq for lesson in lessons if lesson.time < last.time), default=0)


def lacking_for(task: Task, lessons: Sequence[Lesson], new: Sequence[Lesson], after: int) -> str | None:
    """Say what is lacking before it is worth training again, None where nothing is; `after` as `evidence_begins`."""
    told = ""
    if after:
        wanted = rows_needed(task.target_risk, task.confidence_level)
        lessons = [lesson for lesson in lessons if lesson.unbiased and lesson.seq > after]
        new, told = (
            [lesson for lesson in new if lesson.unbiased and lesson.seq > after],
            " since the last suspension or re-certification",
        )
        if len(lessons) < wanted:
            return f"{len(lessons):,} of {wanted:,} unbiased references{told}"
    wanted = max(round(len(lessons) * (1.0 - 1.0 / GROWTH)), 1)
    if len(new) >= wanted:
        return None
    return f"{len(new):,} new references of {len(lessons):,}{told}; at least {wanted:,} were expected"
