"""People's answers on their way into the ledger: kept in the registry, which takes many writers, until it has them.

It knows rows and states; `delivery` takes them over. `registry` holds the file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from enum import StrEnum
from typing import Any

import apsw

from insource.store import columns
from insource.store.columns import Feedback

POST = f"INSERT INTO outbox ({columns.FEEDBACK}, state) VALUES (?, ?, ?, ?, ?, ?, 'waiting')"
WAITING = f"SELECT {columns.FEEDBACK} FROM outbox WHERE state = 'waiting' ORDER BY seq LIMIT ?"
CLOSE = "UPDATE outbox SET state = ? WHERE request_id = ? AND time = ? AND who = ? AND source = ?"


class Delivered(StrEnum):
    """What became of an answer on its way: the ledger has it, or knows no such request."""

    DELIVERED = "delivered"
    REFUSED = "refused"


class Outbox(ABC):
    """The registry's methods for answers on their way; the subclass brings the file."""

    def post_feedback(self, feedback: Feedback) -> None:
        """Keep a person's answer for the ledger; durable on return. Raises StoreError for the same one again."""
        with self._writing() as connection:
            post(connection, feedback)

    def outgoing_feedback(self, limit: int = 1_000) -> tuple[Feedback, ...]:
        """Return the answers that the ledger does not have yet, oldest first."""
        return tuple(columns.to_feedback(row) for row in self._read(WAITING, (limit,)))

    def close_feedback(self, feedback: Feedback, state: Delivered) -> None:
        """Record what became of an answer on its way."""
        with self._writing() as connection:
            key = (feedback.request_id, columns.micros(feedback.time), feedback.who, feedback.source)
            connection.execute(CLOSE, (state, *key))

    @abstractmethod
    def _writing(self) -> AbstractContextManager[apsw.Connection]: ...

    @abstractmethod
    def _read(self, statement: str, values: Sequence[Any]) -> list[Any]: ...


def post(connection: apsw.Connection, feedback: Feedback) -> None:
    """Add an answer within the caller's transaction."""
    connection.execute(POST, columns.feedback_values(feedback))
