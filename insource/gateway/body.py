"""Receiving a body: within a size, within a time, and no longer than somebody is there who sends it.

It knows ASGI and nothing of what the bytes mean.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from insource.errors import RequestTooLarge, RequestTooSlow

T = TypeVar("T")


class ClientGone(Exception):
    """The client closed its connection; there is nobody to answer."""


async def read_body(receive: Receive, declared: str | None, *, max_bytes: int, seconds: float) -> bytes:
    """Return the whole body; `declared` is its Content-Length header.

    Raises RequestTooLarge above `max_bytes`, at once where the header says so; RequestTooSlow after `seconds`;
    ClientGone where the connection closes before the end.
    """
    if declared is not None and declared.isdigit() and int(declared) > max_bytes:
        raise _too_large(int(declared), max_bytes)
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


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns; cancel it and raise ClientGone as soon as the client closes its connection."""
    job = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((job, watch), return_when=asyncio.FIRST_COMPLETED)
        if job.done():
            return job.result()
        job.cancel()
        await asyncio.wait((job,))
        raise ClientGone
    finally:
        watch.cancel()
        if not job.done():
            job.cancel()
            await asyncio.wait((job,))


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


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
