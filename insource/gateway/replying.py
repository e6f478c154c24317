"""Sending what was chosen: an accepted answer rendered, an escalated one relayed, an error in the envelope.

Whatever happens to the sending, the request is settled exactly once. It takes no decision.
"""

from __future__ import annotations

from collections.abc import Iterable
from time import perf_counter

from starlette.types import Receive, Send

from insource.backends.reply import Reply, ReplyReader
from insource.errors import InsourceError, RequestError, UpstreamError
from insource.gateway.body import ClientGone, unless_gone
from insource.gateway.gateway import Gateway
from insource.gateway.recorder import Exchange
from insource.gateway.serving import Stack
from insource.gateway.wire import EVENTS, JSON, Headers, envelope, render
from insource.types import Answer, Decision, Relay

CLIENT_GONE = 499
"""The status on record where the client left before its reply was complete; nothing like it is ever sent."""


def told(decision: Decision, served_by: str) -> Headers:
    """Return the headers that say what served a request and why."""
    headers: Headers = [
        (b"x-insource-request-id", decision.request_id.encode()),
        (b"x-insource-served-by", served_by.encode("ascii", "replace")),
        (b"x-insource-reason", decision.reason.value.encode()),
    ]
    if decision.score is not None:
        headers.append((b"x-insource-score", f"{decision.score:.6f}".encode()))
    if decision.version is not None:
        headers.append((b"x-insource-version", str(decision.version).encode()))
    return headers


async def send_body(send: Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Send a whole reply."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


async def send_error(
    send: Send, error: InsourceError, headers: Iterable[tuple[bytes, bytes]], status: int | None = None
) -> None:
    """Send an error in OpenAI's envelope, with Retry-After where a repeat may help."""
    retry = [(b"retry-after", b"1")] if error.retryable else []
    await send_body(send, status or error.status, envelope(error), [JSON, *headers, *retry])


async def send_chosen(gateway: Gateway, stack: Stack, exchange: Exchange, receive: Receive, send: Send) -> None:
    """Send the reply to a request whose decision is recorded, and settle it."""
    accepted = exchange.choice.answer
    if accepted is None:
        await _Relaying(gateway, stack, exchange, send).run(receive)
        return
    answer = await stack.chooser.reply(exchange.request, exchange.choice)
    await _send_answer(gateway, exchange, answer, send)
    seconds = sum(answer.seconds.values())
    gateway.recorder.settled(exchange, 200, answer.served_by, seconds=seconds)


async def _send_answer(gateway: Gateway, exchange: Exchange, answer: Answer, send: Send) -> None:
    decision, request = exchange.choice.decision, exchange.request
    bodies = render(request, answer, int(decision.time.timestamp()))
    headers = told(decision, answer.served_by)
    if not request.stream:
        await send_body(send, 200, bodies[0], [JSON, *headers])
        return
    await send({"type": "http.response.start", "status": 200, "headers": [*EVENTS, *headers]})
    await send({"type": "http.response.body", "body": b"".join(bodies)})


class _Relaying:
    """One escalated request on its way: what has been sent and read so far, to be settled however it ends."""

    def __init__(self, gateway: Gateway, stack: Stack, exchange: Exchange, send: Send) -> None:
        self._gateway = gateway
        self._stack = stack
        self._exchange = exchange
        self._send = send
        self._served_by = stack.upstream.name if stack.upstream else "none"
        self._started = perf_counter()
        self._status: int | None = None
        self._reader: ReplyReader | None = None

    async def run(self, receive: Receive) -> None:
        """Relay until the end, the upstream's failure, or the client's leaving."""
        try:
            await unless_gone(receive, self._relay())
        except InsourceError as error:
            await self._failed(error)
        except ClientGone:
            self._settle(CLIENT_GONE, "the client left")
        except BaseException:
            self._settle(CLIENT_GONE, "broken off by the gateway")
            raise

    async def _relay(self) -> None:
        exchange = self._exchange
        answer = await self._stack.chooser.reply(exchange.request, exchange.choice)
        self._served_by = answer.served_by
        if answer.relay is None:
            await _send_answer(self._gateway, exchange, answer, self._send)
            self._settle(200, None, Reply(200, answer.content, answer.usage))
            return
        try:
            await self._pass_on(answer.relay)
        finally:
            await answer.relay.close()
        self._settle(answer.relay.status, None)

    async def _pass_on(self, relay: Relay) -> None:
        self._reader = reader = ReplyReader(relay.status, relay.headers)
        headers = [_raw(name, value) for name, value in relay.headers if not name.lower().startswith("x-insource-")]
        headers += told(self._exchange.choice.decision, self._served_by)
        self._status = relay.status
        send = self._send
        await send({"type": "http.response.start", "status": relay.status, "headers": headers})
        async for chunk in relay.chunks:
            reader.feed(chunk)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _failed(self, error: InsourceError) -> None:
        """Send the error while nothing was sent; afterwards break off, so that the client sees an incomplete reply."""
        if self._status is not None:
            self._settle(self._status, f"{error.code} after the reply had begun")
            return
        status = error.status if isinstance(error, UpstreamError | RequestError) else 502
        self._settle(status, error.code)
        headers = told(self._exchange.choice.decision, self._served_by)
        await send_error(self._send, error, headers, status)

    def _settle(self, status: int, detail: str | None, reply: Reply | None = None) -> None:
        if reply is None and self._reader is not None:
            reply = self._reader.finish()
        self._gateway.recorder.settled(
            self._exchange,
            status,
            self._served_by,
            reply=reply,
            seconds=perf_counter() - self._started,
            detail=detail,
        )


def _raw(name: str, value: str) -> tuple[bytes, bytes]:
    return name.lower().encode("latin-1"), value.encode("utf-8", "surrogateescape")
