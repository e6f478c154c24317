"""Clients that keep a connection busy with next to nothing: heads and bodies that trickle in, replies that nobody
takes.

Each is one socket that does a little at every tick. It knows HTTP's bytes and TCP's states; it knows no gateway.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

ESTABLISHED = 1
SMALL = 4_096
"""The receive buffer of a client that takes no reply, in bytes: what the system takes for it must not be much."""
STREAMED = b"stream-a-lot"
WHOLE = b"reply-at-length"
"""What a body says so that the upstream replies with more than the buffers on the way hold."""

Pieces = Callable[[], Iterator[bytes]]


def _head(path: str, *headers: str, method: str = "POST") -> bytes:
    return "\r\n".join((f"{method} {path} HTTP/1.1", "host: 127.0.0.1", *headers)).encode() + b"\r\n"


def _chat(*headers: str) -> bytes:
    return _head("/v1/chat/completions", *headers)


def _slow_head() -> Iterator[bytes]:
    yield _chat()
    yield from (b"x: y\r\n"[at % 6 : at % 6 + 1] for at in range(10**9))


def _slow_body() -> Iterator[bytes]:
    yield _chat("content-length: 100000") + b'\r\n{"model":"'
    yield from (b"x" for _ in range(10**9))


def _slow_body_of_some_length() -> Iterator[bytes]:
    yield _chat("content-length: 1000000") + b'\r\n{"model":"' + b"x" * 100_000
    yield from (b"x" for _ in range(10**9))


def _slow_chunks() -> Iterator[bytes]:
    yield _chat("transfer-encoding: chunked") + b"\r\n"
    yield from (b"1\r\n{\r\n" for _ in range(10**9))


def _slow_head_then_body() -> Iterator[bytes]:
    yield from (bytes([byte]) for byte in b"POST ")
    yield _head("/v1/chat/completions", "content-length: 100000")[5:] + b"\r\n{"
    yield from (b" " for _ in range(10**9))


def _body_after_the_reply() -> Iterator[bytes]:
    yield _chat("content-length: 100000", "origin: https://evil.example") + b"\r\n{"
    yield from (b" " for _ in range(10**9))


def _body_of_a_get() -> Iterator[bytes]:
    yield _head("/healthz", "content-length: 100000", method="GET") + b"\r\n"
    yield from (b" " for _ in range(10**9))


def _blank_lines_between() -> Iterator[bytes]:
    yield _head("/healthz", method="GET") + b"\r\n"
    yield from (b"\r\n" for _ in range(10**9))


def _after_an_upgrade() -> Iterator[bytes]:
    yield _head("/healthz", "connection: upgrade", "upgrade: h2c", method="GET") + b"\r\n"
    yield from (b"x" for _ in range(10**9))


def _unread(body: bytes) -> Pieces:
    def pieces() -> Iterator[bytes]:
        yield _chat(f"content-length: {len(body)}") + b"\r\n" + body
        while True:
            yield b""

    return pieces


WAYS: Mapping[str, Pieces] = {
    "slow head": _slow_head,
    "slow body": _slow_body,
    "unread stream": _unread(b'{"model":"gpt-4o","stream":true,"user":"%b"}' % STREAMED),
    "slow body of some length": _slow_body_of_some_length,
    "body after the reply": _body_after_the_reply,
    "slow chunks": _slow_chunks,
    "unread reply": _unread(b'{"model":"gpt-4o","user":"%b"}' % WHOLE),
    "slow head, then body": _slow_head_then_body,
    "body of a GET": _body_of_a_get,
    "blank lines between requests": _blank_lines_between,
    "after an upgrade": _after_an_upgrade,
    "slowly read stream": _unread(b'{"model":"gpt-4o","stream":true,"user":"%b"}' % STREAMED),
}


class Trickler:
    """One connection that trickles in one of the ways; `closed` says that the other side has closed it."""

    def __init__(self, way: str, port: int) -> None:
        self.way = way
        self.closed = False
        self._pieces = WAYS[way]()
        self._socket = socket.socket()
        if "read" in way:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        self._socket.connect(("127.0.0.1", port))
        self._socket.setblocking(False)

    def tick(self) -> None:
        """Send the next piece, take the next bytes where that is its way, and see whether it still stands."""
        with suppress(OSError):
            self._socket.send(next(self._pieces))
        if self.way.startswith("slowly"):
            with suppress(OSError):
                self._socket.recv(10)
        self.closed = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != ESTABLISHED

    def leave(self) -> None:
        """Close it."""
        self._socket.close()
