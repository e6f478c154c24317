"""A task's acceptance switched off and on again: while a suspension stands, everything of its task escalates.

It knows who, when and why; neither what was seen nor who looks. `registry` holds the file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

import apsw

from insource.store import columns
from insource.store.columns import Act
from insource.types import SpecialistVersion, Suspension

STANDING = "SELECT task, time, who, why FROM suspensions WHERE task = ? AND lifted IS NULL"
SUSPEND = "INSERT INTO suspensions (task, time, who, why) VALUES (?, ?, ?, ?)"
LIFT = "UPDATE suspensions SET lifted = ? WHERE task = ? AND lifted IS NULL"


class Suspensions(ABC):
    """The registry's methods for suspensions; the subclass brings the file and the versions."""

    def suspend(self, task: str, who: str, why: str, now: datetime) -> Suspension:
        """Have nothing of the task accepted from now on; one that is suspended stays so, and nothing is recorded.

        Raises UnknownTask.
        """
        with self._writing() as connection:
            self.get(task)
            standing = self.suspension(task)
            if standing is not None:
                return standing
            told = Suspension(task, now, columns.plain(who) or "", columns.plain(why) or "")
            connection.execute(SUSPEND, (task, columns.micros(now), told.who, told.why))
            connection.execute(columns.INSERT_ACT, columns.act_values(Act(now, told.who, "suspend", task, why)))
        return told

    def resume(self, task: str, who: str, why: str, now: datetime) -> bool:
        """Lift the task's suspension, and say whether one stood."""
        with self._writing() as connection:
            lifted = self._lift(connection, task, now)
            if lifted:
                connection.execute(columns.INSERT_ACT, columns.act_values(Act(now, who, "resume", task, why)))
        return lifted

    def suspension(self, task: str) -> Suspension | None:
        """Return the suspension that stands, or None."""
        rows = self._read(STANDING, (task,))
        if not rows:
            return None
        name, time, who, why = rows[0]
        return Suspension(name, columns.moment(time), who, why)

    def _lift(self, connection: apsw.Connection, task: str, now: datetime) -> bool:
        connection.execute(LIFT, (columns.micros(now), task))
        return bool(connection.changes())

    @abstractmethod
    def get(self, task: str, version: int | None = None) -> SpecialistVersion:
        """Return a version of the task."""

    @abstractmethod
    def _writing(self) -> AbstractContextManager[apsw.Connection]: ...

    @abstractmethod
    def _read(self, statement: str, values: Sequence[Any]) -> list[Any]: ...
