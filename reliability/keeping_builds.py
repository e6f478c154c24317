"""Two builds that do not erase what they say they did: one keeps the keys of texts, the other the rows. They are for
A6's control, and know nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from unittest import mock

from insource.store import columns
from insource.store.content_keys import ContentKeys
from insource.store.database import transaction
from insource.store.ledger import Ledger


class KeepingKeys(ContentKeys):
    """It notes that a subject was erased, and keeps the key."""

    def erase(self, subject: str, time: datetime) -> tuple[bytes, ...]:
        """Only note it."""
        ids = self.ids_of(subject)
        with transaction(self._connection, self.path) as connection:
            connection.execute("UPDATE subjects SET erased = ? WHERE id = ?", (columns.micros(time), ids[-1]))
        return ids


@contextmanager
def keeping_keys() -> Iterator[None]:
    """Have erasures of this process keep the keys meanwhile."""
    with mock.patch("insource.governance.erasure.ContentKeys", KeepingKeys):
        yield


@contextmanager
def keeping_rows() -> Iterator[None]:
    """Have ledgers of this process delete no row of a subject that was erased meanwhile."""
    with mock.patch.object(Ledger, "_drop_erased", lambda ledger: 0):
        yield
