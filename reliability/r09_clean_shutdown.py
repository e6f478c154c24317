"""R9: workers restarted one after another under load, then all of it stopped with a hundred streams open.

The gateway is `insource serve` with two workers. It knows processes, replies and the ledger, nothing of what is asked.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from insource.store.ledger_reader import LedgerReader
from reliability.harness import Promise, Tally
from reliability.plain_upstream import ENDLESS, PlainUpstream
from reliability.raw_http import Wire
from reliability.running_gateway import LONGEST, Clients, RunningGateway, post, running, until

STREAMS = 100
CLIENTS = 6
PER_GATEWAY = 10
"""Restarts of one gateway before it is stopped and another is started."""
DEADLINE = 1
UNREADY, GRACE = 1.0, 2.0


async def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Restart one worker for each case, and stop the gateway after every tenth; `broken` workers do not drain."""
    tally = Tally()
    for first in range(cases.start, cases.stop, PER_GATEWAY):
        home = folder / str(first)
        home.mkdir()
        await _try(tally, range(first, min(first + PER_GATEWAY, cases.stop)), home, broken)
    return tally


def judge(tally: Tally) -> list[str]:
    """Nothing failed, nothing lost, every stream ended as it should, and all in time."""
    counts, found = tally.counts, []
    for what in ("failed requests", "lost records", "late restarts", "cut streams", "still ready", "late exits"):
        if counts[what]:
            found.append(f"{what}: {counts[what]:,}")
    if not counts["restarts"] or not counts["answered"] or not counts["streams ended"] + counts["streams told"]:
        found.append("nothing was tried")
    return found


def seen(tally: Tally) -> str:
    """One line."""
    counts = tally.counts
    return (
        f"{counts['restarts']:,} restarts: {counts['failed requests']} of "
        f"{counts['answered'] + counts['failed requests']:,} plain requests failed, {counts['lost records']} records "
        f"lost; {counts['stops']:,} stops with {STREAMS} streams: {counts['streams ended']:,} ended, "
        f"{counts['streams told']:,} with an error event, {counts['cut streams']} cut; unready after at most "
        f"{tally.quantile('unready', 1.0):.2f} s, exit at most {tally.quantile('after the deadline', 1.0):.2f} s after "
        "the deadline"
    )


async def _try(tally: Tally, cases: range, home: Path, broken: bool) -> None:
    async with PlainUpstream() as upstream:
        file = home / "insource.toml"
        file.write_text(
            f'[gateway]\nport = 0\nworkers = 2\ndrain_s = {DEADLINE}\n[store]\nhome = "{home}"\n'
            f'[upstreams.main]\nbase_url = "{upstream.url}"\n'
        )
        build = ("reliability.broken_gateway", "BROKEN=abrupt") if broken else ()
        async with running(file, *build) as gateway:
            clients = Clients(gateway.port, CLIENTS)
            clients.start()
            await clients.more(20)
            for case in cases:
                await _restart(tally, case, gateway, clients)
            await clients.stop()
            await _stop(tally, cases[-1], gateway, upstream)
        for what in clients.failed:
            tally.fail(cases[-1], what, "failed requests")
        tally.count("answered", len(clients.answered))
        for lost in _lost(home, clients.answered):
            tally.fail(cases[-1], f"lost: {lost}", "lost records")


async def _restart(tally: Tally, case: int, gateway: RunningGateway, clients: Clients) -> None:
    """Tell one worker to stop; go on once another serves in its place, and both have answered."""
    before = gateway.workers()
    old = before[case % len(before)]
    os.kill(old, signal.SIGTERM)
    tally.count("restarts")
    if not await until(lambda: len(gateway.workers()) == len(before) and old not in gateway.workers()):
        tally.fail(case, "the worker was not started again", "late restarts")
    new = next(iter({*gateway.workers()} - {*before}), None)
    if new is None or not await until(lambda: _serves(new)):
        tally.fail(case, "the new worker does not serve", "late restarts")
    await clients.more(20)


def _serves(pid: int) -> bool:
    """Whether a process has ever had a connection of a client, or an upstream: more sockets than it was born with."""
    with suppress(OSError):
        links = [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()]
        return sum(link.startswith("socket:") for link in links) > 4
    return False


@dataclass
class _Stream:
    """A reply as it comes."""

    wire: Wire
    endless: bool

    def outcome(self) -> str:
        """Say how it ended."""
        reply = self.wire.replies[0] if self.wire.replies else None
        if reply is None or not reply.whole:
            return "cut streams"
        if reply.body.endswith(b"data: [DONE]\n\n") and not self.endless:
            return "streams ended"
        return "streams told" if b'"error"' in reply.body.rpartition(b"\n\ndata:")[2] else "cut streams"


async def _stop(tally: Tally, case: int, gateway: RunningGateway, upstream: PlainUpstream) -> None:
    """Stop it with streams open, half of which end before the deadline, and see what becomes of it all."""
    streams = []
    for number in range(STREAMS):
        wire = await Wire.open(gateway.port)
        endless = number % 2 == 0
        wire.send(post({"model": ENDLESS if endless else "m", "messages": [], "stream": True}))
        streams.append(_Stream(wire, endless))
    await until(lambda: upstream.streams >= STREAMS and all(stream.wire.replies for stream in streams))
    told = time.monotonic()
    gateway.signal(signal.SIGTERM)
    tally.count("stops")
    unready = asyncio.ensure_future(_unready(gateway))
    await asyncio.sleep(DEADLINE / 2)
    upstream.end.set()
    with suppress(TimeoutError):
        await asyncio.wait_for(gateway.process.wait(), LONGEST)
    late = time.monotonic() - told - DEADLINE
    tally.measure("after the deadline", late)
    if late > GRACE or gateway.process.returncode != 0:
        tally.fail(case, f"exit {gateway.process.returncode} {late:.2f} s after the deadline", "late exits")
    took = await unready - told
    tally.measure("unready", took)
    if took > UNREADY:
        tally.fail(case, f"ready for {took:.2f} s more", "still ready")
    await until(lambda: all(stream.wire.closed for stream in streams), 1.0)
    for what, number in Counter(stream.outcome() for stream in streams).items():
        if what == "cut streams":
            tally.fail(case, f"{number} streams were cut")
        tally.count(what, number)


async def _unready(gateway: RunningGateway) -> float:
    """Return the time at which it says, or shows, for the first time that it takes no more."""
    while True:
        reply = await gateway.get("/readyz")
        if reply is None or reply.status != 200:
            return time.monotonic()
        await asyncio.sleep(0.01)


def _lost(home: Path, answered: list[str]) -> list[str]:
    """Return what was answered whole and is not on record whole: each with its decision and its settlement."""
    with LedgerReader(home) as ledger:
        settled = {row.decision.request_id for row in ledger.rows() if row.settlement is not None}
    return [request_id for request_id in answered if request_id not in settled]


PROMISE = Promise(
    id="R9",
    says="Shutdown is bounded and clean",
    asked=f"SIGTERM with {STREAMS} open streams: unready within 1 s, streams end normally or with an error event by "
    "the deadline, exit within the deadline and 2 s; 200 rolling restarts of 2 workers: 0 failed plain requests, 0 "
    "lost records",
    unit="restarts of one of two workers under load; a stop with streams after every tenth",
    full=400,
    sample=1,
    slow=21,
    control=1,
    chunk=20,
    run=run,
    judge=judge,
    seen=seen,
    timed=True,
)
