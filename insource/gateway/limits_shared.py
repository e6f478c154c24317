"""The limits at both ends of a socket: the supervisor keeps them, every worker asks there.

It knows frames and which answer belongs to which question; what a limit is stands in `limits`. A worker that dies gives
its permits back, and what it had reserved counts as spent.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
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
from insource.gateway.budgets import MONEY, TOKENS, Claim
from insource.gateway.limits import Granted, LimitKeeper, Rate, Session
from insource.store.frames import Splitter, frame

_LOG = logging.getLogger(__name__)
_KINDS: Mapping[str, type[InsourceError]] = {
    kind.code: kind
    for kind in (RateReached, ConcurrencyReached, BudgetReached, Overloaded, StoreFull, StoreBusy, StoreError)
}
_GONE = "The process that keeps the limits is gone, so nothing more is served. It is started again with the gateway."


class Asked(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a worker says; `number` is 0 where no answer is wanted."""

    what: Literal["admit", "release", "unused", "reserve", "settle", "settle_part"]
    number: int = 0
    key: str = ""
    rate: Rate | None = None
    concurrency: int | None = None
    claims: list[Claim] = []
    ticket: int = 0
    spent: dict[str, Decimal] = {}
    amounts: dict[str, Decimal] = {}
    more: int = 0


class Answered(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What it hears: a ticket (0 for a permit) and what it holds for more, or an error's code, message and seconds."""

    number: int
    ticket: int = 0
    code: str = ""
    message: str = ""
    retry_after: float | None = None
    more: int = 0
    amounts: dict[str, Decimal] = {}


class _Link(asyncio.Protocol):
    """One end of a socket: lists of structs in whole frames. What is said in one turn of the loop shares a frame."""

    def __init__(self, told: Callable[[bytes], None], ended: Callable[[], None]) -> None:
        self._told = told
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._splitter = Splitter()
        self._encoder = msgspec.msgpack.Encoder()
        self._transport: asyncio.Transport | None = None
        self._unsent: list[Asked | Answered] = []

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
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(told)

    def close(self) -> None:
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if unsent and self._transport is not None:
            self._transport.write(frame(self._encoder.encode(unsent)))


class LimitsServer:
    """Serves limits that stay their opener's, on the running event loop."""

    def __init__(self, limits: LimitKeeper) -> None:
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
        self._decoder = msgspec.msgpack.Decoder(list[Asked])
        self._jobs: set[asyncio.Future[None]] = set()
        self._lost = False

    def _told(self, body: bytes) -> None:
        for asked in self._decoder.decode(body):
            self._take(asked)

    def _take(self, asked: Asked) -> None:
        session = self._session
        try:
            match asked.what:
                case "release":
                    session.release(asked.key)
                case "settle":
                    session.settle(asked.ticket, asked.spent)
                case "settle_part":
                    session.settle_part(asked.ticket, asked.amounts, asked.spent)
                case "unused":
                    session.unused(asked.key, asked.more)
                case "admit":
                    more = session.admit_now(asked.key, asked.rate, asked.concurrency, asked.more)
                    self.link.send(Answered(asked.number, more=more))
                case "reserve":
                    self._reserve(asked.number, session.reserve_now(asked.key, asked.claims, asked.more))
        except Exception as error:
            self._refuse(asked.number, error)

    def _reserve(self, number: int, found: Granted | Awaitable[Granted]) -> None:
        if isinstance(found, Granted):
            self.link.send(Answered(number, found.ticket, amounts=dict(found.more)))
            return
        job = asyncio.ensure_future(self._await(number, found))
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    async def _await(self, number: int, found: Awaitable[Granted]) -> None:
        try:
            self._reserve(number, await found)
        except Exception as error:
            self._refuse(number, error)
        if self._lost:
            self._session.close()

    def _refuse(self, number: int, error: Exception) -> None:
        """Tell what is wrong with an answer that is waited for; others have no number."""
        if not number:
            _LOG.error("limits could not be given back or settled", exc_info=error)
        elif isinstance(error, InsourceError):
            self.link.send(Answered(number, 0, error.code, str(error), error.retry_after))
        else:
            _LOG.error("limits could not be kept", exc_info=error)
            self.link.send(Answered(number, 0, StoreError.code, f"Limits failed ({type(error).__name__})."))

    def _ended(self) -> None:
        self._lost = True
        self._session.close()


class LimitsClient:
    """A worker's end; a `Limiter`. Make it with `connect` and use it on that event loop only."""

    def __init__(self) -> None:
        self._link = _Link(self._told, self._ended)
        self._decoder = msgspec.msgpack.Decoder(list[Answered])
        self._waiting: dict[int, tuple[asyncio.Future[Answered], Asked]] = {}
        self._next = 0
        self._gone = False

    @classmethod
    async def connect(cls, connected: socket.socket) -> Self:
        """Return the client at the other end of a `LimitsServer`'s connected Unix socket."""
        client = cls()
        await asyncio.get_running_loop().create_unix_connection(lambda: client._link, sock=connected)
        return client

    async def admit(self, key: str, rate: Rate | None, concurrency: int | None) -> bool:
        """Return whether a permit was taken; raises RateReached, ConcurrencyReached, StoreError."""
        await self._ask(Asked("admit", self._number(), key, rate, concurrency))
        return concurrency is not None

    async def admit_more(self, key: str, rate: Rate, more: int) -> int:
        """Take one request of the rate, and up to `more`; return how many more. Raises RateReached, StoreError."""
        return (await self._ask(Asked("admit", self._number(), key, rate, more=more))).more

    def release(self, key: str) -> None:
        """Give it back."""
        self._link.send(Asked("release", key=key))

    def unused(self, key: str, number: int) -> None:
        """Give back requests of the rate."""
        self._link.send(Asked("unused", key=key, more=number))

    async def reserve(self, key: str, claims: Sequence[Claim]) -> int:
        """Return a ticket; raises BudgetReached, StoreError."""
        return (await self.reserve_more(key, claims, 0)).ticket

    async def reserve_more(self, key: str, claims: Sequence[Claim], more: int) -> Granted:
        """Return a ticket for up to `more` times as much again; raises BudgetReached, StoreError."""
        told = await self._ask(Asked("reserve", self._number(), key, claims=list(claims), more=more))
        return Granted(told.ticket, told.amounts)

    def settle(self, ticket: int, spent: Mapping[str, Decimal]) -> None:
        """Tell what was spent."""
        self._link.send(Asked("settle", ticket=ticket, spent=dict(spent)))

    def settle_part(self, ticket: int, amounts: Mapping[str, Decimal], spent: Mapping[str, Decimal]) -> None:
        """Tell what was spent of a part of what was reserved."""
        self._link.send(Asked("settle_part", ticket=ticket, amounts=dict(amounts), spent=dict(spent)))

    def close(self) -> None:
        """Close the socket."""
        self._link.close()

    def _number(self) -> int:
        self._next += 1
        return self._next

    async def _ask(self, asked: Asked) -> Answered:
        if self._gone:
            raise StoreError(_GONE)
        waiting: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        self._waiting[asked.number] = (waiting, asked)
        self._link.send(asked)
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled() and waiting.exception() is None:  # it came just before
                self._give_back(asked, waiting.result())
            raise

    def _give_back(self, asked: Asked, told: Answered) -> None:
        """Nobody wants any more what was given: nothing is sent for it."""
        if told.ticket:
            self.settle(told.ticket, dict.fromkeys((MONEY, TOKENS), Decimal(0)))
            return
        if asked.rate is not None:
            self.unused(asked.key, told.more + 1)
        if asked.concurrency is not None:
            self.release(asked.key)

    def _told(self, body: bytes) -> None:
        for told in self._decoder.decode(body):
            self._take(told)

    def _take(self, told: Answered) -> None:
        waiting, asked = self._waiting.pop(told.number)
        if waiting.cancelled():
            if not told.code:
                self._give_back(asked, told)
        elif told.code:
            error = _KINDS.get(told.code, StoreError)(told.message)
            error.retry_after = told.retry_after
            waiting.set_exception(error)
        else:
            waiting.set_result(told)

    def _ended(self) -> None:
        self._gone = True
        waiting, self._waiting = self._waiting, {}
        for one, _ in waiting.values():
            if not one.done():
                one.set_exception(StoreError(_GONE))
