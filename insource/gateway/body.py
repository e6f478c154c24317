"""Receiving a body: within a size, within a time, and no longer than somebody is there who sends it.

It knows ASGI and the connection's word of what has arrived; nothing of what the bytes mean.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from insource.errors import Overloaded, RequestTooLarge, RequestTooSlow
from insource.gateway.protocol import Connection

T = TypeVar("T")

ROOM_BYTES = 2**28
"""What all bodies that are being received may hold together; beyond it, those that still grow are refused."""


class ClientGone(Exception):
    """The client closed its connection; there is nobody to answer."""


async def read_body(
    receive: Receive, connection: Connection, declared: str | None, *, max_bytes: int, seconds: float
) -> bytes:
    """Return the whole body; `declared` is its Content-Length header.

    Raises RequestTooLarge above `max_bytes`, at once where the header says so; RequestTooSlow `seconds` after the
    request began to arrive; Overloaded where too much is being received; ClientGone where the connection closes before
    the end.
    """
    if declared is not None and declared.isdigit() and int(declared) > max_bytes:
        raise _too_large(int(declared), max_bytes)
    if connection.complete:  # the usual case: it came with the headers, so nobody need watch the clock
        message: Any = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        if not message.get("more_body", False):
            return _checked(message.get("body", b""), max_bytes)
        return await _pieces(receive, connection, message.get("body", b""), max_bytes, seconds)
    return await _pieces(receive, connection, b"", max_bytes, seconds)


async def _pieces(receive: Receive, connection: Connection, first: bytes, max_bytes: int, seconds: float) -> bytes:
    """Take a body that comes in pieces."""
    pieces, length, room = [first], len(first), connection.room
    began = connection.began if connection.began is not None else asyncio.get_running_loop().time()
    room.held += length
    try:
        more = True
        while more:
            message = await _receive(receive, began + seconds, seconds)
            pieces.append(message.get("body", b""))
            length += len(pieces[-1])
            room.held += len(pieces[-1])
            more = message.get("more_body", False)
            if length > max_bytes:
                raise _too_large(length, max_bytes)
            if more and room.held > max(ROOM_BYTES, max_bytes):
                raise Overloaded(
                    f"Bodies of {room.held} bytes are being received; at most {ROOM_BYTES} are held at once."
                )
    finally:
        room.held -= length
    return b"".join(pieces)


async def unless_gone(connection: Connection, work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns; cancel it and raise ClientGone as soon as the client closes its connection."""
    job = asyncio.current_task()
    assert job is not None, "there is always a job on an event loop"
    left = False

    def gone() -> None:
        nonlocal left
        left = True
        job.cancel()

    connection.watch(gone)
    try:
        return await work
    except asyncio.CancelledError:
        if left and job.uncancel() == 0:
            raise ClientGone from None
        raise
    finally:
        connection.forget(gone)


async def _receive(receive: Receive, until: float, seconds: float) -> Any:
    try:
        async with asyncio.timeout_at(until):
            message = await receive()
    except TimeoutError as error:
        raise RequestTooSlow(
            f"The request's body was not complete after {seconds:g} s; it was expected by then."
        ) from error
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message


def _checked(body: bytes, max_bytes: int) -> bytes:
    if len(body) > max_bytes:
        raise _too_large(len(body), max_bytes)
    return body


def _too_large(length: int, max_bytes: int) -> RequestTooLarge:
    return RequestTooLarge(f"The body has {length} bytes or more; at most {max_bytes} are taken.")
