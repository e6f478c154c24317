"""The queue of kept requests that wait for a person: asked, answered or dismissed, and their texts erased in time.

It knows rows, states and moments; neither what a task's answers are nor who may give one. `registry` holds the file.
"""

from __future__ import annotations

import json
import logging
from abc import ABC, abstractmethod
from base64 import b64decode, b64encode
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import apsw

from insource.errors import ArtifactDamaged, UnknownReview, UserError
from insource.store import columns
from insource.store.columns import Act, Feedback, Source
from insource.store.content_keys import ContentKeys, Seal, read_seal
from insource.store.outbox import post

LOG = logging.getLogger("insource.store")
REVIEW = "request_id, time, task, text, suggestion, score, state, answer, who, answered_at, seal"
SELECT = f"SELECT {REVIEW} FROM reviews"
ASK = f"""
INSERT INTO reviews ({REVIEW}) VALUES (?, ?, ?, ?, ?, ?, 'waiting', NULL, NULL, NULL, ?)
ON CONFLICT (request_id) DO NOTHING
"""
CLOSE = "UPDATE reviews SET state = ?, answer = ?, who = ?, answered_at = ? WHERE request_id = ?"
CLOSED = """
SELECT request_id, seal FROM reviews
WHERE answered_at IS NOT NULL AND answered_at <= ? AND (text IS NOT NULL OR suggestion IS NOT NULL)
"""
CLOSED_OF_TASK = f"{CLOSED} AND task = ?"
CLOSED_OF_OTHERS = f"{CLOSED} AND task NOT IN (SELECT value FROM json_each(?))"
KEPT = "SELECT request_id, seal, state, task FROM reviews WHERE text IS NOT NULL OR suggestion IS NOT NULL"
ERASE = "UPDATE reviews SET text = NULL, suggestion = NULL WHERE request_id = ?"


class State(StrEnum):
    """Where a kept request stands: only one that waits may change, and once."""

    WAITING = "waiting"
    ANSWERED = "answered"
    DISMISSED = "dismissed"


@dataclass(frozen=True, slots=True)
class Review:
    """A kept request. `text` is what the specialist saw, `suggestion` its best answer; both None once erased.

    `suggestion` is None, too, where no specialist had an answer; `score` is that of the suggestion, `seal` has the ids
    of the texts' keys.
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
    seal: Seal | None = None


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
        subject: str | None = None,
    ) -> None:
        """Queue a request; it is durable on return. One that is queued already stays as it was.

        Its text is sealed under a key of its own, and its subject's where it names one; of a subject that was erased
        since `time` nothing is queued.
        """
        with self._content_keys() as keys:
            of_subject = () if subject is None else keys.seal_of(subject=subject, time=time, expires=None)
            if of_subject is None or self.review(request_id) is not None:
                return
            seal = (keys.fresh(), *of_subject)
            sealed = seal_texts(keys, seal, request_id, text, suggestion)
        if sealed[0] is None:  # erased a moment ago
            return
        with self._writing() as connection:
            values = (request_id, columns.micros(time), task, *sealed, score, b"".join(seal))
            connection.execute(ASK, values)

    def reviews(self, task: str | None = None, state: str | None = State.WAITING) -> tuple[Review, ...]:
        """Return the reviews (of one task) in a state, None for all, oldest first."""
        wanted = "WHERE (?1 IS NULL OR task = ?1) AND (?2 IS NULL OR state = ?2) ORDER BY time, request_id"
        rows = self._read(f"{SELECT} {wanted}", (task, state))
        with self._content_keys() as keys:
            return tuple(_to_review(row, keys) for row in rows)

    def review(self, request_id: str) -> Review | None:
        """Return one review, or None."""
        rows = self._read(f"{SELECT} WHERE request_id = ?", (request_id,))
        with self._content_keys() as keys:
            return _to_review(rows[0], keys) if rows else None

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

    def purge_reviews(self, now: datetime, retention: timedelta, tasks: Mapping[str, timedelta] | None = None) -> int:
        """Erase text and suggestion of what was closed `retention` ago or earlier, and return of how many.

        For a task in `tasks` what stands there takes the place of `retention`. The rows stay, as do the answers; the
        keys of the texts are destroyed. Erased bytes are overwritten in the file, and the write-ahead log is emptied
        unless another process is in the way; then a later purge does it.
        """
        tasks = tasks or {}
        closed = self._read(CLOSED_OF_OTHERS, (columns.micros(now - retention), json.dumps(list(tasks))))
        for task, kept in tasks.items():
            closed += self._read(CLOSED_OF_TASK, (columns.micros(now - kept), task))
        self._destroy([bytes(seal) for _, seal in closed if seal])  # first: the rows are found again, the keys are not
        with self._writing() as connection:
            for request_id, _ in closed:
                connection.execute(ERASE, (request_id,))
        self._empty_log()
        return len(closed)

    def erase_reviews(self, subjects: Collection[bytes], who: str, time: datetime) -> tuple[str, ...]:
        """Erase the texts sealed under keys of a subject, and return their requests; those that wait are dismissed."""
        wanted = set(subjects)
        found = [row for row in self._read(KEPT, ()) if row[1] and wanted & set(read_seal(row[1]))]
        self._destroy([bytes(row[1]) for row in found])
        with self._writing() as connection:
            for request_id, _, _, task in found:
                if self.find_review(request_id).state is State.WAITING:
                    self._close(connection, request_id, task, State.DISMISSED, None, who, time)
                connection.execute(ERASE, (request_id,))
        self._empty_log()
        return tuple(row[0] for row in found)

    def _destroy(self, seals: Sequence[bytes]) -> None:
        """Destroy the texts' own keys."""
        if seals:
            with self._content_keys() as keys:
                keys.destroy(read_seal(seal)[0] for seal in seals)

    def _close_review(self, request_id: str, state: State, answer: str | None, who: str, time: datetime) -> Review:
        with self._writing() as connection:
            review = self.find_review(request_id)
            if review.state is not State.WAITING:
                raise UserError(
                    f"Request {request_id!r} was {review.state} already, by {review.who}; one that waits was expected. "
                    "An answer that was given may have been used, so it stays. `insource review` lists what waits."
                )
            self._close(connection, request_id, review.task, state, answer, who, time)
        return self.find_review(request_id)

    def _close(self, connection: apsw.Connection, request_id: str, task: str, state: State, answer: str | None,
               who: str, time: datetime) -> None:  # fmt: skip
        connection.execute(CLOSE, (state, columns.plain(answer), who, columns.micros(time), request_id))
        act = Act(time, who, "review", request_id, f"{state}, task {task}")  # never a word of the text
        connection.execute(columns.INSERT_ACT, columns.act_values(act))
        if answer is not None:
            post(connection, Feedback(request_id, time, task, answer, who, Source.REVIEW))

    @abstractmethod
    def _content_keys(self) -> AbstractContextManager[ContentKeys]: ...

    @abstractmethod
    def _writing(self) -> AbstractContextManager[apsw.Connection]: ...

    @abstractmethod
    def _read(self, statement: str, values: Sequence[Any]) -> list[Any]: ...

    @abstractmethod
    def _empty_log(self) -> None: ...


def seal_texts(
    keys: ContentKeys, seal: Seal, request_id: str, text: str | None, suggestion: str | None
) -> tuple[str | None, str | None]:
    """Return text and suggestion sealed, as Base64: the columns are text."""

    def sealed(at: int, value: str | None) -> str | None:
        plain = columns.plain(value)
        data = None if plain is None else keys.seal(seal, _place(request_id, at), plain.encode())
        return None if data is None else b64encode(data).decode()

    return sealed(0, text), sealed(1, suggestion)


def _place(request_id: str, at: int) -> bytes:
    return f"reviews {at} {request_id}".encode("utf-8", "surrogatepass")


def _to_review(row: Sequence[Any], keys: ContentKeys) -> Review:
    request_id, time, task, text, suggestion, score, state, answer, who, answered_at, seal = row

    def opened(at: int, value: str | None) -> str | None:
        if value is None or seal is None:
            return None
        try:
            data = keys.opened(read_seal(seal), _place(request_id, at), b64decode(value))
        except (ArtifactDamaged, ValueError) as error:
            LOG.error("the text of request %s that is kept for review is left out: %s", request_id, error)
            return None
        return None if data is None else data.decode()

    return Review(
        request_id=request_id,
        time=columns.moment(time),
        task=task,
        text=opened(0, text),
        suggestion=opened(1, suggestion),
        score=score,
        state=State(state),
        answer=answer,
        who=who,
        answered_at=None if answered_at is None else columns.moment(answered_at),
        seal=None if seal is None else read_seal(seal),
    )
