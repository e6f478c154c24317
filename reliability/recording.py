"""What leaves this process, on record: the connections that Python asks for, and all bytes that servers outside get.

A connection off the list is recorded and refused. It sees asyncio's own loop, threads and libraries in Python; not
uvloop, which connects without telling Python. It knows no gateway and no promise.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

Address = tuple[str, int]

CONNECTS = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
LOOK_UPS = frozenset({"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"})


class Blocked(ConnectionRefusedError):
    """A connection off the list was asked for."""


@dataclass
class Watch:
    """Where connections may go while it watches; what was asked for, and which names were looked up."""

    allowed: set[Address] = field(default_factory=set)
    asked: list[Address] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    @property
    def off_the_list(self) -> list[Address]:
        """The connections that were asked for and refused."""
        return [address for address in self.asked if address not in self.allowed]

    def see(self, event: str, args: tuple[Any, ...]) -> None:
        """Note an event of Python's; raise Blocked for a connection off the list. Local sockets are in the house."""
        if event in LOOK_UPS:
            name = args[0]
            self.names.append(name.decode("latin-1") if isinstance(name, bytes) else str(name))
        elif isinstance(args[1], tuple):
            address = (str(args[1][0]), int(args[1][1]))
            self.asked.append(address)
            if address not in self.allowed:
                raise Blocked(f"{address} is off the list")


class _Hook:
    """Python's audit hook, which cannot be taken away again: installed once, idle while nobody watches."""

    def __init__(self) -> None:
        self.watch: Watch | None = None
        self._installed = False

    def install(self) -> None:
        if not self._installed:
            self._installed = True
            sys.addaudithook(self._see)

    def _see(self, event: str, args: tuple[Any, ...]) -> None:
        if self.watch is not None and (event in CONNECTS or event in LOOK_UPS):
            self.watch.see(event, args)


_HOOK = _Hook()


@contextmanager
def watched_connections() -> Iterator[Watch]:
    """Watch every connection of this process meanwhile; one watch at a time."""
    _HOOK.install()
    assert _HOOK.watch is None, "one watch at a time"
    _HOOK.watch = watch = Watch()
    try:
        yield watch
    finally:
        _HOOK.watch = None


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came: its first line, its headers in small letters, its body."""

    line: str
    headers: dict[str, str]
    body: bytes


Script = Callable[[Received, int], bytes | str]
"""Takes a request and its number; returns the whole reply, "hang" or "reset", or "cut" for half a reply."""


def reply(status: int, body: bytes, *headers: tuple[str, str]) -> bytes:
    """Return a whole HTTP/1.1 reply."""
    told = "".join(f"{name}: {value}\r\n" for name, value in headers)
    head = f"HTTP/1.1 {status} Said\r\ncontent-type: application/json\r\n{told}content-length: {len(body)}\r\n\r\n"
    return head.encode("latin-1") + body


class Outside:
    """A server that keeps every byte it gets, read as requests or not, and replies by script."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.bytes = bytearray()
        self.requests: list[Received] = []
        self.connections = 0
        self._server: asyncio.Server
        self._open: set[asyncio.StreamWriter] = set()
        self._stopped: asyncio.Event

    @property
    def address(self) -> Address:
        """Where it listens."""
        host, port = self._server.sockets[0].getsockname()[:2]
        return host, port

    @property
    def base_url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.address[1]}/v1"

    async def __aenter__(self) -> Self:
        """Listen on loopback."""
        self._stopped = asyncio.Event()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cut all connections and stop."""
        self._stopped.set()
        self._server.close()
        for writer in tuple(self._open):
            writer.transport.abort()
        while self._open:
            await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            while await self._exchange(reader, writer):
                pass
        writer.transport.abort()
        self._open.discard(writer)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Take one request and reply; return whether another may come on this connection."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            self.bytes += error.partial
            return False
        self.bytes += head
        line, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        headers = dict(
            (name.strip().lower(), value.strip()) for name, _, value in (each.partition(":") for each in lines)
        )
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.bytes += body
        self.requests.append(received := Received(line, headers, body))
        return await self._reply(self.script(received, len(self.requests) - 1), writer)

    async def _reply(self, said: bytes | str, writer: asyncio.StreamWriter) -> bool:
        if said == "hang":
            await self._stopped.wait()
        elif said == "cut":
            writer.write(b"HTTP/1.1 200 Said\r\ncontent-length: 100\r\n\r\n{")
            await writer.drain()
        elif isinstance(said, bytes):
            writer.write(said)
            await writer.drain()
            return True
        return False
