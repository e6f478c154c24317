"""Moving versions from stage to stage: steps, promotions, rollbacks, and the history of all of them.

Every change is one transaction that compares before it writes. It does not know what makes a step a good one;
`registry` holds the file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import apsw

from insource.errors import StageConflict
from insource.store import columns
from insource.store.columns import Act
from insource.types import Move, SpecialistVersion, Stage

WORDS = frozenset(stage.value for stage in Stage)
TRIAL = (Stage.SHADOW, Stage.CANARY)
ALLOWED: Mapping[Stage, frozenset[Stage]] = {
    Stage.CANDIDATE: frozenset({*TRIAL, Stage.ACTIVE, Stage.RETIRED}),
    Stage.SHADOW: frozenset({Stage.CANDIDATE, Stage.CANARY, Stage.ACTIVE, Stage.RETIRED}),
    Stage.CANARY: frozenset({*TRIAL, Stage.ACTIVE, Stage.RETIRED}),
    Stage.ACTIVE: frozenset({Stage.RETIRED}),
    Stage.RETIRED: frozenset({Stage.CANDIDATE}),
}
"""Where `move` may take a version; from canary to canary with another share only."""

MOVE = "time, task, version, before, stage, share, who, why"
MOVES = f"SELECT {MOVE} FROM moves WHERE ?1 IS NULL OR task = ?1 ORDER BY seq LIMIT -1 OFFSET ?2"
INSERT_MOVE = f"INSERT INTO moves ({MOVE}, back) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
SET_STAGE = "UPDATE versions SET stage = ?, share = ? WHERE task = ? AND version = ?"
SERVED = "SELECT version, back FROM moves WHERE task = ? AND stage = 'active' ORDER BY seq"
PLACES = """
SELECT CAST(task AS BLOB), version, CAST(stage AS BLOB), share FROM versions
WHERE ?1 IS NULL OR task = ?1 ORDER BY task, version
"""
AT_REST = "SELECT version FROM versions WHERE task = ? AND stage IN ('candidate', 'retired')"
WITHDRAW = "DELETE FROM proposals WHERE task = ?"


@dataclass(frozen=True, slots=True)
class Proposal:
    """The next step of a task's rollout that waits for a person: which version, from where to where, and why.

    `time` is since when it stands. Any move of the task withdraws it.
    """

    task: str
    time: datetime
    version: int
    before: Stage
    to: Stage
    share: float
    why: tuple[str, ...]

    @property
    def name(self) -> str:
        """The version's name, NAME@V."""
        return f"{self.task}@{self.version}"


def place(stage: Stage, share: float = 0.0) -> str:
    """Return a stage in words, with the share of a canary: "canary at 5 %"."""
    return f"{stage.value} at {100 * share:g} %" if stage is Stage.CANARY else stage.value


class Stages(ABC):
    """The registry's methods for the rollout; the subclass brings the file and the versions."""

    def move(
        self,
        task: str,
        version: int,
        *,
        expected: Stage,
        to: Stage,
        share: float = 0.0,
        who: str,
        why: str,
        now: datetime,
        before: int | None = None,
        lift: bool = False,
    ) -> SpecialistVersion:
        """Take a version from the stage `expected` to another, and return it; what is active retires for a new one.

        `share` is that of a canary, above 0 and up to 1, and 0 else (ValueError). `before` is the active version that
        the caller saw, 0 for none; `lift` lifts the task's suspension with it. Raises UnknownTask, UnknownVersion;
        StageConflict where the version is elsewhere by now, another is active, the step is none that may be taken, or
        another version is the task's trial: then nothing is changed.
        """
        check_share(to, share)
        with self._writing() as connection:
            moved = self.get(task, version)
            if moved.stage is not expected:
                raise StageConflict(
                    f"{moved.name} is {place(moved.stage, moved.share)} by now, and was to be moved to "
                    f"{place(to, share)}; stage {expected} was expected. Somebody was first: look, and decide again."
                )
            self._active_as_seen(task, before)
            self._check_step(moved, to, share)
            self._step(connection, moved, to, share, who, why, now, lift=lift)
        return self.get(task, version)

    def promote(
        self, task: str, version: int, who: str, why: str, now: datetime, *, before: int | None = None
    ) -> SpecialistVersion:
        """Make a version the active one, from any stage, retire the one before it, lift the task's suspension.

        A version that is active already stays so, and nothing is recorded. `before` is the active version that the
        caller saw, 0 for none: StageConflict where another stands by now. Raises UnknownTask or UnknownVersion.
        """
        with self._writing() as connection:
            chosen, active = self.get(task, version), self._active_as_seen(task, before)
            if [chosen.version] == [each.version for each in active]:
                return chosen
            self._step(connection, chosen, Stage.ACTIVE, 0.0, who, why, now, lift=True)
        return self.get(task, version)

    def rollback(
        self, task: str, who: str, why: str, now: datetime, *, expected: int | None = None
    ) -> SpecialistVersion | None:
        """Retire the task's trial; where there is none, retire the active version and bring back the one before it.

        Return the version that serves now, None where none does: then everything escalates. `expected` is the version
        that the caller wants out. Raises UnknownTask; StageConflict where another would go, or none is there to go.
        """
        with self._writing() as connection:
            self.get(task)
            trials = self._standing(task, TRIAL)
            out = trials or self._standing(task, (Stage.ACTIVE,))
            if not out:
                raise StageConflict(
                    f"Task {task!r} has nothing to roll back; a version in shadow, canary or active was expected. "
                    f"`insource tasks {task}` lists its versions."
                )
            if expected is not None and expected not in [each.version for each in out]:
                raise StageConflict(
                    f"A rollback of task {task!r} would retire {_names(out)} by now; {task}@{expected} was expected. "
                    "Somebody was first: look, and decide again."
                )
            earlier = None if trials else self._served_before(task, [each.version for each in out])
            for each in out:
                self._put(connection, each, Stage.RETIRED, 0.0, who, why, now)
            if earlier is not None:
                self._put(connection, earlier, Stage.ACTIVE, 0.0, who, why, now, back=True)
            serves = self.active(task)
            detail = f"{why} (was {place(out[0].stage, out[0].share)}; serves now: {serves.name if serves else 'none'})"
            record(connection, Act(now, who, "rollback", out[0].name, detail))
        return serves

    def trial(self, task: str) -> SpecialistVersion | None:
        """Return the version in shadow or canary, or None; None, too, where a hand has put two there: see `flaws`."""
        standing = self._standing(task, TRIAL)
        return standing[0] if len(standing) == 1 and standing[0].stage in TRIAL else None

    def active(self, task: str) -> SpecialistVersion | None:
        """Return the version that serves, or None; None, too, where a hand has made two active: see `flaws`."""
        standing = self._standing(task, (Stage.ACTIVE,))
        return standing[0] if len(standing) == 1 else None

    def flaws(self, task: str | None = None) -> tuple[str, ...]:
        """Return what a hand has written into stages (of one task) that is not served, in sentences; none is usual."""
        found, standing = [], defaultdict(list)
        for told, version, word, share in self._read(PLACES, (task,)):
            name, stage = told.decode("utf-8", "replace"), word.decode("utf-8", "replace")
            if stage not in WORDS:
                found.append(f"{name}@{version} has the unknown stage {stage!r}; it is taken as retired.")
            elif (stage == Stage.CANARY) != (0 < share <= 1):
                taken = "retired" if stage == Stage.CANARY else "0"
                found.append(f"{name}@{version} is {stage} with a share of {share:g}; it is taken as {taken}.")
            kind = "active" if stage == Stage.ACTIVE else "in shadow or canary" if stage in TRIAL else None
            standing[name, kind].append(f"@{version}")
        for (name, kind), versions in standing.items():
            if kind is not None and len(versions) > 1:
                found.append(
                    f"{name} has {len(versions)} versions {kind} ({', '.join(versions)}); none of them serves. "
                    f"`insource rollback {name}` retires them."
                )
        return tuple(found)

    def moves(self, task: str | None = None, *, after: int = 0) -> tuple[Move, ...]:
        """Return the moves (of one task), oldest first, without the first `after` of them."""
        return tuple(self._to_move(row) for row in self._read(MOVES, (task, after)))

    def _active_as_seen(self, task: str, before: int | None) -> list[SpecialistVersion]:
        """Return what is active; raise StageConflict where that is not what the caller saw."""
        active = self._standing(task, (Stage.ACTIVE,))
        if before is not None and [each.version for each in active] != ([before] if before else []):
            raise StageConflict(
                f"{_names(active)} is active by now; {f'{task}@{before}' if before else 'no active version'} was "
                f"expected. Somebody was first: look at `insource tasks {task}`, and promote again."
            )
        return active

    def _check_step(self, version: SpecialistVersion, to: Stage, share: float) -> None:
        """Raise StageConflict for a step that may not be taken, or one into a place that is taken."""
        if to not in ALLOWED[version.stage] or (to is version.stage and share == version.share):
            allowed = ", ".join(sorted(ALLOWED[version.stage]))
            raise StageConflict(
                f"{version.name} is {place(version.stage, version.share)} and cannot be moved to {place(to, share)}; "
                f"from there it may go to {allowed}. `insource promote {version.name}` makes it active from anywhere."
            )
        others = [each for each in self._standing(version.task, TRIAL) if each.version != version.version]
        if to in TRIAL and others:
            raise StageConflict(
                f"{_names(others)} is in shadow or canary; a task with no other trial was expected for "
                f"{version.name}. Wait for its verdict, or end it with `insource rollback {version.task}`."
            )

    def _step(
        self,
        connection: apsw.Connection,
        version: SpecialistVersion,
        to: Stage,
        share: float,
        who: str,
        why: str,
        now: datetime,
        *,
        lift: bool = False,
    ) -> None:
        """Write a step that has been checked, with its act; what is active makes room for a new active version."""
        if to is not Stage.ACTIVE:
            self._put(connection, version, to, share, who, why, now)
            way = f"{place(version.stage, version.share)} to {place(to, share)}"
            detail = f"{why} ({way}; digest {version.digest}; row {self._row_digest(version)})"
            record(connection, Act(now, who, "move", version.name, detail))
            return
        before = [each for each in self._standing(version.task, (Stage.ACTIVE,)) if each.version != version.version]
        for each in before:
            self._put(connection, each, Stage.RETIRED, 0.0, who, f"{version.name} took its place: {why}", now)
        self._put(connection, version, to, 0.0, who, why, now)
        detail = f"{why} (before: {_names(before)}; digest {version.digest}; row {self._row_digest(version)})"
        record(connection, Act(now, who, "promote", version.name, detail))
        if lift and self._lift(connection, version.task, now):
            record(connection, Act(now, who, "resume", version.task, f"{version.name} became active: {why}"))

    def _put(
        self,
        connection: apsw.Connection,
        version: SpecialistVersion,
        to: Stage,
        share: float,
        who: str,
        why: str,
        now: datetime,
        *,
        back: bool = False,
    ) -> None:
        connection.execute(SET_STAGE, (to, share, version.task, version.version))
        told = (columns.plain(who), columns.plain(why))
        values = (columns.micros(now), version.task, version.version, version.stage, to, share, *told, back)
        connection.execute(INSERT_MOVE, values)
        connection.execute(WITHDRAW, (version.task,))

    def _served_before(self, task: str, now: Sequence[int]) -> SpecialistVersion | None:
        """Return the version that was active before those that are: what a rollback undid does not count."""
        stack: list[int] = []
        for version, back in self._read(SERVED, (task,)):
            while back and stack and stack[-1] != version:
                stack.pop()
            if not stack or stack[-1] != version:
                stack.append(version)
        while stack and stack[-1] in now:
            stack.pop()
        at_rest = {row[0] for row in self._read(AT_REST, (task,))}
        found = next((version for version in reversed(stack) if version in at_rest), None)
        return None if found is None else self.get(task, found)

    def _to_move(self, row: Sequence[Any]) -> Move:
        time, task, version, before, stage, share, who, why = row
        return Move(columns.moment(time), task, version, known(before), known(stage), share, who, why)

    @abstractmethod
    def get(self, task: str, version: int | None = None) -> SpecialistVersion:
        """Return a version of the task."""

    @abstractmethod
    def versions(self, task: str) -> tuple[SpecialistVersion, ...]:
        """Return the task's versions."""

    @abstractmethod
    def _standing(self, task: str, stages: Collection[Stage]) -> list[SpecialistVersion]:
        """Return the versions whose rows bear one of the stages, in one read: several only where a hand was at work."""

    @abstractmethod
    def _row_digest(self, version: SpecialistVersion) -> str: ...

    @abstractmethod
    def _lift(self, connection: apsw.Connection, task: str, now: datetime) -> bool: ...

    @abstractmethod
    def _writing(self) -> AbstractContextManager[apsw.Connection]: ...

    @abstractmethod
    def _read(self, statement: str, values: Sequence[Any]) -> list[Any]: ...


def known(word: str) -> Stage:
    """Return the stage that a word names; one that only a hand can have written reads retired: it is never served."""
    return Stage(word) if word in WORDS else Stage.RETIRED


def standing(word: str, share: float) -> tuple[Stage, float]:
    """Return the stage and share of a row; those that only a hand can have written read retired, or 0."""
    stage = known(word)
    if stage is not Stage.CANARY:
        return stage, 0.0
    return (stage, share) if 0 < share <= 1 else (Stage.RETIRED, 0.0)


def check_share(to: Stage, share: float) -> None:
    """Raise ValueError for a share that a stage cannot have."""
    if not (0 < share <= 1 if to is Stage.CANARY else share == 0):
        raise ValueError(f"a share of {share} for stage {to}; above 0 and up to 1 was expected for canary, 0 else")


def _names(versions: Sequence[SpecialistVersion]) -> str:
    return " and ".join(version.name for version in versions) or "none"


def record(connection: apsw.Connection, act: Act) -> None:
    """Write an act within the caller's transaction."""
    connection.execute(columns.INSERT_ACT, columns.act_values(act))
