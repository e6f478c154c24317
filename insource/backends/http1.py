"""One HTTP/1.1 connection as a client: a request's bytes out, its reply's bytes in, each exchange once.

llhttp (httptools) parses, on an asyncio transport; what is held and how long is waited are bounded. It knows no pool,
no upstream and no meaning of what passes, and tells nobody a word of it. Framing is RFC 9112's, read strictly.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import lru_cache
from math import inf
from typing import cast

import httptools

from insource.backends.http1_reply import Broken, Endless, Failed, Headers, Reply, Silent, Stale

HEAD_BYTES = 64 * 1024
"""The longest head of a reply, interim replies included; as much may pass in a body without a byte of body in it."""
HELD_BYTES = 256 * 1024
"""How much of a body may wait for its reader before no more is read from the socket."""
PIECE_BYTES = 64 * 1024
RACE_SECONDS = 1.0
"""A reused connection that ends this soon after the request, without a byte, was closed before the request came."""

HOP_BY_HOP = frozenset(
    """connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding
    upgrade""".split()
)


class _Refused(Exception):
    """Raised into the parser to stop it; the reason stands with the connection."""


class Connection(asyncio.Protocol):
    """A connection for one exchange after another.

    `silence` is the longest wait in seconds for a whole head, and in a body for the next byte; `whole` the longest from
    the request to the reply's end, however steadily it comes or slowly it is read. `free` is called with the connection
    when it can be used again, `lost` once its transport is gone.
    """

    def __init__(
        self,
        silence: float,
        free: Callable[[Connection], None],
        lost: Callable[[Connection], None],
        race: float = RACE_SECONDS,
        whole: float = inf,
    ) -> None:
        self.made = False
        self.used = False
        self.idle_since = 0.0
        self._silence, self._race, self._whole = silence, race, whole
        self._free, self._lost = free, lost
        self._loop = asyncio.get_running_loop()
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None
        self._reply: Reply | None = None
        self._raw: list[tuple[bytes, bytes]] = []
        self._unsent = memoryview(b"")
        self._full = self._paused = self._interim = self._bodyless = self._to_the_end = self._reusable = False
        self._sent_at = self._since = 0.0
        self._received = self._barren = 0
        self._reason = ""

    @property
    def alive(self) -> bool:
        """Whether it stands, as far as anyone here knows."""
        return self.made and not self._transport.is_closing()

    def send(self, head: bytes, body: bytes, *, bodyless: bool) -> Reply:
        """Send a request and return the reply to come; `bodyless` where it will have no body, whatever its head says.

        A large body goes out as fast as the other side takes it, while the reply may come already.
        """
        reply = self._reply = Reply(self, self._loop)
        self._raw = []
        self._bodyless = bodyless
        self._interim = self._to_the_end = self._reusable = False
        self._received = self._barren = 0
        self._sent_at = self._since = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_at(self._since + min(self._silence, self._whole), self._watch)
        if len(body) <= PIECE_BYTES:
            self._transport.write(head + body)
        else:
            self._unsent = memoryview(body)
            self._transport.write(head)
            self._send_more()
        return reply

    def abort(self, failure: Failed | None = None) -> None:
        """Cut the connection at once; a reply under way fails."""
        self._end(failure or Broken("it was given up here"))
        self._transport.abort()

    def resume(self) -> None:
        """Read on after the reader took what was waiting."""
        if self._paused and not self._transport.is_closing():
            self._paused = False
            self._since = self._loop.time()
            self._transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport; small writes leave at once."""
        self._transport, self.made = cast(asyncio.Transport, transport), True
        raw = transport.get_extra_info("socket")
        if raw is not None and raw.family in (socket.AF_INET, socket.AF_INET6):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what was under way, and tell that the connection is gone."""
        if self._reply is not None:
            self._end(self._ended_early("the connection was reset" if exc else "the connection was closed"))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._parser = None  # it holds this object
        self._lost(self)

    def eof_received(self) -> bool:
        """End a reply whose length is the connection's; nothing more is sent to a server that has hung up."""
        reply = self._reply
        if reply is not None and reply.status and self._to_the_end:
            self._end(None)
        elif reply is not None:
            self._end(self._ended_early("the connection was closed"))
        self._transport.abort()
        return False

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        self._full = True

    def resume_writing(self) -> None:
        """It has room again: the other side takes bytes, which is no silence."""
        self._full = False
        self._since = self._loop.time()
        self._send_more()

    def data_received(self, data: bytes) -> None:
        """Parse what came; bytes that nobody asked for end the connection."""
        reply, parser = self._reply, self._parser
        if reply is None or parser is None:
            self.abort()
            return
        before = reply.size
        try:
            if reply.status:
                self._since = self._loop.time()
                parser.feed_data(data)
            else:
                self._feed_head(parser, reply, data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, _Refused):
            if self._reply is not None:
                self.abort(Broken(self._reason or "what it sent is no valid HTTP"))
                return
            self._reusable = False  # something follows the reply, which is whole
        if self._reply is None:
            self._finish()
        elif reply.status:
            self._bound(reply, 0 if reply.size > before else len(data))
            reply.wake()

    def on_message_begin(self) -> None:
        """Refuse a second reply to one request."""
        if self._reply is None:
            raise _Refused

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; what comes after a body (a trailer) is dropped."""
        if self._reply is not None and not self._reply.status:
            self._raw.append((name, value))

    def on_headers_complete(self) -> None:
        """Judge the head."""
        reply, parser = self._reply, self._parser
        if reply is None or parser is None:
            raise _Refused
        status, version = parser.get_status_code(), parser.get_http_version()
        if 100 <= status < 200 and status != 101:
            self._interim = True
            self._raw = []
            return
        if not 200 <= status < 600 or version not in ("1.1", "1.0"):
            self._refuse("its status line is not one of HTTP/1.1 with a status from 200 to 599")
        reply.headers, framed = self._read_headers(empty=status in (204, 304))
        self._to_the_end = not framed
        self._reusable = self._reusable and version == "1.1" and parser.should_keep_alive()
        reply.status = status
        self._since = self._loop.time()
        if self._bodyless:
            self._reusable = False  # the parser cannot be told that no body follows
            self._end(None)

    def on_body(self, data: bytes) -> None:
        """Hand a piece of the body on."""
        reply = self._reply
        if reply is not None:
            reply.parts.append(data)
            reply.size += len(data)

    def on_message_complete(self) -> None:
        """End the reply, unless it was an interim one."""
        if self._interim:
            self._interim = False
        elif self._reply is not None:
            self._end(None)

    def _feed_head(self, parser: httptools.HttpResponseParser, reply: Reply, data: bytes) -> None:
        """Feed what may still belong to a head, and the rest only once that head is complete."""
        room = HEAD_BYTES - self._received
        self._received += len(data)
        if len(data) <= room:
            parser.feed_data(data)
            return
        view = memoryview(data)
        parser.feed_data(view[:room])
        if not reply.status:
            self._refuse(f"its head is longer than {HEAD_BYTES} bytes")
        parser.feed_data(view[room:])

    def _read_headers(self, *, empty: bool) -> tuple[Headers, bool]:
        """Return the headers to relay, and whether they give the body's length; `empty` where there is no body."""
        headers: list[tuple[str, str]] = []
        named: set[str] = set()
        framed, self._reusable = empty, True
        for raw_name, raw_value in self._raw:
            name, value = _name(raw_name), raw_value.decode("latin-1")
            if name == "content-length":
                framed = True
                if empty:
                    continue
            elif name in HOP_BY_HOP:
                if name == "connection":
                    named.update(part.strip().lower() for part in value.split(","))
                elif name == "upgrade":
                    self._reusable = False
                elif name == "transfer-encoding":
                    if value.strip().lower() != "chunked":
                        self._refuse("its transfer-encoding is not 'chunked', the only one that may be unasked")
                    framed = True
                continue
            headers.append((name, value))
        self._raw = []
        if named - {"close", "keep-alive"}:
            headers = [(name, value) for name, value in headers if name not in named]
        return tuple(headers), framed

    def _refuse(self, reason: str) -> None:
        self._reason = reason
        raise _Refused

    def _bound(self, reply: Reply, barren: int) -> None:
        """Keep what waits for the reader, and what comes without a byte of body, within limits."""
        self._barren = self._barren + barren if barren else 0
        if self._barren > HEAD_BYTES:
            self.abort(Broken(f"{HEAD_BYTES} bytes came in its body's framing without a byte of body"))
        elif reply.size > HELD_BYTES and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def _end(self, failure: Failed | None) -> None:
        reply, self._reply = self._reply, None
        if self._unsent:
            self._unsent, self._reusable = memoryview(b""), False
        if reply is not None:
            reply.end(failure)

    def _finish(self) -> None:
        """Free the connection after a whole reply, or cut it."""
        if not self._reusable or self._paused or self._transport.get_write_buffer_size():
            self._transport.abort()
        elif not self._transport.is_closing():
            self.used = True
            self._free(self)

    def _ended_early(self, what: str) -> Failed:
        soon = self._loop.time() - self._sent_at <= self._race
        if self.used and not self._received and soon:
            return Stale(what)
        return Broken(what)

    def _send_more(self) -> None:
        while self._unsent and not self._full:
            piece, self._unsent = self._unsent[:PIECE_BYTES], self._unsent[PIECE_BYTES:]
            self._transport.write(piece)

    def _watch(self) -> None:
        """Fire at most once in `silence` seconds or `whole`; while the reader is waited for, silence starts anew."""
        self._timer = None
        reply = self._reply
        if reply is None:
            return
        now = self._loop.time()
        silent, ends = (now if self._paused else self._since) + self._silence, self._sent_at + self._whole
        if now + 0.001 < min(silent, ends):  # uvloop's clock counts milliseconds
            self._timer = self._loop.call_at(min(silent, ends), self._watch)
        elif now + 0.001 >= ends:
            self.abort(Endless("had not ended its reply"))
        else:
            begun = self._received and not reply.status
            self.abort(Silent("sent no whole head" if begun else "kept silent"))


@lru_cache(maxsize=1024)
def _name(raw: bytes) -> str:
    return raw.decode("latin-1").lower()
