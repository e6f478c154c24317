"""A gateway within this event loop, asked over ASGI: it listens nowhere, and all that it connects to can be watched.

It serves with the endpoints as they are; what surrounds it (upstreams, ledger, registry) is handed in.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from insource.answers import AnswerSpace
from insource.backends.contract import BackendInfo, Health
from insource.gateway.app import Application, create_app
from insource.gateway.gateway import Gateway
from insource.gateway.parts import Parts
from insource.types import Answer, Request

Headers = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Replied:
    """What the gateway sent: status, headers in small letters, body. Status 0: it broke off before the head."""

    status: int
    headers: dict[str, str]
    body: bytes


class Enclosed:
    """A running gateway to ask."""

    def __init__(self, app: Application, gateway: Gateway) -> None:
        self._app = app
        self.gateway = gateway

    async def ask(self, path: str, body: bytes = b"", headers: Headers = (), method: str = "POST") -> Replied:
        """Send one request, its target as it is, and return the reply."""
        target, _, query = path.partition("?")
        raw = [(name.encode(), value.encode()) for name, value in headers]
        scope = {
            "type": "http", "method": method, "path": unquote(target), "raw_path": target.encode(),
            "query_string": query.encode(), "headers": raw, "extensions": {},
        }  # fmt: skip
        given, sent = [{"type": "http.request", "body": body}], _Sent()

        async def receive() -> Any:
            return given.pop() if given else await asyncio.get_running_loop().create_future()

        await self._app(scope, receive, sent)
        return Replied(sent.status, sent.headers, bytes(sent.body))


class _Sent:
    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = bytearray()

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in message["headers"]}
        self.body += message.get("body", b"")


@asynccontextmanager
async def enclosed(parts: Parts, prepare: Callable[[Gateway], None] = lambda gateway: None) -> AsyncIterator[Enclosed]:
    """Serve within this loop; `prepare` may put something else in a part's place before it opens."""
    app, gateway = create_app(parts), Gateway(parts)
    prepare(gateway)
    await gateway.generation.open()
    app.state.gateway, gateway.ready = gateway, True
    try:
        yield Enclosed(app, gateway)
    finally:
        await gateway.close()
        gateway.recorder.flush()


class Clerk:
    """A specialist by script; how it fares, the last message begins with: "sure", "crash" or "slow", else unsure."""

    def __init__(self, name: str) -> None:
        self.info = BackendInfo(name, "d" * 64)
        self.answers = AnswerSpace("label", ("yes", "no"), ("yes", "no"))

    async def answer(self, request: Request) -> Answer:
        """Answer yes, surely or not; or fail in words that quote the request, as a library would."""
        text = request.messages[-1].text or ""
        if text.startswith("crash"):
            raise ValueError(f"cannot read {text!r}")
        if text.startswith("slow"):
            await asyncio.sleep(20)
        return Answer(self.info.name, "yes", label="yes", score=0.9 if text.startswith("sure") else 0.2)

    async def answer_many(self, requests: Iterable[Request]) -> list[Answer]:
        """Answer one after the other."""
        return [await self.answer(request) for request in requests]

    async def health(self) -> Health:
        """Well."""
        return Health(True)

    async def __aenter__(self) -> Clerk:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None
