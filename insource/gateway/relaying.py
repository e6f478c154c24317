"""One escalated request on its way: relayed byte for byte, and settled however it ends.

It knows what has been sent and read so far; it chooses nothing and never asks twice.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING

from insource.backends.reply import Reply, ReplyReader, read_whole
from insource.errors import InsourceError, RequestError, UpstreamError
from insource.gateway.body import ClientGone, unless_gone
from insource.gateway.recorder import Exchange
from insource.gateway.sending import Client, send_answer, send_error, told
from insource.gateway.stack import Stack
from insource.gateway.wire import broken_off
from insource.types import Answer, Relay, Task

if TYPE_CHECKING:
    from insource.gateway.gateway import Gateway

SLICE_BYTES = 4_096
CLIENT_GONE = 499
"""The status on record where the client left before its reply was complete; nothing like it is ever sent."""


class Relaying:
    """Asks the upstream, passes its reply on as it comes, and settles with what was read of it."""

    def __init__(self, gateway: Gateway, stack: Stack, exchange: Exchange, client: Client) -> None:
        self._gateway = gateway
        self._stack = stack
        self._exchange = exchange
        self._client = client
        self._served_by = "none"
        self._attempts: int | None = None
        self._began = perf_counter()
        self._status: int | None = None
        self._events = False
        self._reader: ReplyReader | None = None

    async def run(self) -> None:
        """Relay until the end, the upstream's failure, or the client's leaving."""
        try:
            await unless_gone(self._client.connection, self._relay())
        except InsourceError as error:
            await self._failed(error)
        except ClientGone:
            self._settle(CLIENT_GONE, "the client left")
        except BaseException:
            await self._break_off(InsourceError("The gateway is stopping; the reply is cut here."))
            self._settle(CLIENT_GONE, "broken off by the gateway")
            raise

    async def _relay(self) -> None:
        exchange, request = self._exchange, self._exchange.request
        told_up = self._gateway.spans.headers(exchange.token)
        if told_up:
            request = replace(request, headers={**request.headers, **told_up})
        answer = await self._stack.chooser.reply(request, exchange.choice)
        self._served_by, self._attempts = answer.served_by, answer.attempts
        relay = answer.relay
        if relay is None:
            await self._answer(answer)
            return
        self._gateway.metrics.observe(
            "insource_first_byte_seconds", perf_counter() - self._began, upstream=self._served_by
        )
        if relay.whole is not None:
            await self._pass_whole(relay, relay.whole)
            return
        try:
            await self._pass_on(relay)
        finally:
            await relay.close()
        self._settle(relay.status, None)

    async def _answer(self, answer: Answer) -> None:
        exchange = self._exchange
        safe = exchange.task.moderation_safe if exchange.task is not None else ()
        await send_answer(self._client.send, exchange.request, exchange.choice.decision, answer, safe)
        self._settle(200, None, Reply(200, answer.content, answer.usage))

    async def _pass_whole(self, relay: Relay, body: bytes) -> None:
        self._status = relay.status
        send = self._client.send
        await send({"type": "http.response.start", "status": relay.status, "headers": self._headers(relay)})
        await send({"type": "http.response.body", "body": body})
        await relay.close()
        self._settle(relay.status, None, self._read(relay, body))

    def _read(self, relay: Relay, body: bytes) -> Reply:
        request, safe = self._exchange.request, _unflagged(self._exchange.task)
        return read_whole(relay.status, relay.headers, body, request.dialect, safe=safe)

    async def _pass_on(self, relay: Relay) -> None:
        request, safe = self._exchange.request, _unflagged(self._exchange.task)
        self._reader = reader = ReplyReader(relay.status, relay.headers, dialect=request.dialect, safe=safe)
        self._status, self._events = relay.status, reader.streams
        send = self._client.send
        await send({"type": "http.response.start", "status": relay.status, "headers": self._headers(relay)})
        async for chunk in relay.chunks:
            try:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            except BaseException:  # a client that reads slowly may leave meanwhile; what came is on record all the same
                reader.feed(chunk)
                raise
            await read_along(reader, chunk)
        await send({"type": "http.response.body", "body": b""})

    def _headers(self, relay: Relay) -> list[tuple[bytes, bytes]]:
        headers = [_raw(name, value) for name, value in relay.headers if not name.lower().startswith("x-insource-")]
        return headers + told(self._exchange.choice.decision, self._served_by)

    async def _failed(self, error: InsourceError) -> None:
        """Send the error while nothing was sent; afterwards break off, so that the client sees an incomplete reply."""
        if self._status is not None:
            await self._break_off(error)
            self._settle(self._status, f"{error.code} after the reply had begun")
            return
        status = error.status if isinstance(error, UpstreamError | RequestError) else 502
        self._settle(status, error.code)
        headers = told(self._exchange.choice.decision, self._served_by)
        await send_error(self._client.send, error, headers, status, self._exchange.request.dialect)

    async def _break_off(self, error: InsourceError) -> None:
        """Tell a client that reads events why no more come; any other sees that its reply is incomplete."""
        if self._events and self._reader is not None and self._reader.readable:
            event = broken_off(error, self._exchange.request.dialect)
            await self._client.send({"type": "http.response.body", "body": event, "more_body": False})

    def _settle(self, status: int, detail: str | None, reply: Reply | None = None) -> None:
        if reply is None and self._reader is not None:
            reply = self._reader.finish()
            if detail is not None and reply.pieces:
                detail = f"{detail}; {reply.pieces} pieces of text had come"
        self._gateway.recorder.settled(
            self._exchange,
            status,
            self._served_by,
            reply=reply,
            compared=self._stack.compared(self._exchange.choice, reply),
            seconds=perf_counter() - self._began,
            detail=detail,
            attempts=self._attempts,
        )


async def read_along(reader: ReplyReader, chunk: bytes) -> None:
    """Read a chunk that has been passed on; of a stream, in slices with the loop's other work between them.

    Events may be as short as a few bytes, and one worker relays many streams: reading a long chunk at once would keep
    everybody else waiting. Whatever interrupts it, the whole chunk is read.
    """
    at = 0
    try:
        while reader.streams and len(chunk) - at > SLICE_BYTES:
            reader.feed(chunk[at : at + SLICE_BYTES])
            at += SLICE_BYTES
            await asyncio.sleep(0)
    finally:
        reader.feed(chunk[at:])
    await asyncio.sleep(0)


def _unflagged(task: Task | None) -> str | None:
    """Return the answer that stands for a moderation that flags nothing."""
    return next(iter(task.moderation_safe), None) if task is not None else None


def _raw(name: str, value: str) -> tuple[bytes, bytes]:
    return name.encode("latin-1"), value.encode("latin-1")
