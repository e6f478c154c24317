"""The connections to one server: kept open between requests, the last used first, never more than so many.

It knows where to connect and whose turn it is. It knows no header, no upstream and no policy.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from math import inf

from insource.backends.http1 import RACE_SECONDS, Connection
from insource.backends.http1_reply import Broken, ConnectTimeout, Failed, Reply, Stale, Unreachable

IDLE_SECONDS = 15.0


class Pool:
    """Exchanges requests for replies over at most `connections` connections; further callers wait, in order.

    `silence`, `whole`, `connect` and `idle` are in seconds: the longest wait for bytes, for a whole reply, for a
    connection, and how long one is kept without use. `resend` is asked whether a request may go out again. Make it
    inside a running event loop.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        silence: float = 60.0,
        connect: float = 5.0,
        connections: int = 512,
        idle: float = IDLE_SECONDS,
        race: float = RACE_SECONDS,
        whole: float = inf,
        resend: Callable[[], bool] = lambda: True,
    ) -> None:
        self._host, self._port, self._tls = host, port, tls
        self._silence, self._connect, self._limit = silence, connect, connections
        self._idle_seconds, self._race, self._whole = idle, race, whole
        self._resend = resend
        self._loop = asyncio.get_running_loop()
        self._idle: dict[Connection, None] = {}
        self._standing: set[Connection] = set()
        self._places = 0  # connections that stand, are being opened, or may be opened by a caller told so
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False
        self._all_gone: asyncio.Future[None] | None = None

    @property
    def standing(self) -> int:
        """How many connections stand."""
        return len(self._standing)

    @property
    def idle(self) -> int:
        """How many of them wait for a request."""
        return len(self._idle)

    async def exchange(self, head: bytes, body: bytes, *, bodyless: bool = False) -> Reply:
        """Send a request and return its reply once the head is there; raise Failed where none comes.

        It is sent once. Only where a kept connection turns out to have been closed by the other side, without a byte
        of reply, and `resend` allows it, is it sent again, on a new one. Cancelling cuts the connection.
        """
        connection = self._take() or await self._acquire(fresh=False)
        reply = connection.send(head, body, bodyless=bodyless)
        try:
            await reply.head()
        except Stale:
            if not self._resend():
                raise
            try:
                reply = (await self._acquire(fresh=True)).send(head, body, bodyless=bodyless)
                reply.sent = 2
                await reply.head()
            except Failed as failure:
                failure.sent = 2
                raise
        return reply

    async def close(self) -> None:
        """Cut all connections; replies under way fail. Returns once every transport is gone."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(_closed())
        self._waiting.clear()
        for connection in tuple(self._standing):
            connection.abort(_closed())
        if self._standing:
            self._all_gone = self._loop.create_future()
            await self._all_gone

    def _take(self) -> Connection | None:
        while self._idle:
            connection, _ = self._idle.popitem()
            if connection.alive:
                return connection
        return None

    async def _acquire(self, *, fresh: bool) -> Connection:
        """Return a connection, when it is the caller's turn; `fresh` for one that nobody has used."""
        first = False
        while True:
            if self._closed:
                raise _closed()
            if self._places < self._limit:
                self._places += 1
                return await self._open()
            if fresh and self._idle:  # its place comes free for us or whoever waits before us
                self._idle.popitem()[0].abort()
            given = await self._turn(first=first)
            if given is None:
                return await self._open()
            if given.alive and not fresh:
                return given
            first = True
            if given.alive:
                given.abort()

    async def _turn(self, *, first: bool) -> Connection | None:
        """Wait for a connection that came free, or None: the place of one that is gone."""
        waiter: asyncio.Future[Connection | None] = self._loop.create_future()
        (self._waiting.appendleft if first else self._waiting.append)(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                given = waiter.result()  # our turn had come; it is the next one's
                self._vacate() if given is None else self._freed(given)
            else:
                with suppress(ValueError):
                    self._waiting.remove(waiter)
            raise

    async def _open(self) -> Connection:
        connection = Connection(self._silence, self._freed, self._lost, self._race, self._whole)
        try:
            async with asyncio.timeout(self._connect):
                await self._loop.create_connection(
                    lambda: connection,
                    self._host,
                    self._port,
                    ssl=self._tls,
                    server_hostname=self._host if self._tls else None,
                )
        except BaseException as error:
            self._give_up(connection)
            if isinstance(error, TimeoutError):
                raise ConnectTimeout("no connection in time") from error
            if isinstance(error, OSError | UnicodeError):
                raise Unreachable(type(error).__name__) from error
            raise
        if not connection.alive or self._closed:
            self._give_up(connection)
            raise _closed() if self._closed else Broken("the connection was closed")
        self._standing.add(connection)
        return connection

    def _give_up(self, connection: Connection) -> None:
        """Give back the place of a connection that never came to stand; uvloop may not tell when it is lost."""
        if connection.made:
            connection.abort()
        self._vacate()

    def _freed(self, connection: Connection) -> None:
        """Give a connection that can be used again to the first who waits, or keep it."""
        if not connection.alive:
            return
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        connection.idle_since = self._loop.time()
        self._idle[connection] = None
        if self._sweeper is None and not self._closed:
            self._sweeper = self._loop.call_later(self._idle_seconds, self._sweep)

    def _lost(self, connection: Connection) -> None:
        if connection not in self._standing:
            return
        self._idle.pop(connection, None)
        self._standing.remove(connection)
        self._vacate()
        if self._all_gone is not None and not self._standing and not self._all_gone.done():
            self._all_gone.set_result(None)

    def _vacate(self) -> None:
        """Give a place to the first who waits, or count one less."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._places -= 1

    def _sweep(self) -> None:
        """Close what was idle for too long; the oldest stand first."""
        self._sweeper = None
        now = self._loop.time()
        for connection in tuple(self._idle):
            if now + 0.001 < connection.idle_since + self._idle_seconds:
                self._sweeper = self._loop.call_at(connection.idle_since + self._idle_seconds, self._sweep)
                return
            del self._idle[connection]
            connection.abort()


def _closed() -> Broken:
    return Broken("it was closed here")
