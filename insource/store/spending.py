"""What keys have spent of their budgets, by window: one figure a row, reservations included.

It knows rows and windows' names; what is reserved, and when it is settled, the gateway's `limits` decides. One process
writes; anybody may read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

import apsw

from insource.errors import StoreError
from insource.store.database import Migration, open_database, transaction
from insource.store.group_commit import GroupCommit, Job, again
from insource.store.translate import translated

FILE = "spending.db"
Place = tuple[str, str, str]
"""A key's id, what is counted ("money" or "tokens"), and the window: "2026-11-22", "2026-11" or "total"."""
TABLE = """
CREATE TABLE spending (
    key TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('money', 'tokens')),
    window TEXT NOT NULL,            -- a day or a month (UTC), or 'total'
    amount TEXT NOT NULL,            -- decimal figures; what is reserved counts as spent
    PRIMARY KEY (key, kind, window)
) STRICT, WITHOUT ROWID;
"""
WRITE = """
INSERT INTO spending (key, kind, window, amount) VALUES (?, ?, ?, ?)
ON CONFLICT (key, kind, window) DO UPDATE SET amount = excluded.amount
"""
READ = "SELECT key, kind, window, amount FROM spending"


def _spending_1(connection: apsw.Connection) -> None:
    connection.execute(TABLE)


STEPS: list[Migration] = [_spending_1]


class Spending:
    """The one writer; `close` writes all that is queued."""

    def __init__(self, path: Path, connection: apsw.Connection) -> None:
        self.path = path
        self._connection = connection
        self._commits = GroupCommit(self._commit, name="file of what keys spent")

    @classmethod
    def open(cls, home: Path) -> Self:
        """Open the file in `home`, made if it is missing. Raises StoreError."""
        path = home / FILE
        return cls(path, open_database(path, migrations=STEPS))

    def read(self) -> dict[Place, Decimal]:
        """Return every figure; before the first `write` only."""
        with translated(self.path, self._connection):
            return _read(self._connection)

    async def write(self, amounts: Mapping[Place, Decimal]) -> None:
        """Return once these figures stand in the place of those before, durably. Raises StoreError or Overloaded."""
        await self._commits.commit(amounts)

    def note(self, amounts: Mapping[Place, Decimal]) -> None:
        """Queue figures, to be written as soon as that is possible; what was queued earlier never comes after them.

        They may be higher than those before: a reply can have taken more than was reserved for it.
        """
        with suppress(StoreError):  # the writer has ended: no reservation is granted any more either
            self._commits.submit(amounts, patient=True)

    def close(self) -> None:
        """Write all, and close the file."""
        self._commits.close()
        self._connection.close()

    def _commit(self, jobs: list[Job]) -> None:
        """Run on the writer's thread: all figures of all jobs in one transaction."""
        latest: dict[Place, Decimal] = {}
        for job in jobs:
            latest |= job.payload
        rows = [(*place, str(amount)) for place, amount in latest.items()]
        try:
            with transaction(self._connection, self.path):
                self._connection.executemany(WRITE, rows)
        except StoreError as error:
            for job in jobs:
                job.error = again(error)


def read_spending(home: Path) -> Mapping[Place, Decimal]:
    """Return every figure of a home, none where nothing was ever reserved. Raises StoreError."""
    path = home / FILE
    if not path.is_file():
        return {}
    connection = open_database(path, migrations=STEPS, read_only=True)
    try:
        with translated(path, connection):
            return _read(connection)
    finally:
        connection.close()


def _read(connection: apsw.Connection) -> dict[Place, Decimal]:
    rows: Sequence[Any] = connection.execute(READ).fetchall()
    return {(key, kind, window): Decimal(amount) for key, kind, window, amount in rows}
