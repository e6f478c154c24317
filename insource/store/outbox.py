"""People's answers and acts on their way into the ledger: kept in the registry, which takes many writers, until then.

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
from insource.store.columns import Act, Feedback

POST = f"INSERT INTO outbox ({columns.FEEDBACK}, state) VALUES (?, ?, ?, ?, ?, ?, 'waiting')"
WAITING = f"SELECT {columns.FEEDBACK} FROM outbox WHERE state = 'waiting' ORDER BY seq LIMIT ?"
UNTOLD = f"SELECT seq, {columns.ACT} FROM acts WHERE seq > (SELECT seq FROM acts_told) ORDER BY seq LIMIT ?"
TELL = "UPDATE acts_told SET seq = max(seq, ?)"
CLOSE = "UPDATE outbox SET state = ? WHERE request_id = ? AND time = ? AND who = ? AND source = ?"


class Delivered(StrEnum):
    """What became of an answer on its way: the ledger has it, or knows no such request."""

    DELIVERED = "delivered"
    REFUSED = "refused"


class Outbox(ABC):
    """The registry's methods for answers and acts on their way; the subclass brings the file."""

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

    def post_act(self, act: Act) -> None:
        """Record an administrative act, and send it on its way into the ledger; durable on return."""
        with self._writing() as connection:
            connection.execute(columns.INSERT_ACT, columns.act_values(act))

    def outgoing_acts(self, limit: int = 1_000) -> tuple[tuple[int, Act], ...]:
        """Return the acts that the ledger does not have yet, each with its number here, oldest first."""
        return tuple((row[0], columns.to_act(row[1:])) for row in self._read(UNTOLD, (limit,)))

    def close_acts(self, number: int) -> None:
        """Record that the ledger has the acts up to a number."""
        with self._writing() as connection:
            connection.execute(TELL, (number,))

    @abstractmethod
    def _writing(self) -> AbstractContextManager[apsw.Connection]: ...

    @abstractmethod
    def _read(self, statement: str, values: Sequence[Any]) -> list[Any]: ...


def post(connection: apsw.Connection, feedback: Feedback) -> None:
    """Add an answer within the caller's transaction."""
    connection.execute(POST, columns.feedback_values(feedback))
