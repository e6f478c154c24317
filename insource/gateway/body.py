"""Receiving a body: within a size, within a time, and no longer than somebody is there who sends it.

It knows ASGI and the connection's word of what has arrived; nothing of what the bytes mean.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from insource.errors import RequestTooLarge, RequestTooSlow
from insource.gateway.protocol import Connection

T = TypeVar("T")


class ClientGone(Exception):
    """The client closed its connection; there is nobody to answer."""


async def read_body(
    receive: Receive, connection: Connection, declared: str | None, *, max_bytes: int, seconds: float
) -> bytes:
    """Return the whole body; `declared` is its Content-Length header.

    Raises RequestTooLarge above `max_bytes`, at once where the header says so; RequestTooSlow after `seconds`;
    ClientGone where the connection closes before the end.
    """
    if declared is not None and declared.isdigit() and int(declared) > max_bytes:
        raise _too_large(int(declared), max_bytes)
    if connection.complete:  # the usual case: it came with the headers, so nobody need watch the clock
        message: Any = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
    else:
        message = await _receive(receive, seconds)
    if not message.get("more_body", False):
        return _checked(message.get("body", b""), max_bytes)
    pieces, length = [message.get("body", b"")], len(message.get("body", b""))
    ends = asyncio.get_running_loop().time() + seconds
    while message.get("more_body", False):
        message = await _receive(receive, ends - asyncio.get_running_loop().time(), seconds)
        pieces.append(message.get("body", b""))
        length += len(pieces[-1])
        if length > max_bytes:
            raise _too_large(length, max_bytes)
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


async def _receive(receive: Receive, left: float, seconds: float | None = None) -> Any:
    try:
        async with asyncio.timeout(left):
            message = await receive()
    except TimeoutError as error:
        raise RequestTooSlow(
            f"The request's body was not complete after {seconds or left:g} s; it was expected by then."
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
