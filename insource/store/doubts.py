"""Doubts: while one stands, all requests of its task are audited; and what was watched, kept to go on from.

It knows what drifted by name only; neither how it was seen nor who looks. `registry` holds the file.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import apsw
import msgspec

from insource.errors import StageConflict
from insource.store import columns
from insource.store.columns import Act
from insource.types import Doubt, SpecialistVersion

LOG = logging.getLogger("insource.store")
DOUBT = "task, version, time, kinds, row, who, why"
STANDING = f"SELECT {DOUBT} FROM doubts WHERE task = ? AND ended IS NULL"
RAISE = f"INSERT INTO doubts ({DOUBT}) VALUES (?, ?, ?, ?, ?, ?, ?)"
AT = f"""
SELECT {DOUBT} FROM doubts
WHERE task = ?1 AND version = ?2 AND time <= ?3 AND (ended IS NULL OR ended >= ?3) ORDER BY seq DESC LIMIT 1
"""
END = "UPDATE doubts SET ended = ? WHERE task = ? AND ended IS NULL"
KEEP = "INSERT OR REPLACE INTO watches (task, basis, row, time, state, told) VALUES (?, ?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class KeptWatch:
    """What was watched of a task up to a `row` of the ledger: the `state` to go on from, and what is `told` of it.

    It says something only under the same `basis`.
    """

    task: str
    basis: str
    row: int
    time: datetime
    state: dict[str, Any]
    told: dict[str, Any]


class Doubts(ABC):
    """The registry's methods for doubts; the subclass brings the file and the versions."""

    def raise_doubt(self, doubt: Doubt, *, quiet: bool = False) -> Doubt:
        """Have all requests of the task audited from now on; one that stands for the version stays as it is.

        A `quiet` one, of those that come and go, is no act. Raises StageConflict where another version is active by
        now, UnknownTask or UnknownVersion.
        """
        with self._writing() as connection:
            self._check_active(doubt.task, doubt.version, "doubted")
            standing = self.doubt(doubt.task)
            if standing is not None:
                return standing
            connection.execute(END, (columns.micros(doubt.time), doubt.task))  # one of a version that is gone
            kinds = msgspec.json.encode(doubt.kinds).decode()
            told = (columns.plain(doubt.who), columns.plain(doubt.why))
            values = (doubt.task, doubt.version, columns.micros(doubt.time), kinds, doubt.row, *told)
            connection.execute(RAISE, values)
            if not quiet:
                act = Act(doubt.time, doubt.who, "doubt", f"{doubt.task}@{doubt.version}", doubt.why)
                connection.execute(columns.INSERT_ACT, columns.act_values(act))
        return doubt

    def end_doubt(self, doubt: Doubt, who: str, why: str, now: datetime, *, quiet: bool = False) -> bool:
        """End a doubt, and say whether it was the one that stands; a `quiet` end is no act."""
        with self._writing() as connection:
            if self.doubt(doubt.task) != doubt:
                return False
            connection.execute(END, (columns.micros(now), doubt.task))
            if not quiet:
                act = Act(now, who, "end doubt", f"{doubt.task}@{doubt.version}", why)
                connection.execute(columns.INSERT_ACT, columns.act_values(act))
        return True

    def doubt(self, task: str) -> Doubt | None:
        """Return the doubt that stands about the active version; None, too, where a hand made it unreadable."""
        rows, active = self._read(STANDING, (task,)), self.active(task)
        return _to_doubt(rows[0]) if rows and active is not None and rows[0][1] == active.version else None

    def doubt_at(self, task: str, version: int, time: datetime) -> Doubt | None:
        """Return the doubt that stood about a version at a time, or None."""
        rows = self._read(AT, (task, version, columns.micros(time)))
        return _to_doubt(rows[0]) if rows else None

    def keep_watch(self, kept: KeptWatch) -> None:
        """Keep what was watched of a task, in the place of what was kept before."""
        texts = (msgspec.json.encode(each).decode() for each in (kept.state, kept.told))
        with self._writing() as connection:
            connection.execute(KEEP, (kept.task, kept.basis, kept.row, columns.micros(kept.time), *texts))

    def kept_watch(self, task: str) -> KeptWatch | None:
        """Return what was kept of a task; None, too, where a hand made it unreadable."""
        rows = self._read("SELECT basis, row, time, state, told FROM watches WHERE task = ?", (task,))
        try:
            return _to_watch(task, rows[0]) if rows else None
        except msgspec.MsgspecError as error:
            LOG.error("what was watched of task %s cannot be read (%s); it is watched anew", task, error)
            return None

    def _check_active(self, task: str, version: int, what: str) -> None:
        self.get(task, version)
        active = self.active(task)
        if active is None or active.version != version:
            raise StageConflict(
                f"{task}@{version} was to be {what}, and {active.name if active else 'nothing'} is active by now; an "
                "active version was expected. Somebody was first: look, and decide again."
            )

    @abstractmethod
    def get(self, task: str, version: int | None = None) -> SpecialistVersion:
        """Return a version of the task."""

    @abstractmethod
    def active(self, task: str) -> SpecialistVersion | None:
        """Return the version that serves."""

    @abstractmethod
    def _writing(self) -> AbstractContextManager[apsw.Connection]: ...

    @abstractmethod
    def _read(self, statement: str, values: Sequence[Any]) -> list[Any]: ...


def _to_doubt(row: Sequence[Any]) -> Doubt | None:
    task, version, time, kinds, at, who, why = row
    try:
        named = msgspec.json.decode(kinds, type=tuple[str, ...])
    except msgspec.MsgspecError as error:
        LOG.error("the doubt about %s@%s cannot be read (%s); it is passed over", task, version, error)
        return None
    return Doubt(task, version, columns.moment(time), named, at, who, why)


def _to_watch(task: str, row: Sequence[Any]) -> KeptWatch:
    basis, at, time, state, told = row
    read = (msgspec.json.decode(each, type=dict[str, Any]) for each in (state, told))
    return KeptWatch(task, basis, at, columns.moment(time), *read)
