"""What stands around the cascade in a rehearsal: an upstream that gives the log's references, and a ledger in memory.

They record what the gateway would; neither knows what will be done with it. Rows are numbered as they come.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

from insource.answers import AnswerSpace
from insource.backends.contract import BackendInfo, Health
from insource.cascade.audit_sample import Finding
from insource.cascade.choice import Choice
from insource.lifecycle.lessons import Lesson, unbiased
from insource.lifecycle.stream import Stream
from insource.store.ledger_reader import LedgerRow
from insource.store.signals import Signal
from insource.types import Answer, Audit, Content, Example, Reason, Request

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
PACE = timedelta(seconds=1)
UNSURE = frozenset({Reason.BELOW_THRESHOLD, Reason.NO_THRESHOLD})
"""Why a request went up though the version had answered: what the reference says of that answer is a sign of drift."""
OUTSIDE_SET = -1


class LogClock:
    """The log's own time: that of the request at `row`; a request whose line says none came a second after the last."""

    def __init__(self, requests: Sequence[Request], examples: Sequence[Example]) -> None:
        told = {example.request.id: example.time for example in examples}
        self._times: list[datetime] = []
        for request in requests:
            before = self._times[-1] + PACE if self._times else EPOCH
            self._times.append(told.get(request.id) or before)
        self.row = 0

    def now(self) -> datetime:
        """Return the time, UTC."""
        return self._times[self.row]


class RehearsalLedger:
    """Decisions, audits and references of one task, as `reading.Ledger` and `lessons` read them."""

    def __init__(self, clock: LogClock) -> None:
        self._clock = clock
        self._last = 0
        self._audits: list[tuple[int, Audit]] = []
        self._signals: list[Signal] = []
        self._said: dict[str, tuple[str, AnswerSpace]] = {}
        self._rows: dict[str, LedgerRow] = {}
        self.lessons: list[Lesson] = []

    def decided(self, choice: Choice, text: str, space: AnswerSpace | None) -> None:
        """Write a decision with its text; `space` is the closed set of the version that decided, if one did."""
        decision, label = choice.decision, choice.scored.label if choice.scored is not None else None
        number, version = self._next(), decision.version
        content = Content(decision.request_id, decision.time, decision.task, text)
        self._rows[decision.request_id] = LedgerRow(number, decision, None, (), content, None, False)
        if version is not None and decision.score is not None:
            self._signals.append(Signal(number, decision.time, version, decision.score, decision.answer))
            if label is not None and space is not None and decision.reason in UNSURE:
                self._said[decision.request_id] = (label, space)

    def answered(self, request_id: str, reference: str) -> None:
        """Write the reference that came for a request: from now on it is a lesson."""
        row, number = self._rows[request_id], self._next()
        decision, content = row.decision, row.content
        assert content is not None
        self._rows[request_id] = replace(row, content=replace(content, reference=reference))
        fair = unbiased(decision)
        self.lessons.append(Lesson(number, request_id, decision.time, content.text, reference, "upstream", fair))
        if request_id in self._said and decision.version is not None:
            said, space = self._said.pop(request_id)
            label = space.normalise(reference)
            place = OUTSIDE_SET if label is None else space.index(label)
            told = Signal(number, decision.time, decision.version, None, None, label == said, place)
            self._signals.append(told)

    async def record(self, finding: Finding) -> None:
        """Write an audit; a finding without one says only that the reference is known."""
        if finding.audit is not None:
            self._audits.append((self._next(), finding.audit))

    def audits(
        self, task: str | None = None, *, after: int = 0, limit: int | None = None
    ) -> Iterator[tuple[int, Audit]]:
        """Yield the audits above `after`, each with its number, in that order; there is one task."""
        first = bisect_right(self._audits, after, key=lambda row: row[0])
        yield from self._audits[first : None if limit is None else first + limit]

    def last_row(self) -> int:
        """Return the number of the last row."""
        return self._last

    def signals(self, task: str, *, after: int = 0, until: int) -> Iterator[Signal]:
        """Yield what the rows above `after` and up to `until` say of drift, in their order."""
        first = bisect_right(self._signals, after, key=_number)
        yield from self._signals[first : bisect_right(self._signals, until, key=_number)]

    def decision(self, request_id: str) -> LedgerRow | None:
        """Return the decision with its text and, once that has come, its reference."""
        return self._rows.get(request_id)

    def _next(self) -> int:
        self._last += 1
        return self._last


def _number(signal: Signal) -> int:
    return signal.seq


class RecordedUpstream:
    """A backend that gives each request its own reference, which the ledger then knows; `calls` counts, by request."""

    def __init__(self, stream: Stream, ledger: RehearsalLedger) -> None:
        pairs = zip(stream.requests, stream.references, strict=True)
        self._references = {request.id: reference for request, reference in pairs}
        self._ledger = ledger
        self.calls: Counter[str] = Counter()

    @property
    def info(self) -> BackendInfo:
        """Its name."""
        return BackendInfo("upstream")

    async def answer(self, request: Request) -> Answer:
        """Return the reference."""
        self.calls[request.id] += 1
        reference = self._references[request.id]
        self._ledger.answered(request.id, reference)
        return Answer("upstream", reference)

    async def answer_many(self, requests: Sequence[Request]) -> list[Answer]:
        """Return the reference of each."""
        return [await self.answer(request) for request in requests]

    async def health(self) -> Health:
        """Always ready."""
        return Health(True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing was opened."""
