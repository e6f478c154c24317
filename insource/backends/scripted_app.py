"""The scripted upstream: an OpenAI-compatible server that plays back recorded references.

For tests, for the demo and for users (`insource serve-scripted FILE`). It says of itself that it is scripted; its
token counts are an estimate (a quarter of the characters), and nothing here is a model.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import sha256
from random import Random
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from insource.backends.references import References, estimated_usage
from insource.types import Example, Message, Request, Usage

MODEL = "scripted"
_CREATED = 1700000000
_FAULTS = ("error", "limit", "drop", "hang")


@dataclass(frozen=True, slots=True)
class Price:
    """What the scripted upstream charges, per million tokens."""

    prompt: Decimal
    completion: Decimal


@dataclass(slots=True)
class Invoice:
    """What the scripted upstream has answered so far, and what it would charge for it."""

    price: Price | None = None
    requests: int = 0
    faults: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def add(self, usage: Usage) -> None:
        """Count one reply."""
        self.requests += 1
        self.prompt_tokens += usage.prompt_tokens
        self.completion_tokens += usage.completion_tokens

    @property
    def cost(self) -> Decimal | None:
        """The sum, or None where no price was chosen."""
        if self.price is None:
            return None
        return (self.prompt_tokens * self.price.prompt + self.completion_tokens * self.price.completion) / 1_000_000


@dataclass(slots=True)
class _Script:
    references: References
    latency: float
    fault_rate: float
    seed: int
    invoice: Invoice
    seen: Counter[bytes] = field(default_factory=Counter)

    def fault(self, body: bytes) -> str | None:
        """Return the fault for this body, by seed, body and how often it came; the order of others plays no part."""
        if not self.fault_rate:
            return None
        digest = sha256(body).digest()
        self.seen[digest] += 1
        random = Random(f"{self.seed}:{digest.hex()}:{self.seen[digest]}")
        return random.choice(_FAULTS) if random.random() < self.fault_rate else None


def scripted_app(
    references: Mapping[str, str] | Iterable[Example] | References,
    *,
    latency_ms: float = 0.0,
    price: Price | None = None,
    fault_rate: float = 0.0,
    seed: int = 0,
) -> Starlette:
    """Return the server as an ASGI application; `app.state.invoice` counts what it served.

    `fault_rate` is the share of requests that end in a 500, a 429, a reply broken off or silence, in equal parts.
    """
    references = references if isinstance(references, References) else References(references)
    script = _Script(references, latency_ms / 1000, fault_rate, seed, Invoice(price))

    async def complete(http: HttpRequest) -> Any:
        return await _complete(script, await http.body())

    app = Starlette(
        routes=[
            Route("/v1/chat/completions", complete, methods=["POST"]),
            Route("/v1/models", _models, methods=["GET"]),
        ]
    )
    app.state.invoice = script.invoice
    return app


async def _models(_: HttpRequest) -> Response:
    card = {"id": MODEL, "object": "model", "created": _CREATED, "owned_by": "insource-scripted"}
    return JSONResponse({"object": "list", "data": [card]})


async def _complete(script: _Script, body: bytes) -> Any:
    try:
        fields = json.loads(body)
        request = _request(fields)
    except (ValueError, TypeError, KeyError, AttributeError):
        return _error(400, "invalid_request", "The body is not a chat completion request; send JSON with messages.")
    if script.latency:
        await asyncio.sleep(script.latency)
    fault = script.fault(body)
    if fault is not None:
        script.invoice.faults += 1
        return _faulty(fault)
    content = script.references.find(request)
    if content is None:
        return _error(
            404,
            "reference_unknown",
            f"The scripted upstream has no reference for this text; it knows {len(script.references)} texts.",
        )
    usage = estimated_usage(request.messages, content)
    script.invoice.add(usage)
    name = "chatcmpl-" + sha256(body).hexdigest()[:24]
    if not request.stream:
        return JSONResponse(_completion(name, request.model, content, usage))
    counted = bool((fields.get("stream_options") or {}).get("include_usage"))
    return StreamingResponse(
        _events(name, request.model, content, usage if counted else None), media_type="text/event-stream"
    )


def _request(fields: Any) -> Request:
    messages = tuple(
        Message(item["role"], tuple(item["content"]) if isinstance(item["content"], list) else item["content"])
        for item in fields["messages"]
    )
    return Request("scripted", messages, str(fields.get("model", MODEL)), stream=fields.get("stream") is True)


def _completion(name: str, model: str, content: str, usage: Usage) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, "refusal": None}
    return {
        "id": name,
        "object": "chat.completion",
        "created": _CREATED,
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": _counts(usage),
    }


async def _events(name: str, model: str, content: str, usage: Usage | None) -> AsyncIterator[bytes]:
    """Yield the role, the content in up to four pieces, the end, the usage if asked for, and [DONE]."""
    step = max(1, -(-len(content) // 4))
    pieces = [content[at : at + step] for at in range(0, len(content), step)]
    deltas: list[tuple[dict[str, Any], str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": piece}, None) for piece in pieces] + [({}, "stop")]
    card = {"id": name, "object": "chat.completion.chunk", "created": _CREATED, "model": model}
    for delta, finish in deltas:
        yield _event({**card, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
    if usage is not None:
        yield _event({**card, "choices": [], "usage": _counts(usage)})
    yield b"data: [DONE]\n\n"


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def _counts(usage: Usage) -> dict[str, int]:
    total = usage.prompt_tokens + usage.completion_tokens
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": total,
    }


def _faulty(fault: str) -> Any:
    if fault == "error":
        return _error(500, "scripted_fault", "The scripted upstream failed on purpose (fault_rate).")
    if fault == "limit":
        return _error(429, "scripted_limit", "The scripted upstream refused on purpose (fault_rate).")
    return _broken_off if fault == "drop" else _silent


async def _broken_off(scope: Scope, receive: Receive, send: Send) -> None:
    """Promise 1,000 bytes, send a few and return: the server then closes the connection."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]})
    await send({"type": "http.response.body", "body": b'{"id": "chatc', "more_body": True})


async def _silent(scope: Scope, receive: Receive, send: Send) -> None:
    """Say nothing until the client has had enough."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _error(status: int, code: str, message: str) -> Response:
    return JSONResponse({"error": {"message": message, "type": code, "param": None, "code": code}}, status)
