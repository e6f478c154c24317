"""uvicorn's HTTP protocol with what it lacks: a deadline for a request's headers, and errors in the envelope.

uvicorn 0.54 leaves a connection that trickles its headers open for ever.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from insource.errors import RequestError
from insource.gateway.wire import envelope


class Protocol(HttpToolsProtocol):
    """Closes a connection whose next request has begun, or never begins, but whose headers are not there in time."""

    receipt_seconds: float = 30.0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the clock for the first request."""
        super().connection_made(transport)
        self._start()

    def on_message_begin(self) -> None:
        """Start it again for every further one."""
        super().on_message_begin()
        self._start()

    def on_headers_complete(self) -> None:
        """Stop it: the body has a deadline of its own."""
        self._stop()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop it."""
        self._stop()
        super().connection_lost(exc)

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


def deadlines(protocol: type[Protocol], receipt_seconds: float) -> type[Protocol]:
    """Return the protocol with another deadline; uvicorn takes a class, so the deadline is the class's."""
    return type(protocol.__name__, (protocol,), {"receipt_seconds": receipt_seconds})
