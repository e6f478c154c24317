"""The ledger as a worker sees it: rows are made here, sent once per turn of the event loop, acknowledged in batches.

It knows a socket and no file. Once the socket is lost nothing can be recorded, so everything waiting and everything
later fails: a worker without its ledger must not serve.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Self, TypeVar, cast

import msgspec

from insource.errors import InsourceError, Overloaded, StoreError
from insource.store.columns import Act, Feedback
from insource.store.frames import Splitter, Told, WireJob, error_of, frame, wire_job
from insource.store.group_commit import again
from insource.store.rows import RowMaker, Rows
from insource.types import Audit, Content, Decision, Settlement

LOG = logging.getLogger("insource.store")
PACE_SECONDS = 0.005
UNHURRIED_SECONDS = 0.02
"""How long a row that nobody waits for may wait for one that somebody does: a commit of its own would be in its way."""
GONE = (
    "The ledger's process is gone, so no decision can be recorded and nothing is served. "
    "It is started again by whatever started the gateway."
)

Waiting = asyncio.Future[int | None]
W = TypeVar("W", bound="Waiting | None")


class LedgerClient:
    """One connection to the ledger's process; make it with `connect` and use it on that event loop only."""

    def __init__(self, clock: Callable[[], datetime], retention: timedelta, bound: int,
                 gone: Callable[[], None]) -> None:  # fmt: skip
        self.failing: StoreError | None = None
        self._clock = clock
        self._rows = RowMaker(retention)
        self._bound = bound
        self._loop = asyncio.get_running_loop()
        self._when_gone = gone
        self._link = _Link(self._told, self._ended)
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(Told)
        self._jobs: list[WireJob] = []
        self._pace: asyncio.Handle | None = None
        self._awaited = self._under_way = False
        self._next = 0
        self._unacknowledged: dict[int, Waiting | None] = {}
        self._lost = 0
        self._gone: StoreError | None = None
        self._all_told = asyncio.Event()

    @classmethod
    async def connect(
        cls,
        connected: socket.socket,
        *,
        clock: Callable[[], datetime],
        retention_days: int = 30,
        bound: int = 10_000,
        gone: Callable[[], None] = lambda: None,
    ) -> Self:
        """Return the client at the other end of a `LedgerServer`'s connected Unix socket.

        `bound` is how many rows may be unacknowledged before `append` and `note` raise Overloaded; `gone` is called
        once when the socket is lost before `close`.
        """
        client = cls(clock, timedelta(days=retention_days), bound, gone)
        await client._loop.create_unix_connection(lambda: client._link, sock=connected)
        return client

    async def append(self, decision: Decision, content: Content | None = None, *, keep_text: bool = False) -> None:
        """Return once the decision is committed and synced by the ledger's process.

        Raises StoreFull, StoreError (an identifier used before, or the process is gone) or Overloaded; then nothing
        may be sent, though only a lost process leaves open whether the row was written.
        """
        self._admit()
        waiting: Waiting = self._loop.create_future()
        self._queue(self._rows.decision(decision, content, keep_text), False, waiting)
        await waiting

    def note(self, decision: Decision, content: Content | None = None, *, keep_text: bool = False) -> None:
        """Queue the decision; see `LedgerWriter.note`."""
        self._admit()
        self._queue(self._rows.decision(decision, content, keep_text), False, None)

    def settle(self, settlement: Settlement, content: Content | None = None, *, keep_text: bool = False) -> Waiting:
        """Queue what became of a decided request. Raises StoreError where the ledger's process is gone."""
        return self._queue(self._rows.settlement(settlement, content, keep_text), True, _Unwatched(loop=self._loop))

    def audit(self, audit: Audit, content: Content | None = None, *, keep_text: bool = False) -> Waiting:
        """Queue what the audit sample learned; as `settle`."""
        return self._queue(self._rows.audit(audit, content, keep_text), True, _Unwatched(loop=self._loop))

    def act(self, who: str, what: str, subject: str, detail: str | None = None, *, patient: bool = True) -> Waiting:
        """Queue an administrative act at the clock's time; as `settle`."""
        rows = self._rows.act(Act(self._clock(), who, what, subject, detail))
        return self._queue(rows, patient, _Unwatched(loop=self._loop))

    async def feedback(self, feedback: Feedback) -> None:
        """Return once a person's answer is committed and synced; raises as `append`, StoreError for an unknown id."""
        self._admit()
        waiting: Waiting = self._loop.create_future()
        self._queue(self._rows.feedback(feedback), False, waiting)
        await waiting

    async def purge(self, now: datetime) -> int:
        """Have expired contents erased, by the clock of the ledger's process (`now` is not asked); return how many."""
        self._check()
        self._flush()
        waiting: Waiting = self._loop.create_future()
        self._link.write(frame(self._encoder.encode((self._number(waiting), (), True))))
        return await waiting or 0

    @property
    def waiting(self) -> int:
        """How many rows are not acknowledged yet."""
        return len(self._unacknowledged)

    @property
    def lost(self) -> int:
        """How many rows that nobody awaited could not be written, from this process."""
        return self._lost

    async def close(self) -> None:
        """Send what is queued, wait until all of it is acknowledged (or the server is gone), and close the socket."""
        self._flush()
        while self._unacknowledged:
            self._all_told.clear()
            await self._all_told.wait()
        self._gone = self._gone or StoreError("The ledger is closed; connect again to write.")
        self._link.close()

    def _check(self) -> None:
        if self._gone is not None:
            raise again(self._gone)

    def _admit(self) -> None:
        if len(self._unacknowledged) >= self._bound:
            raise Overloaded(
                f"{len(self._unacknowledged)} rows wait to be written to the ledger; at most {self._bound} may. "
                "Try again in a second; if it lasts, the disk is too slow or full."
            )

    def _queue(self, rows: Rows, patient: bool, waiting: W) -> W:
        if self._gone is not None:
            raise again(self._gone)
        if not self._awaited and waiting is not None and not isinstance(waiting, _Unwatched):
            self._awaited = True
            if not self._under_way:
                self._hurry(self._loop.call_soon(self._flush))
        if self._pace is None:
            self._pace = self._loop.call_later(UNHURRIED_SECONDS, self._flush)
        self._jobs.append(wire_job(rows, patient))
        self._number(waiting)
        return waiting

    def _hurry(self, pace: asyncio.Handle) -> None:
        if self._pace is not None:
            self._pace.cancel()
        self._pace = pace

    def _number(self, waiting: Waiting | None) -> int:
        number = self._next
        self._unacknowledged[number] = waiting
        self._next += 1
        return number

    def _flush(self) -> None:
        """Send what has queued up; what comes now goes when this is answered, and at the latest PACE_SECONDS later.

        The ledger commits one batch at a time anyway, so that a second one under way would only cost both sides. Rows
        that nobody waits for go with the next that somebody waits for, and at the latest UNHURRIED_SECONDS later.
        """
        if self._pace is not None:
            self._pace.cancel()
            self._pace = None
        jobs, self._jobs = self._jobs, []
        self._awaited = False
        if jobs and self._gone is None:
            self._under_way = True
            self._pace = self._loop.call_later(PACE_SECONDS, self._flush)
            self._send(jobs, self._next - len(jobs))

    def _send(self, jobs: list[WireJob], first: int) -> None:
        """Send the jobs in one frame; where that cannot be, halve until only the job at fault is left out."""
        try:
            framed = frame(self._encoder.encode((first, jobs)))
        except Exception as error:
            if len(jobs) == 1:
                told = StoreError(f"A row cannot be sent to the ledger's process ({type(error).__name__}: {error}).")
                self._fail(self._unacknowledged.pop(first), told)
                return
            half = len(jobs) // 2
            self._send(jobs[:half], first)
            self._send(jobs[half:], first + half)
            return
        self._link.write(framed)

    def _told(self, body: bytes) -> None:
        told = self._decoder.decode(body)
        for number in told.done:
            _resolve(self._unacknowledged.pop(number), None)
        for number, rows in told.erased:
            _resolve(self._unacknowledged.pop(number), rows)
        if told.done:
            self.failing = None
        for number, code, message in told.failed:
            self._fail(self._unacknowledged.pop(number), error_of(code, message))
        if not self._unacknowledged:
            self._all_told.set()
        self._under_way = False
        if self._awaited:
            self._flush()

    def _fail(self, waiting: Waiting | None, error: InsourceError) -> None:
        if waiting is None or isinstance(waiting, _Unwatched):
            self._lost += 1
            LOG.error("a row was not written to the ledger: %s", error)
        if waiting is None:
            self.failing = error if isinstance(error, StoreError) else StoreError(str(error))
        elif not waiting.done():
            waiting.set_exception(error)
            if isinstance(waiting, _Unwatched):
                waiting.exception()  # looked at: it has been logged, and nobody else need look

    def _ended(self, error: Exception | None) -> None:
        if self._gone is not None:
            return
        self._gone = StoreError(GONE)
        waiting, self._unacknowledged = self._unacknowledged, {}
        self._jobs.clear()
        for one in waiting.values():
            self._fail(one, again(self._gone))
        self._all_told.set()
        self._when_gone()


class _Unwatched(asyncio.Future[int | None]):
    """A row that nobody waits for; its failure is counted and logged."""


class _Link(asyncio.Protocol):
    """The socket: whole frames in, bytes out."""

    def __init__(self, told: Callable[[bytes], None], ended: Callable[[Exception | None], None]) -> None:
        self._told = told
        self._ended = ended
        self._splitter = Splitter()
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's is no subclass of it

    def data_received(self, data: bytes) -> None:
        for body in self._splitter.feed(data):
            self._told(body)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._ended(error)

    def write(self, framed: bytes) -> None:
        """Send bytes; those for a lost socket are dropped, as all who wait are told of the loss."""
        if self._transport is not None:
            self._transport.write(framed)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def _resolve(waiting: Waiting | None, value: int | None) -> None:
    if waiting is not None and not waiting.done():  # else cancelled: nobody waits any more
        waiting.set_result(value)
