"""The limits at both ends of a socket: the supervisor keeps them, every worker asks there.

It knows frames and which answer belongs to which question; what a limit is stands in `limits`. A worker that dies gives
its permits back, and what it had reserved counts as spent.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Literal, Self, cast

import msgspec

from insource.errors import (
    BudgetReached,
    ConcurrencyReached,
    InsourceError,
    Overloaded,
    RateReached,
    StoreBusy,
    StoreError,
    StoreFull,
)
from insource.gateway.limits import Claim, Limits, Rate, Session
from insource.store.frames import Splitter, frame

_LOG = logging.getLogger(__name__)
_KINDS: Mapping[str, type[InsourceError]] = {
    kind.code: kind
    for kind in (RateReached, ConcurrencyReached, BudgetReached, Overloaded, StoreFull, StoreBusy, StoreError)
}
_GONE = "The process that keeps the limits is gone, so nothing more is served. It is started again with the gateway."


class Asked(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a worker says; `number` is 0 where no answer is wanted."""

    what: Literal["admit", "release", "reserve", "settle"]
    number: int = 0
    key: str = ""
    rate: Rate | None = None
    concurrency: int | None = None
    claims: list[Claim] = []
    ticket: int = 0
    spent: dict[str, Decimal] = {}


class Answered(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What it hears: a ticket (0 for a permit), or an error's code, message and seconds."""

    number: int
    ticket: int = 0
    code: str = ""
    message: str = ""
    retry_after: float | None = None


class _Link(asyncio.Protocol):
    """One end of a socket: whole frames in, structs out."""

    def __init__(self, told: Callable[[bytes], None], ended: Callable[[], None]) -> None:
        self._told = told
        self._ended = ended
        self._splitter = Splitter()
        self._encoder = msgspec.msgpack.Encoder()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._ended()

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._splitter.feed(data):
                self._told(body)
        except (ValueError, msgspec.MsgspecError) as error:
            _LOG.error("what came about limits cannot be read (%s); the connection is closed", error)
            if self._transport is not None:
                self._transport.abort()

    def send(self, told: Asked | Answered) -> None:
        if self._transport is not None:
            self._transport.write(frame(self._encoder.encode(told)))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class LimitsServer:
    """Serves limits that stay their opener's, on the running event loop."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    async def serve(self, connected: socket.socket) -> None:
        """Answer the other end of a connected Unix socket until it is closed there."""
        peer = _Peer(self._limits.session())
        await asyncio.get_running_loop().create_unix_connection(lambda: peer.link, sock=connected)


class _Peer:
    """One worker's connection."""

    def __init__(self, session: Session) -> None:
        self.link = _Link(self._told, self._ended)
        self._session = session
        self._decoder = msgspec.msgpack.Decoder(Asked)
        self._jobs: set[asyncio.Future[None]] = set()
        self._lost = False

    def _told(self, body: bytes) -> None:
        asked = self._decoder.decode(body)
        if asked.what == "release":
            self._session.release(asked.key)
        elif asked.what == "settle":
            self._session.settle(asked.ticket, asked.spent)
        else:
            job = asyncio.ensure_future(self._answer(asked))
            self._jobs.add(job)
            job.add_done_callback(self._jobs.discard)

    async def _answer(self, asked: Asked) -> None:
        ticket = 0
        try:
            if asked.what == "admit":
                await self._session.admit(asked.key, asked.rate, asked.concurrency)
            else:
                ticket = await self._session.reserve(asked.key, asked.claims)
        except InsourceError as error:
            self.link.send(Answered(asked.number, 0, error.code, str(error), error.retry_after))
        except Exception as error:
            _LOG.exception("limits could not be kept")
            self.link.send(Answered(asked.number, 0, StoreError.code, f"Limits failed ({type(error).__name__})."))
        else:
            self.link.send(Answered(asked.number, ticket))
        if self._lost:
            self._session.close()

    def _ended(self) -> None:
        self._lost = True
        self._session.close()


class LimitsClient:
    """A worker's end; a `Limiter`. Make it with `connect` and use it on that event loop only."""

    def __init__(self) -> None:
        self._link = _Link(self._told, self._ended)
        self._decoder = msgspec.msgpack.Decoder(Answered)
        self._waiting: dict[int, tuple[asyncio.Future[int], str]] = {}
        self._next = 0
        self._gone = False

    @classmethod
    async def connect(cls, connected: socket.socket) -> Self:
        """Return the client at the other end of a `LimitsServer`'s connected Unix socket."""
        client = cls()
        await asyncio.get_running_loop().create_unix_connection(lambda: client._link, sock=connected)
        return client

    async def admit(self, key: str, rate: Rate | None, concurrency: int | None) -> None:
        """Take a permit; raises RateReached, ConcurrencyReached, StoreError."""
        await self._ask(Asked("admit", self._number(), key, rate, concurrency))

    def release(self, key: str) -> None:
        """Give it back."""
        self._link.send(Asked("release", key=key))

    async def reserve(self, key: str, claims: Sequence[Claim]) -> int:
        """Return a ticket; raises BudgetReached, StoreError."""
        return await self._ask(Asked("reserve", self._number(), key, claims=list(claims)))

    def settle(self, ticket: int, spent: Mapping[str, Decimal]) -> None:
        """Tell what was spent."""
        self._link.send(Asked("settle", ticket=ticket, spent=dict(spent)))

    def close(self) -> None:
        """Close the socket."""
        self._link.close()

    def _number(self) -> int:
        self._next += 1
        return self._next

    async def _ask(self, asked: Asked) -> int:
        if self._gone:
            raise StoreError(_GONE)
        waiting: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting[asked.number] = (waiting, asked.key)
        self._link.send(asked)
        return await waiting

    def _told(self, body: bytes) -> None:
        told = self._decoder.decode(body)
        waiting, key = self._waiting.pop(told.number)
        if waiting.cancelled():  # nobody wants it any more: it goes back
            if not told.code and told.ticket:
                self.settle(told.ticket, dict.fromkeys(("money", "tokens"), Decimal(0)))
            elif not told.code:
                self.release(key)
        elif told.code:
            error = _KINDS.get(told.code, StoreError)(told.message)
            error.retry_after = told.retry_after
            waiting.set_exception(error)
        else:
            waiting.set_result(told.ticket)

    def _ended(self) -> None:
        self._gone = True
        waiting, self._waiting = self._waiting, {}
        for one, _ in waiting.values():
            if not one.done():
                one.set_exception(StoreError(_GONE))
