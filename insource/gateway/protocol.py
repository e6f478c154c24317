"""uvicorn's HTTP protocol with what it lacks: deadlines for a client that trickles, word of one that leaves, envelopes.

uvicorn 0.54 leaves a connection open for ever whose headers trickle in, or whose client reads no byte of its reply.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from insource.errors import RequestError
from insource.gateway.wire import envelope

EXTENSION = "insource.connection"


class Connection:
    """What an endpoint may know of its client's connection: whether the body is all there, and when it is lost."""

    __slots__ = ("_leavers", "complete", "lost")

    def __init__(self) -> None:
        self.complete = False
        self.lost = False
        self._leavers: set[Callable[[], None]] = set()

    def watch(self, gone: Callable[[], None]) -> None:
        """Call `gone` when the client leaves; at the loop's next turn where it has left already."""
        if self.lost:
            asyncio.get_running_loop().call_soon(gone)
        self._leavers.add(gone)

    def forget(self, gone: Callable[[], None]) -> None:
        """Take `watch` back."""
        self._leavers.discard(gone)

    def lose(self) -> None:
        """Tell all who watch."""
        self.lost = True
        for gone in tuple(self._leavers):
            gone()


class Protocol(HttpToolsProtocol):
    """Closes a connection whose request's headers are not there in time, or whose client takes no byte for as long."""

    receipt_seconds: float = 30.0
    _deadline: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None
    _connection: Connection

    def connection_made(self, transport: Any) -> None:
        """Start the clock for the first request."""
        super().connection_made(transport)
        self._connection = Connection()
        self._start()

    def on_message_begin(self) -> None:
        """Start it again for every further one."""
        super().on_message_begin()
        self._connection.complete = False
        self.scope["extensions"] = {EXTENSION: self._connection}  # type: ignore[dict-item]
        self._start()

    def on_headers_complete(self) -> None:
        """Stop it: the body has a deadline of its own."""
        self._stop()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that nothing of the request is missing any more."""
        super().on_message_complete()
        self._connection.complete = True

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all clocks, and tell who is at work for this client."""
        self._stop()
        self.resume_writing()
        super().connection_lost(exc)
        self._connection.lose()

    def pause_writing(self) -> None:
        """Give a client that does not read as long as one that does not write."""
        super().pause_writing()
        if self._stall is None:
            self._stall = self.loop.call_later(self.receipt_seconds, self._abort)

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, in the envelope."""
        body = envelope(RequestError(msg))
        head = f"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(head.encode() + b"connection: close\r\n\r\n" + body)
        self.transport.close()

    def _start(self) -> None:
        self._stop()
        self._deadline = self.loop.call_later(self.receipt_seconds, self._too_slow)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()

    def _abort(self) -> None:
        self._stall = None
        self.transport.abort()


def deadlines(protocol: type[Protocol], receipt_seconds: float) -> type[Protocol]:
    """Return the protocol with another deadline; uvicorn takes a class, so the deadline is the class's."""
    return type(protocol.__name__, (protocol,), {"receipt_seconds": receipt_seconds})
