"""How replies are sent: whole bodies, accepted answers in their dialect, errors in the envelope, and who served them.

It knows ASGI's messages and the wire; it decides and records nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil

from starlette.types import Send

from insource.errors import InsourceError
from insource.gateway.protocol import Connection
from insource.gateway.wire import EVENTS, JSON, Headers, envelope, render
from insource.types import Answer, Decision, Outcome, Reason, Request

_REQUEST_ID = {"messages": b"request-id"}
"""The header in which a dialect's own clients look for a request's id; OpenAI's look for x-request-id."""

_WITHIN_THE_PROMISE = frozenset({Reason.ABOVE_THRESHOLD, Reason.COMPUTED})


@dataclass(frozen=True, slots=True)
class Client:
    """Who asked: the connection, the way to send to it, and when (perf_counter) the request arrived."""

    connection: Connection
    send: Send
    started: float


def told(decision: Decision, served_by: str) -> Headers:
    """Return the headers that say what served a request and why."""
    headers: Headers = [
        (b"x-insource-request-id", decision.request_id.encode()),
        (b"x-insource-served-by", served_by.encode("ascii", "replace")),
        (b"x-insource-reason", decision.reason.value.encode()),
    ]
    if decision.score is not None:
        headers.append((b"x-insource-score", b"%.6f" % decision.score))
    if decision.version is not None:
        headers.append((b"x-insource-version", b"%d" % decision.version))
    if decision.tier is not None:
        headers.append((b"x-insource-tier", decision.tier.encode()))
    if decision.outcome is Outcome.ACCEPTED and decision.reason not in _WITHIN_THE_PROMISE:
        headers.append((b"x-insource-promise", b"outside"))
    return headers


async def send_body(send: Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Send a whole reply."""
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


async def send_error(
    send: Send,
    error: InsourceError,
    headers: Iterable[tuple[bytes, bytes]],
    status: int | None = None,
    dialect: str = "chat",
) -> None:
    """Send an error in the dialect's envelope, with Retry-After where a repeat may help."""
    retry: Headers = []
    if error.retryable:
        retry = [(b"retry-after", b"%d" % max(1, ceil(error.retry_after or 1)))]
    headers = [*headers]
    request_id = next((value.decode() for name, value in headers if name == b"x-insource-request-id"), None)
    body = envelope(error, dialect, request_id=request_id, status=status)
    await send_body(send, status or error.status, body, [JSON, *headers, *retry])


async def send_answer(
    send: Send, request: Request, decision: Decision, answer: Answer, safe: tuple[str, ...] = ()
) -> None:
    """Render an answer in the request's dialect and send it; `safe` are the answers that flag nothing."""
    bodies = render(request, answer, int(decision.time.timestamp()), safe)
    headers = told(decision, answer.served_by)
    headers.append((_REQUEST_ID.get(request.dialect, b"x-request-id"), decision.request_id.encode()))
    if not request.stream:
        await send_body(send, 200, bodies[0], [JSON, *headers])
        return
    await send({"type": "http.response.start", "status": 200, "headers": [*EVENTS, *headers]})
    await send({"type": "http.response.body", "body": b"".join(bodies)})
