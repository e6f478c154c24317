"""What supervisor and worker say to each other: one JSON object a line over a socket that both inherited.

It knows the messages' shapes; what is done about one stands in `supervisor` and `worker`.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Literal, Self

import msgspec

from insource.config.given import Given
from insource.errors import InsourceError

LONGEST_LINE = 64 * 2**20

Kind = Literal["start", "reload", "counted", "ready", "done", "refused"]


class Message(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One message.

    To a worker: "start" and "reload" with what the configuration is read from, "counted" with a reload's result
    for the metrics. From a worker: "ready" after a start, "done" after a reload, "refused" after either, with an
    error's code and message.
    """

    kind: Kind
    given: Given | None = None
    code: str = ""
    message: str = ""


class Control:
    """One end of the socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, connected: socket.socket) -> Self:
        """Take over a connected Unix socket."""
        return cls(*await asyncio.open_unix_connection(sock=connected, limit=LONGEST_LINE))

    def send(self, message: Message) -> None:
        """Queue a message; what is sent to an end that is gone is lost, as `receive` says there."""
        self._writer.write(msgspec.json.encode(message) + b"\n")

    async def receive(self) -> Message | None:
        """Return the next message; None once the other end is gone, or says what is no message."""
        try:
            line = await self._reader.readline()
            return msgspec.json.decode(line, type=Message) if line else None
        except (OSError, ValueError, msgspec.MsgspecError):
            return None

    def close(self) -> None:
        """Close the socket."""
        self._writer.close()


def new_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop for a process of the gateway: uvloop's where there is one for the system."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def error_told(message: Message) -> InsourceError:
    """Return the error that a "refused" message tells of, of its own class."""
    return _by_code(InsourceError).get(message.code, InsourceError)(message.message)


def _by_code(kind: type[InsourceError]) -> dict[str, type[InsourceError]]:
    found = {kind.code: kind}
    for below in kind.__subclasses__():
        found |= _by_code(below)
    return found
