"""The registry: every version of every task, its calibration, lineage and stage; open to many processes at once.

It does not know what makes a version good enough to promote. Every write is one short transaction. What is done with
stages, suspensions, doubts, re-certifications, purchases, the queue of kept requests, the outbox and keys, in the same
file, stands in modules of those names.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import apsw
import msgspec

from insource.errors import UnknownTask, UnknownVersion
from insource.store import columns, migrations
from insource.store.columns import Act
from insource.store.content_keys import ContentKeys
from insource.store.database import BUSY_MILLISECONDS, open_database, transaction
from insource.store.keys import Keys
from insource.store.outbox import Outbox
from insource.store.proposals import Proposals
from insource.store.purchases import Purchases
from insource.store.recertifications import Recertifications, calibration_text
from insource.store.registry_rows import (
    EVERY,
    RAISED,
    SELECT,
    VERSION,
    Row,
    altered_rows,
    raw,
    row_digest,
    text,
    to_version,
)
from insource.store.reviews import Reviews
from insource.store.suspensions import Suspensions
from insource.store.translate import translated
from insource.types import Calibration, SpecialistVersion, Stage

FILE = "registry.db"
INSERT = f"INSERT INTO versions ({VERSION}, row_digest, stage, share) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0)"
ROW = f"SELECT {raw('row_digest, recertified', 'versions')} FROM versions WHERE task = ? AND version = ?"
TASKS = "SELECT DISTINCT CAST(task AS BLOB) FROM versions ORDER BY task"
ACTS = f"SELECT {columns.ACT} FROM acts WHERE ? IS NULL OR subject = ?1 ORDER BY seq"


class Registry(Suspensions, Proposals, Recertifications, Purchases, Reviews, Outbox, Keys):
    """One process's view of the registry; may be shared by its threads. Use as a context manager, or `close` it.

    Every method raises StoreBusy where another process holds the file for more than 10 s, and StoreFull or
    StoreError where it cannot be read or written.
    """

    def __init__(self, path: Path, connection: apsw.Connection) -> None:
        self.path = path
        self._connection = connection
        self._own_changes = 0
        self._lock = threading.RLock()
        self._keys: ContentKeys | None = None

    @classmethod
    def open(cls, home: Path) -> Self:
        """Open the registry in `home`, made if it is missing."""
        path = home / FILE
        return cls(path, open_database(path, migrations=migrations.REGISTRY))

    def register(
        self,
        task: str,
        family: str,
        digest: str,
        calibration: Calibration | None,
        lineage: Mapping[str, Any],
        now: datetime,
    ) -> SpecialistVersion:
        """Add a candidate and return it; its version is one more than the task's highest.

        `lineage` comes back as JSON does: tuples as lists. ValueError where a figure cannot be kept exactly (NaN,
        infinity), TypeError where a value is no plain JSON value (a numpy number).
        """
        stored = None if calibration is None else calibration_text(calibration)
        told = msgspec.json.encode(lineage).decode()
        with self._writing() as connection:
            highest = connection.execute("SELECT coalesce(max(version), 0) FROM versions WHERE task = ?", (task,)).get
            version = int(highest) + 1
            values = (task, version, family, digest, columns.micros(now), stored, told)
            connection.execute(INSERT, (*values, row_digest(values), Stage.CANDIDATE))
        return self.get(task, version)

    def get(self, task: str, version: int | None = None) -> SpecialistVersion:
        """Return a version of the task, by default the newest; raises UnknownTask or UnknownVersion."""
        versions = self.versions(task)
        if not versions:
            raise UnknownTask(f"Task {task!r} has no version here ({self.path}); {self._known_tasks()}")
        if version is None:
            return versions[-1]
        for found in versions:
            if found.version == version:
                return found
        raise UnknownVersion(
            f"Task {task!r} has no version {version}; it has {_span(versions)}. "
            f"Name one of those, or train a new one; `insource tasks {task}` lists them."
        )

    def versions(self, task: str) -> tuple[SpecialistVersion, ...]:
        """Return the task's versions, oldest first; none for an unknown task.

        One whose row is not as it was written has ALTERED for a digest, under which nothing can be opened.
        """
        return tuple(to_version(row) for row in self._read(f"{SELECT} ORDER BY versions.version", (task,)))

    def row(self, task: str, version: int) -> Row:
        """Return what a version serves by. Raises UnknownTask or UnknownVersion."""
        self.get(task, version)
        own, anew = self._read(ROW, (task, version))[0]
        return Row(text(own), None if anew is None else text(anew))

    def flaws(self, task: str | None = None) -> tuple[str, ...]:
        """Return what a hand or a disk has altered, of stages and of rows, in sentences; none is usual."""
        altered = altered_rows(self._read(EVERY, ()), self._read(RAISED, ()))
        return super().flaws(task) + tuple(
            f"{said}. Restore {self.path.name} from a backup, or train the version again."
            for name, said in altered
            if task in (None, name)
        )

    def tasks(self) -> tuple[str, ...]:
        """Return the names of all tasks with a version, in order of name."""
        return tuple(text(row[0]) for row in self._read(TASKS, ()))

    def acts(self, subject: str | None = None) -> tuple[Act, ...]:
        """Return who promoted what (`subject` is NAME@V) and who answered which review (its id), oldest first."""
        return tuple(columns.to_act(row) for row in self._read(ACTS, (subject,)))

    def changed(self) -> int:
        """Return a number that grows whenever anyone has committed a change; cheap enough to ask often."""
        with self._lock, translated(self.path, self._connection):
            return int(self._connection.execute("PRAGMA data_version").get) + self._own_changes

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()
            if self._keys is not None:
                self._keys.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _writing(self) -> Iterator[apsw.Connection]:
        with self._lock, transaction(self._connection, self.path) as connection:
            before = connection.total_changes()
            yield connection
            self._own_changes += connection.total_changes() > before

    @contextmanager
    def _content_keys(self) -> Iterator[ContentKeys]:
        with self._lock:
            if self._keys is None:
                self._keys = ContentKeys.open(self.path.parent)
            self._keys.look()
            yield self._keys

    def _read(self, statement: str, values: Sequence[Any]) -> list[Any]:
        with self._lock, translated(self.path, self._connection):
            return self._connection.execute(statement, values).fetchall()

    def _empty_log(self) -> None:
        with self._lock, translated(self.path, self._connection):
            self._connection.set_busy_timeout(0)  # another process in the way must not hold up this one
            try:
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                self._connection.set_busy_timeout(BUSY_MILLISECONDS)

    def _standing(self, task: str, stages: Collection[Stage]) -> list[SpecialistVersion]:
        marks = ", ".join("?" * len(stages))
        rows = self._read(f"{SELECT} AND versions.stage IN ({marks}) ORDER BY versions.version", (task, *stages))
        return [to_version(row) for row in rows]

    def _row_digest(self, version: SpecialistVersion) -> str:
        return self.row(version.task, version.version).own

    def _known_tasks(self) -> str:
        names = self.tasks()
        if not names:
            return "no task has one yet. `insource train FILE --task NAME` makes one."
        return f"known are {', '.join(names[:10])}{' and more' if names[10:] else ''}. Check the name."


def _span(versions: Sequence[SpecialistVersion]) -> str:
    first, last = versions[0].version, versions[-1].version
    return f"version {first}" if first == last else f"versions {first} to {last}"
