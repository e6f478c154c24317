"""X4: every route of the gateway's own table, by every method, under every disguise of path, host and origin.

What the table does not offer may not succeed and may not reach the upstream; nor may the text of a restricted task, by
whatever path it is sent. What the table does offer must be served, else a gateway that refuses all would hold.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from insource.gateway.app import API, FEEDBACK, REVIEWS, Application, create_app
from insource.gateway.parts import Parts
from reliability.disguised_paths import DISGUISES, Disguise, Kind
from reliability.harness import Promise, Tally
from reliability.raw_http import Reply, Wire
from reliability.recording import Outside, Received, reply
from reliability.served import Served, make_home, serving, serving_app

LANES = 8
SECONDS = 10.0
CANARY = "canary-of-a-restricted-task"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "PURGE", "get")
PASSED_ON = frozenset(METHODS[:7])
WITH_BODY = frozenset(("POST", "PUT", "PATCH", "DELETE"))
ELSEWHERE = (
    "/", "/v1x/models", "/v2/chat/completions", "/docs", "/openapi.json", "/admin", "/status", "/config",
    "/debug/pprof", "/.env", "/static/x",
    "/v1/insource", "/v1/insource/reviews", "/v1/insource/config", "/metrics/worker", "/healthz/live",
    "/chat/completions", "/reload",
)  # fmt: skip
"""Paths that the table does not offer; most are served by other gateways."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One case: a row of the table (its method, "" where the table has no such path), a method, a disguise."""

    row: str
    path: str
    method: str
    disguise: Disguise

    @property
    def served(self) -> bool:
        """Whether the gateway itself is to answer."""
        return self.disguise.kind is Kind.SAME and self.method == self.row

    @property
    def may_go_up(self) -> bool:
        """Whether the upstream may hear of it."""
        kind = self.disguise.kind
        if self.method not in PASSED_ON or kind in (Kind.FOREIGN, Kind.LEAVES):
            return False
        if self.row == "*":
            return True
        if (
            kind is not Kind.SAME
            or not self.path.startswith(API)
            or self.path.startswith(API + "insource")
            or not self.row
        ):
            return False
        return (
            self.path == "/v1/models" if self.method == "GET" == self.row else not self.body and self.method != self.row
        )

    @property
    def body(self) -> bytes:
        """What is sent: a restricted text in the words of every dialect, but none where bodies are passed on unread."""
        if self.method not in WITH_BODY:
            return b""
        if self.row == "*":
            return b'{"purpose":"public"}'
        turns = [{"role": "user", "content": CANARY}]
        return json.dumps(
            {"model": "task:secret", "messages": turns, "input": CANARY, "prompt": CANARY, "max_tokens": 9}
        ).encode()

    def wire(self, case: int) -> bytes:
        """Return the bytes to send."""
        told = (("x-case", str(case)), *self.disguise.headers)
        lines = [
            f"{self.method} {self.disguise.target(self.path)} HTTP/1.1",
            *(f"{name}: {value}" for name, value in told),
        ]
        if self.disguise.host is not None:
            lines.insert(1, f"host: {self.disguise.host}")
        if self.method in WITH_BODY:
            lines.append(f"content-length: {len(self.body)}")
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + self.body

    def told(self) -> str:
        """Say what was asked."""
        return f"{self.method} {self.path} ({self.disguise.name})"


def _table() -> list[tuple[str, str]]:
    """Return the router's own table, each row with a path of its own, and the paths that it does not have."""
    router = Application.__new__(Application)
    Application.__init__(router, None)  # type: ignore[arg-type]
    own = [
        (method, path.replace("{id}", "0123").replace("{name}", "secret").replace("...", "files/abc"))
        for method, path in router.paths
    ]
    return own + [("", path) for path in ELSEWHERE]


CASES = [Asked(row, path, method, disguise) for disguise in DISGUISES for method in METHODS for row, path in _table()]
STRIDE = 1_009
"""Has no divisor in common with the number of cases, and spreads few of them over all rows, methods and disguises."""


class Mending:
    """The broken build: mends what it is asked before anybody looks, so that each disguise is what it looks like."""

    def __init__(self, parts: Parts) -> None:
        self._app = create_app(parts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a mended request."""
        if scope["type"] == "http":
            headers = [
                header for header in scope["headers"] if header[0] not in (b"host", b"origin", b"sec-fetch-site")
            ]
            path = "/" + "/".join(
                part.split(";")[0] for part in scope["path"].lower().split("/") if part not in ("", ".", "..")
            )
            scope = {**scope, "headers": headers, "path": path, "raw_path": path.encode("latin-1", "replace")}
        await self._app(scope, receive, send)


async def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Ask for each case; `broken` mends paths and drops hosts and origins first."""
    tally = Tally()
    async with AsyncExitStack() as opened:
        upstream = await opened.enter_async_context(Outside(_healthy))
        file = make_home(folder / "home", upstream.base_url)
        make: Callable[[Parts], ASGIApp] = Mending
        gateway: Any = (
            opened.enter_context(serving_app(file, make)) if broken else await opened.enter_async_context(serving(file))
        )
        await _ask_all(tally, cases, gateway, upstream)
    return tally


def judge(tally: Tally) -> list[str]:
    """Nothing beyond the table succeeds or goes up, no restricted text leaves, and what the table offers is served."""
    counts, found = tally.counts, []
    for what in ("unexpected 2xx", "reached the upstream", "restricted text left", "not served", "no reply"):
        if counts[what]:
            found.append(f"{what}: {counts[what]:,} of {counts['asked']:,}")
    if not (counts["served"] and counts["went up"] and counts["refused"]):
        found.append("not every outcome was tried")
    return found


def seen(tally: Tally) -> str:
    """One line."""
    counts = tally.counts
    return (
        f"{counts['asked']:,} of {len(CASES):,} combinations of {len(_table())} paths, {len(METHODS)} methods and "
        f"{len(DISGUISES)} "
        f"disguises: {counts['unexpected 2xx']} unexpected 2xx, {counts['reached the upstream']} reached the "
        f"upstream unasked, "
        f"{counts['restricted text left']} restricted texts left; {counts['served']:,} served, "
        f"{counts['went up']:,} passed on as "
        f"the table has it, {counts['refused']:,} refused"
    )


def _healthy(received: Received, number: int) -> bytes:
    if received.line.startswith("HEAD "):
        return b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    return reply(200, b'{"object":"list","data":[]}')


async def _ask_all(tally: Tally, cases: range, gateway: Served, upstream: Outside) -> None:
    numbers = iter([case * STRIDE % len(CASES) for case in cases])
    await asyncio.gather(*(_lane(tally, numbers, gateway.port) for _ in range(LANES)))
    for received in upstream.requests:
        number = int(received.headers.get("x-case", "-1"))
        asked = CASES[number]
        if not asked.may_go_up:
            tally.fail(
                number, f"{asked.told()} reached the upstream as {received.line[:120]!r}", "reached the upstream"
            )
        if CANARY.encode() in received.body:
            tally.fail(number, f"{asked.told()} brought the upstream the restricted text", "restricted text left")
    tally.count("went up", len(upstream.requests))


async def _lane(tally: Tally, numbers: Iterator[int], port: int) -> None:
    wire = await Wire.open(port)
    for number in numbers:
        asked = CASES[number]
        bodyless = asked.method == "HEAD"
        found = await wire.ask(asked.wire(number), SECONDS, bodyless=bodyless)
        tally.count("asked")
        _check(tally, number, asked, found)
        if found is None or bodyless or wire.closed or found.headers.get("connection") == "close":
            wire.cut()
            wire = await Wire.open(port)
    wire.cut()


def _check(tally: Tally, number: int, asked: Asked, found: Reply | None) -> None:
    if found is None:
        tally.fail(number, f"{asked.told()}: no reply", "no reply")
        return
    if asked.served:
        kept = asked.row == "POST" and found.status == 403 and b"kept_local" in found.body
        unknown = asked.path.startswith((REVIEWS, *FEEDBACK)) and found.status == 400
        embedded = asked.path == "/v1/embeddings" and found.status == 200
        if not (kept or unknown or embedded or (asked.row == "GET" and found.status == 200)):
            tally.fail(number, f"{asked.told()}: {found.status} {found.body[:200]!r}", "not served")
        tally.count("served")
    elif found.status < 300 and not asked.may_go_up:
        tally.fail(number, f"{asked.told()}: {found.status} {found.body[:100]!r}", "unexpected 2xx")
    elif found.status >= 400:
        tally.count("refused")


PROMISE = Promise(
    id="X4",
    says="Default deny",
    asked="every route x method x 15 or more disguises of path and host: 0 unexpected 2xx, nothing reaches the "
    "upstream that should "
    "not; a route without a policy stops the start",
    unit="combinations of path, method and disguise",
    full=len(CASES),
    sample=3_000,
    slow=len(CASES),
    control=400,
    chunk=len(CASES),
    run=run,
    judge=judge,
    seen=seen,
    open="roles, and policies of routes without which the gateway does not start, come with keys: until then every "
    "route has the one "
    "policy of loopback without pages",
)
