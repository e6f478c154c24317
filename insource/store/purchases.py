"""Labels reserved of a task's budget, by the day (UTC): counted before they are bought, and never given back.

It knows tasks, days and numbers; not who buys. `registry` holds the file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

import apsw

from insource.store.columns import EPOCH

KEPT_DAYS = 40
RESERVE = """
INSERT INTO purchases (task, day, taken) VALUES (?1, ?2, 1)
ON CONFLICT (task, day) DO UPDATE SET taken = taken + 1 WHERE taken < ?3 RETURNING taken
"""
FORGET = "DELETE FROM purchases WHERE day < ?"
TAKEN = "SELECT taken FROM purchases WHERE task = ? AND day = ?"


class Purchases(ABC):
    """The registry's methods for labels that are bought; the subclass brings the file."""

    def reserve_label(self, task: str, limit: int, now: datetime) -> int | None:
        """Take one of the day's `limit` labels; return how many are taken by then, None where all were.

        Durable when it returns, and one statement, so that processes which race for the last one share it rightly. The
        first of a day forgets the days of more than 40 days ago.
        """
        if limit <= 0:
            return None
        with self._writing() as connection:
            rows: list[Any] = connection.execute(RESERVE, (task, _day(now), limit)).fetchall()
            taken = int(rows[0][0]) if rows else None
            if taken == 1:
                connection.execute(FORGET, (_day(now) - KEPT_DAYS,))
        return taken

    def labels_taken(self, task: str, now: datetime) -> int:
        """Return how many labels were reserved for a task on the day of `now`."""
        rows = self._read(TAKEN, (task, _day(now)))
        return int(rows[0][0]) if rows else 0

    @abstractmethod
    def _writing(self) -> AbstractContextManager[apsw.Connection]: ...

    @abstractmethod
    def _read(self, statement: str, values: Sequence[Any]) -> list[Any]: ...


def _day(time: datetime) -> int:
    """Return the days since 1970 (UTC); `time` must carry its zone (TypeError otherwise)."""
    return (time - EPOCH).days
