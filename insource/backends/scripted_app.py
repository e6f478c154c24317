"""The scripted upstream: an OpenAI-compatible server that plays back recorded references, in every dialect.

For tests, for the demo and for users (`insource serve-scripted FILE`). It says of itself that it is scripted; its
token counts are an estimate (a quarter of the characters), and nothing here is a model.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
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
from insource.backends.scripted_dialects import CREATED, DIALECTS, MODEL, Said, failure, moderated
from insource.backends.scripted_vectors import embedded
from insource.types import Example, Message, Request, Usage

_FAULTS = ("error", "limit", "drop", "hang")
_ODD = (ValueError, TypeError, KeyError, AttributeError, RecursionError)


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
        return await _reply(script, http.url.path, await http.body())

    paths = [*DIALECTS, "/v1/embeddings", "/v1/moderations", "/v1/messages/count_tokens"]
    app = Starlette(
        routes=[
            *(Route(path, complete, methods=["POST"]) for path in paths),
            Route("/v1/models", _models, methods=["GET"]),
            Route(f"/v1/models/{MODEL}", _model, methods=["GET"]),
        ]
    )
    app.state.invoice = script.invoice
    return app


_CARD = {"id": MODEL, "object": "model", "created": CREATED, "owned_by": "insource-scripted"}


async def _models(_: HttpRequest) -> Response:
    return JSONResponse({"object": "list", "data": [_CARD]})


async def _model(_: HttpRequest) -> Response:
    return JSONResponse(_CARD)


async def _reply(script: _Script, path: str, body: bytes) -> Any:
    try:
        fields = json.loads(body)
        model = str(fields.get("model", MODEL))
        answer = _prepared(script, path, body, fields, model)
    except _ODD:
        what = "a chat completion request; send JSON with messages" if "chat" in path else f"one for {path}"
        return _error(path, 400, "invalid_request", f"The body is not {what}.")
    if script.latency:
        await asyncio.sleep(script.latency)
    fault = script.fault(body)
    if fault is not None:
        script.invoice.faults += 1
        return _faulty(path, fault)
    if answer is None:
        return _error(
            path,
            404,
            "reference_unknown",
            f"The scripted upstream has no reference for this text; it knows {len(script.references)} texts.",
        )
    reply, usage = answer
    script.invoice.add(usage)
    if isinstance(reply, dict):
        return JSONResponse(reply)
    return StreamingResponse(_one_by_one(reply), media_type="text/event-stream")


def _prepared(
    script: _Script, path: str, body: bytes, fields: dict[str, Any], model: str
) -> tuple[dict[str, Any] | Iterator[bytes], Usage] | None:
    """Return the reply, whole or as events, and its tokens; None where no reference is known."""
    if path == "/v1/embeddings":
        return embedded(fields, model)
    digest = sha256(body).hexdigest()[:24]
    if path == "/v1/moderations":
        return _moderation(script, digest, fields["input"], model)
    if path == "/v1/messages/count_tokens":
        usage = estimated_usage(DIALECTS["/v1/messages"].read({"max_tokens": 1, **fields}), "")
        return {"input_tokens": usage.prompt_tokens}, usage
    dialect = DIALECTS[path]
    messages = dialect.read(fields)
    content = script.references.find(Request("scripted", messages, model))
    if content is None:
        return None
    said = Said(digest, model, content, estimated_usage(messages, content), fields)
    return (dialect.events(said) if fields.get("stream") is True else dialect.whole(said)), said.usage


def _moderation(script: _Script, digest: str, given: Any, model: str) -> tuple[dict[str, Any], Usage] | None:
    """Judge a text, each text of a list, or parts as one."""
    inputs = given if isinstance(given, list) and isinstance(given[0], str) else [given]
    messages = [Message("user", tuple(each) if isinstance(each, list) else each) for each in inputs]
    found = [script.references.find(Request("scripted", (message,))) for message in messages]
    contents = [content for content in found if content is not None]
    if len(contents) < len(found):
        return None
    reply = {"id": f"modr-{digest}", "model": model, "results": [moderated(content) for content in contents]}
    return reply, Usage(estimated_usage(messages, "").prompt_tokens, 0)


async def _one_by_one(events: Iterator[bytes]) -> AsyncIterator[bytes]:
    for event in events:
        yield event


def _faulty(path: str, fault: str) -> Any:
    if fault == "error":
        return _error(path, 500, "scripted_fault", "The scripted upstream failed on purpose (fault_rate).")
    if fault == "limit":
        return _error(path, 429, "scripted_limit", "The scripted upstream refused on purpose (fault_rate).")
    return _broken_off if fault == "drop" else _silent


async def _broken_off(scope: Scope, receive: Receive, send: Send) -> None:
    """Promise 1,000 bytes, send a few and return: the server then closes the connection."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]})
    await send({"type": "http.response.body", "body": b'{"id": "chatc', "more_body": True})


async def _silent(scope: Scope, receive: Receive, send: Send) -> None:
    """Say nothing until the client has had enough."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _error(path: str, status: int, code: str, message: str) -> Response:
    return JSONResponse(failure(path, status, code, message), status)
