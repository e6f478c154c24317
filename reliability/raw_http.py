"""A client that puts any bytes on the wire and reads what comes back as HTTP, strictly.

It knows one connection; it neither mends what it is told to send nor guesses at what it gets.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

import httptools


@dataclass(slots=True)
class Reply:
    """One reply: status, headers in small letters (a repeated one: the last), body; whether it came to its end."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = False


class Wire(asyncio.Protocol):
    """One connection; `replies` fills as they come. `garbled` says that what came is no HTTP."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.closed = False
        self.garbled = False
        self._came = asyncio.Event()
        self._parser = httptools.HttpResponseParser(self)
        self._bodyless = False
        self._transport: asyncio.Transport

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connect."""
        loop = asyncio.get_running_loop()
        _, wire = await loop.create_connection(cls, "127.0.0.1", port)
        return wire

    async def ask(self, data: bytes, seconds: float, *, bodyless: bool = False) -> Reply | None:
        """Send a request and return its reply; None where none came whole in that time (bodyless: a HEAD's).

        A reply that nobody asked for counts as garbled.
        """
        self.garbled = self.garbled or bool(self.replies)
        self._bodyless = bodyless
        self.send(data)
        await self.until(1, seconds)
        first, self.replies = self.replies[:1], self.replies[1:]
        return first[0] if first and first[0].whole and not self.garbled else None

    def send(self, data: bytes) -> None:
        """Send bytes."""
        if not self.closed:
            self._transport.write(data)

    async def until(self, number: int, seconds: float) -> None:
        """Return once so many replies are whole, the connection has closed, or the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self.closed and not self.garbled and sum(reply.whole for reply in self.replies) < number:
                    self._came.clear()
                    await self._came.wait()

    def cut(self) -> None:
        """Break the connection off."""
        self._transport.abort()

    def connection_made(self, transport: Any) -> None:
        """Keep the transport."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.garbled = True
        except httptools.HttpParserError:
            self.garbled = True
        self._came.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note it."""
        self.closed = True
        self._came.set()

    def on_message_begin(self) -> None:
        """Begin a reply."""
        self.replies.append(Reply())

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        self.replies[-1].headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Note the status; an interim reply is none."""
        reply = self.replies[-1]
        reply.status = self._parser.get_status_code()
        if self._bodyless and reply.status >= 200:
            reply.whole = True

    def on_body(self, data: bytes) -> None:
        """Keep a piece of the body."""
        self.replies[-1].body += data

    def on_message_complete(self) -> None:
        """End the reply."""
        if 100 <= self.replies[-1].status < 200:
            self.replies.pop()
        else:
            self.replies[-1].whole = True
