"""The queue of kept requests that wait for a person: asked, answered or dismissed, and their texts erased in time.

It knows rows, states and moments; neither what a task's answers are nor who may give one. `registry` holds the file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import apsw

from insource.errors import UnknownReview, UserError
from insource.store import columns
from insource.store.columns import Act, Feedback, Source
from insource.store.outbox import post

REVIEW = "request_id, time, task, text, suggestion, score, state, answer, who, answered_at"
SELECT = f"SELECT {REVIEW} FROM reviews"
ASK = f"""
INSERT INTO reviews ({REVIEW}) VALUES (?, ?, ?, ?, ?, ?, 'waiting', NULL, NULL, NULL)
ON CONFLICT (request_id) DO NOTHING
"""
CLOSE = "UPDATE reviews SET state = ?, answer = ?, who = ?, answered_at = ? WHERE request_id = ?"
ERASE = """
UPDATE reviews SET text = NULL, suggestion = NULL
WHERE answered_at IS NOT NULL AND answered_at <= ? AND (text IS NOT NULL OR suggestion IS NOT NULL)
"""
INSERT_ACT = f"INSERT INTO acts ({columns.ACT}) VALUES (?, ?, ?, ?, ?)"


class State(StrEnum):
    """Where a kept request stands: only one that waits may change, and once."""

    WAITING = "waiting"
    ANSWERED = "answered"
    DISMISSED = "dismissed"


@dataclass(frozen=True, slots=True)
class Review:
    """A kept request. `text` is what the specialist saw, `suggestion` its best answer; both None once erased.

    `suggestion` is None, too, where no specialist had an answer; `score` is that of the suggestion.
    """

    request_id: str
    time: datetime
    task: str
    text: str | None
    suggestion: str | None
    score: float | None
    state: State
    answer: str | None = None
    who: str | None = None
    answered_at: datetime | None = None


class Reviews(ABC):
    """The registry's methods for the queue; the subclass brings the file."""

    def ask_review(
        self,
        request_id: str,
        task: str,
        text: str,
        suggestion: str | None,
        time: datetime,
        score: float | None = None,
    ) -> None:
        """Queue a request; it is durable on return. One that is queued already stays as it was."""
        values = (request_id, columns.micros(time), task, columns.plain(text), columns.plain(suggestion), score)
        with self._writing() as connection:
            connection.execute(ASK, values)

    def reviews(self, task: str | None = None, state: str | None = State.WAITING) -> tuple[Review, ...]:
        """Return the reviews (of one task) in a state, None for all, oldest first."""
        wanted = "WHERE (?1 IS NULL OR task = ?1) AND (?2 IS NULL OR state = ?2) ORDER BY time, request_id"
        return tuple(_to_review(row) for row in self._read(f"{SELECT} {wanted}", (task, state)))

    def review(self, request_id: str) -> Review | None:
        """Return one review, or None."""
        rows = self._read(f"{SELECT} WHERE request_id = ?", (request_id,))
        return _to_review(rows[0]) if rows else None

    def find_review(self, request_id: str) -> Review:
        """Return one review; raises UnknownReview."""
        review = self.review(request_id)
        if review is None:
            raise UnknownReview(
                f"No request {request_id[:80]!r} was queued for review here; the id of a kept request was expected, as "
                "x-insource-request-id gives it. `insource review` lists those that wait."
            )
        return review

    def waiting_reviews(self) -> int:
        """Return how many requests wait."""
        return int(self._read("SELECT count(*) FROM reviews WHERE state = 'waiting'", ())[0][0])

    def answer_review(self, request_id: str, answer: str, who: str, time: datetime) -> Review:
        """Record a person\'s answer with the act, and send it on its way into the ledger.

        Raises UnknownReview, UserError where none is awaited.
        """
        return self._close_review(request_id, State.ANSWERED, answer, who, time)

    def dismiss_review(self, request_id: str, who: str, time: datetime) -> Review:
        """Record that nobody will answer, together with the act; raises as `answer_review` does."""
        return self._close_review(request_id, State.DISMISSED, None, who, time)

    def export_reviews(self, task: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield the answered requests (of one task) as traffic records, the person's answer as gold, oldest first.

        Those whose text has been erased are left out.
        """
        for review in self.reviews(task, State.ANSWERED):
            if review.text is not None:
                yield {"text": review.text, "gold": review.answer, "task": review.task, "time": review.time}

    def purge_reviews(self, now: datetime, retention: timedelta) -> int:
        """Erase text and suggestion of what was closed `retention` ago or earlier, and return of how many.

        The rows stay, as do the answers. Erased bytes are overwritten in the file, and the write-ahead log is emptied
        unless another process is in the way; then a later purge does it.
        """
        with self._writing() as connection:
            connection.execute(ERASE, (columns.micros(now - retention),))
            erased = int(connection.changes())
        self._empty_log()
        return erased

    def _close_review(self, request_id: str, state: State, answer: str | None, who: str, time: datetime) -> Review:
        with self._writing() as connection:
            review = self.find_review(request_id)
            if review.state is not State.WAITING:
                raise UserError(
                    f"Request {request_id!r} was {review.state} already, by {review.who}; one that waits was expected. "
                    "An answer that was given may have been used, so it stays. `insource review` lists what waits."
                )
            connection.execute(CLOSE, (state, columns.plain(answer), who, columns.micros(time), request_id))
            act = Act(time, who, "review", request_id, f"{state}, task {review.task}")  # never a word of the text
            connection.execute(INSERT_ACT, columns.act_values(act))
            if answer is not None:
                post(connection, Feedback(request_id, time, review.task, answer, who, Source.REVIEW))
        return self.find_review(request_id)

    @abstractmethod
    def _writing(self) -> AbstractContextManager[apsw.Connection]: ...

    @abstractmethod
    def _read(self, statement: str, values: Sequence[Any]) -> list[Any]: ...

    @abstractmethod
    def _empty_log(self) -> None: ...


def _to_review(row: Sequence[Any]) -> Review:
    request_id, time, task, text, suggestion, score, state, answer, who, answered_at = row
    return Review(
        request_id=request_id,
        time=columns.moment(time),
        task=task,
        text=text,
        suggestion=suggestion,
        score=score,
        state=State(state),
        answer=answer,
        who=who,
        answered_at=None if answered_at is None else columns.moment(answered_at),
    )
