"""One reply as it arrives on a connection, for the one who waits for it, and the ways in which it can fail.

It holds bytes and wakes its reader. It knows no transport and no parser.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

Headers = tuple[tuple[str, str], ...]


class Failed(Exception):
    """An exchange failed; the text says why, in fixed words, and `sent` how often the request went out."""

    sent = 1


class Unreachable(Failed):
    """There is no connection."""


class ConnectTimeout(Failed):
    """There was no connection in time."""


class Silent(Failed):
    """Nothing came for too long, or the reply's head was not complete in time."""


class Endless(Failed):
    """The reply was not whole in time, however steadily it came."""


class Broken(Failed):
    """The connection ended, or what came on it is no HTTP, before the reply was complete."""


class Stale(Broken):
    """A connection that had been kept open was closed as the request was sent: the keep-alive race."""


class Source(Protocol):
    """What a reply needs of its connection."""

    def abort(self) -> None:
        """Cut it."""

    def resume(self) -> None:
        """Read on."""


class Reply:
    """One reply as it arrives: `status` and `headers` once `head` has returned, then the body through `read`.

    Header names are in small letters, values decoded as latin-1, those of the connection left out. `sent` is how often
    the request went out for it.
    """

    __slots__ = ("_connection", "_loop", "_waiter", "complete", "failure", "headers", "parts", "sent", "size", "status")

    def __init__(self, connection: Source, loop: asyncio.AbstractEventLoop) -> None:
        self.status = 0
        self.headers: Headers = ()
        self.parts: list[bytes] = []
        self.size = 0
        self.sent = 1
        self.complete = False
        self.failure: Failed | None = None
        self._connection: Source | None = connection
        self._loop = loop
        self._waiter: asyncio.Future[None] | None = None

    @property
    def whole(self) -> bytes | None:
        """The whole body where all of it is here and none was read; else None."""
        return b"".join(self.parts) if self.complete else None

    async def head(self) -> None:
        """Wait for status and headers; raise Failed where they do not come, and give up when cancelled."""
        while not self.status:
            if self.failure is not None:
                raise self.failure
            await self._wait()

    async def read(self) -> bytes:
        """Return what has arrived, waiting for some; b"" at the end. Raise Failed where the body breaks off."""
        while not self.parts:
            if self.complete:
                return b""
            if self.failure is not None:
                raise self.failure
            await self._wait()
        chunk = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
        self.parts.clear()
        self.size = 0
        if self._connection is not None:
            self._connection.resume()
        return chunk

    def close(self) -> None:
        """Let go of the reply: before its end, the connection is cut at once."""
        if self._connection is not None:
            self._connection.abort()
        self.parts.clear()

    def end(self, failure: Failed | None) -> None:
        """Called by the connection: nothing more will come."""
        self.complete, self.failure, self._connection = failure is None, failure, None
        self.wake()

    def wake(self) -> None:
        """Called by the connection: something has come."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        except BaseException:  # cancelled: nobody waits for the reply any more
            self.close()
            raise
        finally:
            self._waiter = None
