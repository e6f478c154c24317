"""R7: connections that trickle in every way, all at once, while healthy clients ask: each is closed in time, and
nobody else
waits for them.

Its control is the server without the gateway's own protocol: stock uvicorn.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from insource.gateway.app import create_app
from insource.gateway.server import ServerThread
from reliability.harness import Promise, Tally
from reliability.http_abuses import request
from reliability.raw_http import Wire
from reliability.recording import Outside, Received, reply
from reliability.served import Served, make_home, serving, serving_app
from reliability.tricklers import STREAMED, WAYS, WHOLE, Trickler

RECEIPT = 10.0
"""gateway.receipt_s in a full run, in seconds; ASKED is asked for it, and as much less for a shorter one."""
ASKED = 15.0
SHORT = 2.0
FEW = 100
"""Fewer connections than this are given SHORT: a sample. They are asked for half as long again: half of SHORT is what a
busy machine may take to open them and to fill their buffers."""
OF_BROKEN = 0.5
"""What the broken build is given: it closes what trickles no sooner."""
MANY = 2_000
"""From so many healthy requests on, their p99 is judged as it is asked; of fewer it is the four slowest or so, which
may be late by NOISE besides: who waits for tricklers waits until they are closed."""
NOISE = 0.5
OPENED = 0.3
"""The share of RECEIPT over which the connections are opened: a thousand replies at once would be a load of their own,
for whoever asks beside them as well."""
FILLED = 0.1
"""The share of RECEIPT in which the replies that nobody takes fill the buffers on their way, at the upstream's speed;
what is asked meanwhile is measured by itself."""
CLIENTS = 3
WAY_NAMES = tuple(WAYS)
PAUSE = 0.002
EVENT = b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % (
    b"word " * 800
)
LONG = EVENT * 1_200
"""Long, so that what is measured is who waits for whom, not how fast events are read; `open` says what short ones
do."""
HEALTHY = (
    b'{"model":"gpt-4o","messages":[{"role":"user","content":"hello"}]}',
    b'{"model":"task:triage","messages":[{"role":"user","content":"where is my refund"}]}',
)


@dataclass(frozen=True, slots=True)
class Standing:
    """A connection and the time, of perf_counter, at which it was opened."""

    case: int
    since: float
    trickler: Trickler


class Stock(ServerThread):
    """The failing control: the same application behind uvicorn's own protocol."""

    def __init__(self, app: ASGIApp, **options: Any) -> None:
        super().__init__(app, **options)
        self._server.config.http = HttpToolsProtocol


async def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Open a connection for each case, all at once, and count when each is closed."""
    tally = Tally()
    receipt = OF_BROKEN if broken else SHORT if len(cases) < FEW else RECEIPT
    async with AsyncExitStack() as opened:
        upstream = await opened.enter_async_context(Outside(_said))
        file = make_home(folder / "home", upstream.base_url, receipt_s=receipt, max_concurrency=len(cases) // 2)
        gateway: Served
        if broken:
            gateway = opened.enter_context(serving_app(file, create_app, Stock))
        else:
            gateway = await opened.enter_async_context(serving(file))
        await _ask(Tally(), "warm", gateway.port, 0.2)
        await _ask(tally, "alone", gateway.port, receipt / 2)
        stand, done = asyncio.Event(), asyncio.Event()
        beside = asyncio.ensure_future(_ask_beside(tally, gateway.port, receipt, stand, done))
        await _trickle(tally, cases, gateway.port, receipt, stand)
        done.set()
        await beside
    return tally


def judge(tally: Tally) -> list[str]:
    """Every one closed within the time asked, every healthy request served, none of them slowed down by them."""
    counts, found = tally.counts, []
    if counts["not closed"]:
        found.append(f"not closed in time: {counts['not closed']:,} of {counts['connections']:,}")
    for when in ("alone", "filling", "beside"):
        if counts[f"failed {when}"]:
            found.append(f"healthy requests {when} that failed: {counts[f'failed {when}']:,}")
    alone, beside = (tally.quantile(f"seconds {when}", 0.99) for when in ("alone", "beside"))
    few = min(len(tally.values.get(f"seconds {when}", ())) for when in ("alone", "beside")) < MANY
    if beside > 2 * alone + (NOISE if few else 0.0):
        found.append(f"p99 of healthy requests was {beside * 1e3:.1f} ms beside them, {alone * 1e3:.1f} ms alone")
    if not counts["connections"] or not alone or not beside:
        found.append("nothing was tried")
    return found


def seen(tally: Tally) -> str:
    """One line."""
    counts = tally.counts
    alone, filling, beside = (tally.quantile(f"seconds {when}", 0.99) * 1e3 for when in ("alone", "filling", "beside"))
    return (
        f"{counts['connections'] - counts['not closed']:,} of {counts['connections']:,} trickling connections "
        f"closed in "
        f"time, the slowest after {tally.quantile('closed after', 1.0):.2f} of the time asked; healthy p99 "
        f"{beside:.1f} ms beside them, {filling:.1f} ms while unread replies fill the buffers, {alone:.1f} ms alone "
        f"({len(tally.values.get('seconds beside', ())):,} requests, {counts['failed beside']} failed)"
    )


def _said(received: Received, number: int) -> bytes:
    if STREAMED in received.body:
        return reply(200, LONG, ("content-type", "text/event-stream"))
    return reply(200, LONG if WHOLE in received.body else b'{"object":"chat.completion"}')


async def _ask_beside(tally: Tally, port: int, receipt: float, stand: asyncio.Event, done: asyncio.Event) -> None:
    """Ask healthy requests from when all connections stand until the last is closed; the first of them apart."""
    await stand.wait()
    await _ask(tally, "filling", port, FILLED * receipt)
    await _ask(tally, "beside", port, 10 * receipt, done)


async def _trickle(tally: Tally, cases: range, port: int, receipt: float, stand: asyncio.Event) -> None:
    """Open the connections, and hold them until all are closed, or until half as long again as is asked."""
    asked, started = receipt * ASKED / RECEIPT, perf_counter()
    coming, standing = list(reversed(cases)), list[Standing]()
    every = OPENED * receipt / len(cases)
    while (coming or standing) and perf_counter() - started < 1.5 * asked + OPENED * receipt:
        while coming and perf_counter() - started >= every * (len(cases) - len(coming)):
            standing.append(Standing(coming[-1], perf_counter(), Trickler(WAY_NAMES[coming.pop() % len(WAYS)], port)))
            tally.count("connections")
        if not coming:
            stand.set()
        for each in standing:
            each.trickler.tick()
            if each.trickler.closed:
                _closed(tally, each, asked)
            await asyncio.sleep(0)  # who asks beside them, in this process too, is not to wait for all their ticks
        standing = [each for each in standing if not each.trickler.closed]
        await asyncio.sleep(receipt / 20)
    for each in standing:
        each.trickler.leave()
        tally.fail(each.case, f"{each.trickler.way}: still open after {1.5 * asked:.1f} s", "not closed")


def _closed(tally: Tally, each: Standing, asked: float) -> None:
    each.trickler.leave()
    share = (perf_counter() - each.since) / asked
    tally.measure("closed after", share)
    if share > 1:
        tally.fail(each.case, f"{each.trickler.way}: closed after {share:.2f} of the time asked", "not closed")


async def _ask(tally: Tally, when: str, port: int, seconds: float, done: asyncio.Event | None = None) -> None:
    """Ask healthy requests for some time, or until it is done."""
    await asyncio.gather(*(_client(tally, when, port, perf_counter() + seconds, done) for _ in range(CLIENTS)))


async def _client(tally: Tally, when: str, port: int, until: float, done: asyncio.Event | None) -> None:
    wire, number = await Wire.open(port), 0
    while perf_counter() < until and not (done is not None and done.is_set()):
        began = perf_counter()
        found = await wire.ask(request(body=HEALTHY[number % len(HEALTHY)]), 10.0)
        tally.measure(f"seconds {when}", perf_counter() - began)
        number += 1
        if found is None or found.status != 200:
            tally.fail(
                number, f"a healthy request {when} got {found.status if found else 'no reply'}", f"failed {when}"
            )
            wire.cut()
            wire = await Wire.open(port)
        await asyncio.sleep(PAUSE)
    wire.cut()


PROMISE = Promise(
    id="R7",
    says="Slow clients cannot starve others",
    asked="500 trickling connections: each closed within 15 s, p99 of healthy requests at most twice that without "
    "them; stock uvicorn "
    "fails",
    unit=f"connections that trickle in one of {len(WAYS)} ways, all at once",
    full=500,
    sample=36,
    slow=340,
    control=18,
    chunk=500,
    run=run,
    judge=judge,
    seen=seen,
    open="in the second in which replies that nobody reads fill the buffers on their way, healthy requests take "
    "more than "
    "twice as long (the figure stands in the table and is not judged; such replies of 9-byte events took it to 48 "
    "ms and "
    "closed 75 of 500 a second late); tried with receipt_s = 10, as its default of 15 closes after 15 s and a moment",
    timed=True,
)
