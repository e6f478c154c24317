"""R5: requests generated for every endpoint, mutated bodies, and abuses of the connection, against a gateway that runs.

Every reply must be one that a client can read, none a failure of the gateway, and a healthy request must be answered as
before. The upstream is healthy and answers everything, so that no 5xx can be its doing.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from starlette.types import ASGIApp

from insource.gateway.access import Access, Route
from insource.gateway.app import Application
from insource.gateway.endpoints import Completions
from insource.gateway.parts import Parts
from insource.gateway.wire import DIALECTS, decode
from insource.types import Request
from reliability.harness import Promise, Tally
from reliability.http_abuses import HIDDEN, Abuse, abuse, request
from reliability.odd_requests import Asked, generated, mutated
from reliability.raw_http import Reply, Wire
from reliability.recording import Outside, Received, reply
from reliability.served import Served, make_home, serving, serving_app, worker_deaths

LANES = 12
ABUSERS = 24
SECONDS = 10.0
"""The longest wait for a reply to a whole request."""
MOMENT = 0.25
"""How long an abuser waits for a reply: what is not whole gets none."""
WARM_UP = 320
"""At least so many requests, and an eighth of those to come, before the memory is measured: a new process fills up
first."""
HEALTHY = b'{"model":"gpt-4o","messages":[{"role":"user","content":"hello"}]}'
SAID = b'{"object":"list","data":[],"choices":[{"index":0,"message":{"role":"assistant","content":"ok"}}]}'


class Unguarded(Completions):
    """The broken build: a body that cannot be read is nobody's business."""

    def read(self, request_id: str, body: bytes, headers: dict[str, str], path: str, method: str) -> Request:
        """Take the fields as they come."""
        fields = decode(body)
        return Request(request_id, (), model=fields["model"], fields=fields, headers=headers, body=body, path=path)


class UnguardedApplication(Application):
    """A gateway whose endpoints are unguarded."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        unguarded = {("POST", path): Route(Unguarded(name).answer, Access.KEY) for path, name in DIALECTS.items()}
        self._routes = {**self._routes, **unguarded}


async def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Try the cases on one gateway; `broken` reads bodies without its guard."""
    tally = Tally()
    async with AsyncExitStack() as opened:
        upstream = await opened.enter_async_context(Outside(_healthy))
        file = make_home(folder / "home", upstream.base_url)
        served = await opened.enter_async_context(_gateway(file, UnguardedApplication if broken else None))
        workers = served.workers()
        await _try(Tally(), range(-max(WARM_UP, len(cases) // 8), 0), served, upstream)
        before = served.megabytes()
        await _try(tally, cases, served, upstream)
        tally.measure("memory growth", served.megabytes() / before - 1)
        tally.measure("megabytes", served.megabytes())
        tally.count("worker deaths", sum(pid not in served.workers() for pid in workers))
    if not broken:
        tally.count("worker deaths", worker_deaths(folder / "home"))
    return tally


def judge(tally: Tally) -> list[str]:
    """No failure of its own, no death, no growth; and nothing that is no reply."""
    counts, found = tally.counts, []
    for what in (
        "own 5xx",
        "worker deaths",
        "no reply",
        "unreadable reply",
        "nonsense passed on",
        "hidden request",
        "sick afterwards",
    ):
        if counts[what]:
            found.append(f"{what}: {counts[what]:,}")
    growth = tally.quantile("memory growth", 1.0)
    if growth > 0.10:
        found.append(f"a worker's memory grew by {growth:.0%}; at most 10 % is asked")
    if not (counts["generated"] and counts["mutated"] and counts["abuses"]):
        found.append("not every kind was tried")
    return found


def seen(tally: Tally) -> str:
    """One line."""
    counts = tally.counts
    statuses = ", ".join(f"{counts[f'status {kind}']:,} {kind}" for kind in ("2xx", "4xx", "5xx"))
    return (
        f"{counts['generated']:,} generated, {counts['mutated']:,} mutated, {counts['abuses']:,} abuses: {statuses}; "
        f"{counts['own 5xx']} own 5xx, {counts['worker deaths']} worker deaths, memory "
        f"{tally.quantile('memory growth', 1.0):+.1%} "
        f"at most over a run (to {tally.quantile('megabytes', 1.0):.0f} MB)"
    )


@asynccontextmanager
async def _gateway(file: Path, app: Callable[[Parts], ASGIApp] | None) -> AsyncIterator[Served]:
    if app is None:
        async with serving(file) as served:
            yield served
    else:
        with serving_app(file, app) as served:
            yield served


def _healthy(received: Received, number: int) -> bytes:
    """Answer everything, streams as well."""
    if received.line.startswith("HEAD "):
        return b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    if b'"stream": true' in received.body:
        return reply(200, b"data: " + SAID + b"\n\ndata: [DONE]\n\n", ("content-type", "text/event-stream"))
    return reply(200, SAID)


async def _try(tally: Tally, cases: range, served: Served, upstream: Outside) -> None:
    """Take the cases in lanes: a connection asks one request after another; every abuse has a connection of its own."""
    whole, abuses = iter(case for case in cases if case % 16 != 15), iter(case for case in cases if case % 16 == 15)
    await asyncio.gather(*(_lane(tally, whole, served.port, upstream) for _ in range(LANES)),
                         *(_abuse_all(tally, abuses, served.port) for _ in range(ABUSERS)))  # fmt: skip
    for received in upstream.requests:
        if HIDDEN in received.line:
            tally.fail(-1, f"the upstream was asked {received.line[:80]!r}", "hidden request")
    upstream.requests.clear()
    upstream.bytes.clear()
    wire = await Wire.open(served.port)
    found = await wire.ask(request(body=HEALTHY), SECONDS)
    wire.cut()
    if found is None or found.status != 200 or found.body != SAID:
        tally.fail(-1, f"a healthy request got {found}", "sick afterwards")


async def _lane(tally: Tally, cases: Iterator[int], port: int, upstream: Outside) -> None:
    wire = await Wire.open(port)
    for case in cases:
        chance = random.Random(case)
        kind, make = ("mutated", mutated) if case % 16 < 10 else ("generated", generated)
        asked = make(chance)
        tally.count(kind)
        head = asked.method == "HEAD"
        found = await wire.ask(asked.wire(), SECONDS, bodyless=head)
        _check(tally, case, asked, found, wire)
        if found is None or head or wire.closed or found.headers.get("connection") == "close":
            wire.cut()
            wire = await Wire.open(port)
        if len(upstream.bytes) > 50_000_000:
            upstream.bytes.clear()
    wire.cut()


def _check(tally: Tally, case: int, asked: Asked, found: Reply | None, wire: Wire) -> None:
    what = f"{asked.method} {asked.target[:60]} {asked.body[:200]!r}"
    if found is None:
        tally.fail(case, f"{what}: {'what came is no HTTP' if wire.garbled else 'no reply'}", "no reply")
        return
    tally.count(f"status {found.status // 100}xx")
    if found.status >= 500:
        tally.fail(case, f"{what}: {found.status} {found.body[:200]!r}", "own 5xx")
    if asked.hopeless and found.status < 300:
        tally.fail(case, f"{what}: {found.status}", "nonsense passed on")
    if asked.method != "HEAD" and (wrong := _unreadable(asked, found)):
        tally.fail(case, f"{what}: {found.status} {wrong} {found.body[:200]!r}", "unreadable reply")


def _unreadable(asked: Asked, found: Reply) -> str:
    """Say what of a reply the clients of its dialect could not read; "" for nothing."""
    kind = found.headers.get("content-type", "")
    if kind.startswith("text/plain"):
        return "" if asked.target.startswith("/metrics") else "is plain text"
    try:
        if kind.startswith("text/event-stream"):
            lines = found.body.decode().splitlines()
            for line in lines:
                if line.startswith("data: ") and line != "data: [DONE]":
                    json.loads(line.removeprefix("data: "))
            return "" if found.body.endswith(b"\n\n") else "breaks off"
        value = json.loads(found.body)
    except ValueError:
        return "is no JSON"
    if found.status < 400:
        return ""
    error = value.get("error")
    told = isinstance(error, dict) and isinstance(error.get("message"), str) and isinstance(error.get("type"), str)
    spoken = (
        asked.dialect != "messages" or value.get("type") == "error" or found.status == 431
    )  # before any path is read
    return "" if told and spoken else "is not in the envelope"


async def _abuse_all(tally: Tally, cases: Iterator[int], port: int) -> None:
    for case in cases:
        tried = abuse(random.Random(case))
        tally.count("abuses")
        wire = await Wire.open(port)
        for piece in tried.pieces:
            wire.send(piece)
            await asyncio.sleep(0)
        if not tried.leaves:
            await wire.until(1, MOMENT)
        wire.cut()
        _check_abuse(tally, case, tried, wire)


def _check_abuse(tally: Tally, case: int, tried: Abuse, wire: Wire) -> None:
    what = f"{tried.name} {b''.join(tried.pieces)[:200]!r}"
    if wire.garbled:
        tally.fail(case, f"{what}: what came is no HTTP", "unreadable reply")
    for found in wire.replies:
        tally.count(f"status {found.status // 100}xx")
        if found.status >= 500:
            tally.fail(case, f"{what}: {found.status} {found.body[:200]!r}", "own 5xx")


PROMISE = Promise(
    id="R5",
    says="Malformed input never breaks the server",
    asked="50,000 generated requests, 100,000 mutated bodies, 10,000 abuses of the raw connection: 0 own 5xx, 0 "
    "worker deaths, "
    "memory growth at most 10 %",
    unit="requests (of 16: 10 mutated bodies, 5 generated, 1 raw abuse)",
    full=160_000,
    sample=800,
    slow=16_000,
    control=160,
    chunk=80_000,
    run=run,
    judge=judge,
    seen=seen,
)
