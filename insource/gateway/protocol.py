"""uvicorn's HTTP protocol with what it lacks: deadlines for clients that trickle, bounds on heads, word of who leaves.

uvicorn 0.54 leaves a connection open for ever whose headers trickle in, or whose client reads no byte of its reply, and
takes headers of any length.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from insource.errors import RequestError
from insource.gateway.wire import envelope

EXTENSION = "insource.connection"
HEAD_BYTES = 2**16
"""The longest head of a request, in bytes; as much may come within a body's framing without a byte of body."""
LEAST_BYTES = 2**14
"""What a client must at least take of its reply, in bytes, in the time that it has for sending a request."""
MOMENT = 1.0
"""Seconds that an endpoint has to say that a body is late, before its connection is closed without a word."""
_NAMED_HOST = re.compile(rb"[a-zA-Z][a-zA-Z0-9+.-]*://([^/?#]*)")
_AT_ONCE = struct.pack("ii", 1, 0)


class Room:
    """What all bodies that are being received hold together, in bytes; a server has one."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held = 0


class Connection:
    """What an endpoint may know of its client's connection: whether the body is all there, and when it is lost.

    `began` is the loop's time from which the request has its deadline, None where nobody knows.
    """

    __slots__ = ("_leavers", "began", "complete", "lost", "room")

    def __init__(self, room: Room | None = None) -> None:
        self.complete = False
        self.lost = False
        self.began: float | None = None
        self.room = room or Room()
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


class _Rest:
    """What a parser calls that reads only the body of one request, whose head another one has read."""

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol
        self._whole = False

    def on_body(self, body: bytes) -> None:
        """Hand a piece on, if it is of that request."""
        if not self._whole:
            self._protocol.on_body(body)

    def on_message_complete(self) -> None:
        """Say so."""
        self._whole = True
        self._protocol.on_message_complete()


class Protocol(HttpToolsProtocol):
    """Closes a connection whose request is not there in time, or whose client takes next to nothing for as long.

    One clock runs until a request is there to its last byte, whatever is replied meanwhile.
    """

    receipt_seconds: float = 30.0
    room = Room()
    _deadline: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None
    _unsent = 0
    _headed = False
    _fed = False
    _barren = 0
    _connection: Connection
    _serving: RequestResponseCycle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the clock for the first request."""
        super().connection_made(transport)
        self._connection = Connection(self.room)
        self._start()

    def data_received(self, data: bytes) -> None:
        """Parse what came. uvicorn's own sets the clock of an idle connection back at any byte, even a blank line."""
        if len(data) > HEAD_BYTES:
            for at in range(0, len(data), HEAD_BYTES):
                if not self.transport.is_closing():
                    self.data_received(data[at : at + HEAD_BYTES])
            return
        before, between = self.scope, self.scope is None or self._connection.complete
        self._fed = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._read_on(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(b"400 Bad Request", "What came on the connection is no HTTP/1.1 request.")
        if not self._connection.complete:
            self._bound(len(data) if not self._fed and (between or self.scope is before) else 0)
        elif self.scope is before and self.cycle.response_complete and self._deadline is None:
            self._start()  # neither a request nor silence

    def on_message_begin(self) -> None:
        """Start the clock; that of a connection which has brought no request yet, or blank lines, runs on."""
        super().on_message_begin()
        self._unset_keepalive_if_required()
        self._headed = False
        self._barren = 0
        self._connection.complete = False
        self.scope["extensions"] = {EXTENSION: self._connection}  # type: ignore[dict-item]
        if self._deadline is None:
            self._start()

    def on_headers_complete(self) -> None:
        """Have the request served; an absolute target's host takes the place of the Host header (RFC 9112, 3.2.2)."""
        if self.url[:1] != b"/" and (named := _NAMED_HOST.match(self.url)):
            self.headers[:] = [header for header in self.headers if header[0] != b"host"] + [(b"host", named[1])]
        if (
            self._barren
            and len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > HEAD_BYTES
        ):
            self._refuse_head()  # it came in several pieces, each within the bound
            raise ValueError("the parser is to read no further")
        super().on_headers_complete()
        self._headed = True
        self._barren = 0
        self.headers = []  # trailers are no headers: they end here

    def on_body(self, body: bytes) -> None:
        """Note that the body grows."""
        self._fed = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Stop the clock: nothing of the request is missing any more."""
        if self.parser.should_upgrade():
            return  # its body is yet to come
        self._stop()
        super().on_message_complete()
        self._connection.complete = True

    def on_response_complete(self) -> None:
        """See to it that a connection which is to close does, though its client takes nothing."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._watch_reader()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all clocks, and tell who is at work for this client."""
        self._stop()
        self._forget_reader()
        if self._serving is not None and not self._serving.response_complete:  # uvicorn tells the last one it read
            self._serving.disconnected = True
            self._serving.message_event.set()
        super().connection_lost(exc)
        self._connection.lose()

    def pause_writing(self) -> None:
        """Give a client that does not read as long as one that does not write."""
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._forget_reader()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that has been idle for long."""
        self._close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Keep which request is being served: with pipelining it is not the last one read."""
        self._serving = cycle
        super()._start_asgi_task(cycle, app)

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: clients may ask for an upgrade, and are served without."""

    def _read_on(self, rest: bytes) -> None:
        """Serve a request that asks for an upgrade without one, as any server may: its parser stops before its body.

        Java's and other clients ask for HTTP/2 with their first request, whatever it is.
        """
        framing = (header for header in self.scope["headers"] if header[0] in (b"content-length", b"transfer-encoding"))
        self.parser = httptools.HttpRequestParser(_Rest(self))
        self.cycle.keep_alive = False
        self.parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % b"".join(b"%b: %b\r\n" % header for header in framing))
        if not self._connection.complete:
            self.data_received(rest)

    def _bound(self, barren: int) -> None:
        """Refuse a head, or a body's framing, that does not end."""
        self._barren = self._barren + barren if barren else 0
        if self._barren > HEAD_BYTES:
            self._refuse_head()

    def _refuse_head(self) -> None:
        what = (
            f"More than {HEAD_BYTES} bytes came as a request's head, or as a body's framing; at most that was expected."
        )
        self._refuse(b"431 Request Header Fields Too Large", what)

    def _refuse(self, status: bytes, what: str) -> None:
        """Refuse what came, in the envelope, and close; replies under way to earlier requests end first."""
        if self.transport.is_closing():
            return
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if not self._headed or self._connection.complete:
                self._end_after_reply()
                return
            if cycle.response_started or self.pipeline:
                self._abort()
                return
            cycle.disconnected = True
            cycle.message_event.set()
        body = envelope(RequestError(what))
        head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n" % (status, len(body))
        self.transport.write(head + b"connection: close\r\n\r\n" + body)
        self._close()

    def _end_after_reply(self) -> None:
        """Close the connection once the last request that was read is answered."""
        self._stop()
        if self.cycle is None or self.cycle.response_complete:
            self._close()
        else:
            self.cycle.keep_alive = False

    def _start(self) -> None:
        self._connection.began = self.loop.time()
        self._deadline = self.loop.call_later(self.receipt_seconds, self._too_slow)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if self.flow.read_paused:
            self._start()  # it is we who do not read
        elif self._headed and not self._connection.complete and not self.cycle.response_complete:
            self._deadline = self.loop.call_later(MOMENT, self._close)
        else:
            self._close()

    def _close(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
            self._watch_reader()

    def _watch_reader(self) -> None:
        if self._stall is None:
            self._unsent = self.transport.get_write_buffer_size()
            self._stall = self.loop.call_later(self.receipt_seconds, self._check_reader)

    def _forget_reader(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _check_reader(self) -> None:
        """Cut a connection whose client takes next to nothing; one that reads a long reply slowly keeps its own."""
        self._stall = None
        if self._unsent - self.transport.get_write_buffer_size() >= LEAST_BYTES:
            self._watch_reader()
        else:
            self._abort()

    def _abort(self) -> None:
        """Cut the connection, and have the system drop what the client did not take."""
        with suppress(OSError, AttributeError):
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self.transport.abort()


def deadlines(protocol: type[Protocol], receipt_seconds: float) -> type[Protocol]:
    """Return the protocol with another deadline; uvicorn takes a class, so the deadline is the class's."""
    return type(protocol.__name__, (protocol,), {"receipt_seconds": receipt_seconds, "room": Room()})
