"""X4: every route of the gateway's own table, by every method and role, under every disguise of path, host and origin.

What the table does not offer may not succeed and may not reach the upstream; nor may the text of a restricted task, by
whatever path it is sent. What the table does offer must be served, else a gateway that refuses all would hold.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from insource.errors import ConfigError
from insource.gateway.administration import KEYS
from insource.gateway.app import API, FEEDBACK, REVIEWS, Application, create_app
from insource.gateway.parts import Parts
from reliability.disguised_paths import DISGUISES, Disguise, Kind
from reliability.harness import Promise, Tally
from reliability.raw_http import Reply, Wire
from reliability.recording import Outside, Received, reply
from reliability.routes_by_role import PLANTED, ROLES, Caller, doorless, make_callers, planted
from reliability.served import Served, make_home, serving, serving_app

LANES = 8
SECONDS = 10.0
CANARY = "canary-of-a-restricted-task"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "PURGE", "get")
DENIED = frozenset((401, 403))
PASSED_ON = frozenset(METHODS[:7])
WITH_BODY = frozenset(("POST", "PUT", "PATCH", "DELETE"))
ELSEWHERE = (
    "/", "/v1x/models", "/v2/chat/completions", "/docs", "/openapi.json", "/admin", "/status", "/config",
    "/debug/pprof", "/.env", "/static/x", "/v1/insource", "/v1/insource/reviews", "/v1/insource/config",
    "/metrics/worker", "/healthz/live", "/chat/completions", "/reload",
)  # fmt: skip
"""Paths that the table does not offer; most are served by other gateways."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One case: a row of the table (its method, "" where the table has no such path), a method, a disguise."""

    row: str
    path: str
    method: str
    disguise: Disguise
    role: str = ""

    @property
    def served(self) -> bool:
        """Whether the gateway itself is to answer."""
        return self.disguise.kind is Kind.SAME and (self.method, self.path) in OWN

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

    def wire(self, case: int, *headers: str) -> bytes:
        """Return the bytes to send, with further headers."""
        told = (("x-case", str(case)), *self.disguise.headers)
        lines = [
            f"{self.method} {self.disguise.target(self.path)} HTTP/1.1",
            *(f"{name}: {value}" for name, value in told),
            *headers,
        ]
        if self.disguise.host is not None:
            lines.insert(1, f"host: {self.disguise.host}")
        if self.method in WITH_BODY:
            lines.append(f"content-length: {len(self.body)}")
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + self.body

    def told(self) -> str:
        """Say what was asked."""
        return f"{self.method} {self.path} ({self.disguise.name}{', by ' + self.role if self.role else ''})"


def _table() -> list[tuple[str, str]]:
    """Return the router's own table, each row with a path of its own, and the paths that it does not have."""
    router = Application.__new__(Application)
    Application.__init__(router, None)  # type: ignore[arg-type]
    own = [
        (method, path.replace("{id}", "0123").replace("{name}", "secret").replace("...", "files/abc"))
        for method, path in router.paths
    ]
    return own + [("", path) for path in ELSEWHERE]


OWN = frozenset(_table())
PLAIN = next(disguise for disguise in DISGUISES if disguise.kind is Kind.SAME)
DISGUISED = [
    Asked(row, path, method, disguise) for disguise in DISGUISES for method in METHODS for row, path in _table()
]
CASES = DISGUISED + [
    Asked(row, path, method, PLAIN, role) for role in ROLES for method in METHODS for row, path in _table()
]
WRONG = ("unexpected 2xx", "reached the upstream", "restricted text left", "let in by role",
         "not served", "no reply", "planted")  # fmt: skip
STRIDE = 1_009
"""Has no divisor in common with the number of cases, and spreads few of them over all rows, methods and disguises."""


class Mending:
    """The broken build: mends what it is asked before anybody looks, so that each disguise is what it looks like."""

    def __init__(self, parts: Parts) -> None:
        self._app = create_app(parts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a mended request."""
        if scope["type"] == "http":
            dropped = (b"host", b"origin", b"sec-fetch-site")
            headers = [header for header in scope["headers"] if header[0] not in dropped]
            parts = (part for part in scope["path"].lower().split("/") if part not in ("", ".", ".."))
            path = "/" + "/".join(part.split(";")[0] for part in parts)
            scope = {**scope, "headers": headers, "path": path, "raw_path": path.encode("latin-1", "replace")}
        await self._app(scope, receive, send)


async def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Ask for each case; `broken` mends paths and drops hosts and origins, or takes everybody for the administrator."""
    tally = Tally()
    numbers = [case * STRIDE % len(CASES) for case in cases]
    for keyed in (False, True):
        chosen = [number for number in numbers if bool(CASES[number].role) is keyed]
        if not chosen:
            continue
        async with AsyncExitStack() as opened:
            upstream = await opened.enter_async_context(Outside(_healthy))
            home = folder / ("keyed" if keyed else "home")
            file = make_home(home, upstream.base_url)
            callers = make_callers(home) if keyed else {}
            make: Callable[[Parts], ASGIApp] = Mending
            if keyed:
                make = partial(doorless, header=callers["administrator"].header)
            gateway: Any = (
                opened.enter_context(serving_app(file, make))
                if broken
                else await opened.enter_async_context(serving(file))
            )
            await _ask_all(tally, chosen, gateway, upstream, callers)
    if not _planted_stops_the_start(make_home(folder / "planted", "http://127.0.0.1:9/v1")):
        tally.fail(cases.start, "a gateway with a route without a policy started", "planted")
    return tally


def _planted_stops_the_start(file: Path) -> bool:
    """Whether a gateway with one route that does not say who may call it refuses to start."""
    try:
        with serving_app(file, planted):
            return False
    except ConfigError as error:
        return PLANTED in str(error)


def judge(tally: Tally) -> list[str]:
    """Nothing beyond the table succeeds or goes up, by no role but its own, and what the table offers is served."""
    counts = tally.counts
    found = [f"{what}: {counts[what]:,} of {counts['asked']:,}" for what in WRONG if counts[what]]
    if not (counts["served"] and counts["went up"] and counts["refused"] and counts["by role"]):
        found.append("not every outcome was tried")
    return found


def seen(tally: Tally) -> str:
    """One line."""
    counts = tally.counts
    return (
        f"{counts['asked']:,} of {len(CASES):,} combinations of {len(_table())} paths, {len(METHODS)} methods and "
        f"{len(DISGUISES)} disguises or {len(ROLES)} roles: {counts['unexpected 2xx']} unexpected 2xx, "
        f"{counts['reached the upstream']} reached the upstream unasked, {counts['restricted text left']} restricted "
        f"texts left, {counts['let in by role']} let in to what is not for their role; {counts['served']:,} served, "
        f"{counts['went up']:,} passed on as the table has it, {counts['refused']:,} refused"
    )


def _healthy(received: Received, number: int) -> bytes:
    if received.line.startswith("HEAD "):
        return b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    return reply(200, b'{"object":"list","data":[]}')


async def _ask_all(
    tally: Tally, chosen: list[int], gateway: Served, upstream: Outside, callers: Mapping[str, Caller]
) -> None:
    numbers = iter(chosen)
    await asyncio.gather(*(_lane(tally, numbers, gateway.port, callers) for _ in range(LANES)))
    for received in upstream.requests:
        number = int(received.headers.get("x-case", "-1"))
        asked = CASES[number]
        caller = callers.get(asked.role)
        what = f"{asked.told()} reached the upstream as {received.line[:120]!r}"
        if not asked.may_go_up:
            tally.fail(number, what, "reached the upstream")
        elif caller is not None and not caller.may_call(asked.path):
            tally.fail(number, what, "let in by role")
        if CANARY.encode() in received.body:
            tally.fail(number, f"{asked.told()} brought the upstream the restricted text", "restricted text left")
    tally.count("went up", len(upstream.requests))


async def _lane(tally: Tally, numbers: Iterator[int], port: int, callers: Mapping[str, Caller]) -> None:
    wire = await Wire.open(port)
    for number in numbers:
        asked = CASES[number]
        bodyless = asked.method == "HEAD"
        caller = callers.get(asked.role)
        headers = (caller.header,) if caller is not None else ()
        found = await wire.ask(asked.wire(number, *headers), SECONDS, bodyless=bodyless)
        tally.count("asked")
        tally.count("by role", caller is not None)
        _check(tally, number, asked, found, caller)
        if found is None or bodyless or wire.closed or found.headers.get("connection") == "close":
            wire.cut()
            wire = await Wire.open(port)
    wire.cut()


def _check(tally: Tally, number: int, asked: Asked, found: Reply | None, caller: Caller | None) -> None:
    if found is None:
        tally.fail(number, f"{asked.told()}: no reply", "no reply")
        return
    if caller is not None and not caller.may_call(asked.path):
        offered = asked.served or asked.may_go_up
        if found.status in DENIED or (found.status >= 400 and not offered):
            tally.count("refused")
        else:
            tally.fail(number, f"{asked.told()}: {found.status} {found.body[:100]!r}", "let in by role")
    elif asked.served:
        if not _as_it_should(asked, found, caller):
            tally.fail(number, f"{asked.told()}: {found.status} {found.body[:200]!r}", "not served")
        tally.count("served")
    elif found.status < 300 and not asked.may_go_up:
        tally.fail(number, f"{asked.told()}: {found.status} {found.body[:100]!r}", "unexpected 2xx")
    elif found.status >= 400:
        tally.count("refused")


def _as_it_should(asked: Asked, found: Reply, caller: Caller | None) -> bool:
    """Whether a route of the table replied as it does to what it was sent."""
    if asked.path.startswith(KEYS):
        if caller is None:  # no key was ever made: the first one is made at the command line
            return found.status == 403 and b"out_of_scope" in found.body
        return found.status == {"GET": 200, "POST": 400, "DELETE": 404}[asked.method]
    kept = asked.method == "POST" and found.status == 403 and b"kept_local" in found.body
    unknown = asked.path.startswith((REVIEWS, *FEEDBACK)) and found.status == 400
    embedded = asked.path == "/v1/embeddings" and found.status == 200
    return kept or unknown or embedded or (asked.method == "GET" and found.status == 200)


PROMISE = Promise(
    id="X4",
    says="Default deny",
    asked="every route x method x role, and x 15 or more disguises of path and host: 0 unexpected 2xx, nothing reaches "
    "the upstream that should not; a route without a policy stops the start",
    unit="combinations of path, method and disguise or role",
    full=len(CASES),
    sample=1_200,
    slow=len(CASES),
    control=400,
    chunk=len(CASES),
    run=run,
    judge=judge,
    seen=seen,
)
