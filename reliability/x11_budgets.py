"""X11: 200 requests at once want the last units of a budget, while workers and the keeper of limits are killed.

Most cases race for it over the workers' sockets; now and then it is a running gateway of two workers, killed in
between, and what its upstream was really asked is counted.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from insource.errors import BudgetReached, InsourceError
from insource.gateway.limits import Claim, Limits
from insource.gateway.limits_shared import LimitsClient, LimitsServer
from insource.store.registry import Registry
from insource.store.spending import FILE, Place
from insource.types import Key
from insource.types import Limits as KeyLimits
from reliability.harness import Promise, Tally
from reliability.plain_upstream import PlainUpstream
from reliability.raw_http import Wire
from reliability.running_gateway import post, running

AT_ONCE = 200
WORKERS = 4
SERVED_EVERY = 100
MOST = Decimal(1)
UNITS = 3
SECONDS = 20.0
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
STREAM = {"model": "m", "stream": True, "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}


class Later(Limits):
    """The broken build: it looks at what was spent, and writes down what a request took when it is over."""

    async def reserve(self, key: str, claims: Sequence[Claim]) -> dict[Place, Decimal]:
        """Look, and reserve nothing."""
        self._opened()
        places = {(key, claim.kind, claim.per): claim for claim in claims}
        for place, claim in places.items():
            self._check(place, claim, NOON)
            self._spent.setdefault(place, Decimal(0))
        return dict.fromkeys(places, Decimal(0))


async def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Race for each case; `broken` does not reserve."""
    tally = Tally()
    for case in cases:
        if case % SERVED_EVERY == SERVED_EVERY - 1 and not broken:
            await _serve(tally, case, folder / str(case))
        else:
            await _race(tally, case, folder / str(case), Later if broken else Limits)
        shutil.rmtree(folder / str(case))
        tally.count("runs")
    return tally


async def _race(tally: Tally, case: int, home: Path, kind: type[Limits]) -> None:
    """Two keepers after one another, the second from what a kill left on the disk, and workers that die meanwhile."""
    chance = random.Random(case)
    limit, spent = MOST * chance.randint(1, 10), Decimal(0)
    killed: list[Limits] = []
    for number in ("first", "second"):
        place = home / number
        if number == "second":
            place.mkdir(parents=True)
            for file in (home / "first").glob(f"{FILE}*"):  # what the system has of a process that was killed
                shutil.copy(file, place)
        else:
            place.mkdir(parents=True)
        limits = kind(place, lambda: NOON)
        server, clients = LimitsServer(limits), []
        for _ in range(WORKERS):
            here, there = socket.socketpair()
            await server.serve(there)
            clients.append(await LimitsClient.connect(here))
        dies = clients[chance.randrange(WORKERS)] if chance.random() < 0.5 else None
        asked = [_ask(clients[n % WORKERS], limit, Decimal(chance.randint(1, 100)) / 100, dies) for n in range(AT_ONCE)]
        found = await asyncio.gather(*asked)
        spent += sum((one for one in found if one is not None), Decimal(0))
        tally.count("granted", sum(one is not None for one in found))
        tally.count("refused", sum(one is None for one in found))
        for client in clients:
            client.close()
        killed.append(limits)
    for limits in killed:  # only now: the first wrote nothing more before its file was taken
        limits.close()
    tally.count("killed")
    tally.measure("spent of the budget", float(spent / limit))
    if spent > limit:
        tally.fail(case, f"{spent} were spent of {limit}", "overspent")


async def _ask(client: LimitsClient, limit: Decimal, cost: Decimal, dies: LimitsClient | None) -> Decimal | None:
    """Return what a request took, None where it was refused; it may take 1 and takes `cost`."""
    try:
        ticket = await client.reserve("k", [Claim("money", "USD", limit, "total", MOST)])
    except BudgetReached:
        return None
    except InsourceError:  # its worker died, and nobody has heard of the reservation
        return None
    await asyncio.sleep(0)  # the upstream's turn
    if client is dies:
        client.close()
    else:
        client.settle(ticket, {"money": cost})
    return cost


async def _serve(tally: Tally, case: int, home: Path) -> None:
    """A gateway with a budget of three requests: what its upstream is asked in all, over a kill."""
    home.mkdir()
    most = len(post(STREAM).partition(b"\r\n\r\n")[2]) + STREAM["max_tokens"]  # type: ignore[operator]
    async with PlainUpstream() as upstream:
        upstream.end.set()
        file = home / "insource.toml"
        file.write_text(
            f'[gateway]\nport = 0\nworkers = 2\ndrain_s = 1\n[store]\nhome = "{home}"\n[upstreams.stub]\n'
            f'base_url = "{upstream.url}"\n'
        )
        limits = KeyLimits(tokens=(most * UNITS, "total"))
        with Registry.open(home) as registry:
            _, text = registry.create_key(Key("", "app", datetime.now(UTC), "soak", limits=limits), "a promise")
        async with running(file) as gateway:
            asking = [asyncio.ensure_future(_post(gateway.port, text)) for _ in range(AT_ONCE)]
            if case % (2 * SERVED_EVERY) < SERVED_EVERY:
                await asyncio.gather(*asking)
                if upstream.asked != UNITS:
                    tally.fail(case, f"{upstream.asked} requests went up, {UNITS} could be paid", "not granted")
            else:
                await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
            gateway.signal(signal.SIGKILL)
            await asyncio.gather(*asking)
            tally.count("gateways killed")
        async with running(file) as gateway:
            told = await asyncio.gather(*(_post(gateway.port, text) for _ in range(AT_ONCE)))
            tally.count("refused over HTTP", sum(status == 429 for status in told))
            gateway.signal(signal.SIGTERM)
        if upstream.asked > UNITS:
            tally.fail(case, f"{upstream.asked} requests went up, {UNITS} could be paid", "overspent")


async def _post(port: int, text: str) -> int:
    """Return the status; 0 where none came."""
    try:
        wire = await Wire.open(port)
    except OSError:
        return 0
    reply = await wire.ask(post(STREAM, f"authorization: Bearer {text}"), SECONDS)
    wire.cut()
    return reply.status if reply is not None else 0


def judge(tally: Tally) -> list[str]:
    """Nothing is overspent, and what there is can be spent."""
    counts = tally.counts
    found = [
        f"{what}: {counts[what]} of {counts['runs']} runs" for what in ("overspent", "not granted") if counts[what]
    ]
    if not (counts["granted"] and counts["refused"] and counts["killed"]):
        found.append("not every outcome was tried")
    if tally.quantile("spent of the budget", 0.5) < 0.2:
        found.append("hardly anything of the budgets could be spent")
    return found


def seen(tally: Tally) -> str:
    """One line."""
    counts = tally.counts
    return (
        f"{counts['runs']:,} runs of {AT_ONCE} requests at once on the last units: {counts['overspent']} overspent; "
        f"{counts['granted']:,} granted, {counts['refused']:,} refused, "
        f"{tally.quantile('spent of the budget', 0.5):.0%} of a budget spent (median), over "
        f"{counts['killed']:,} keepers and {counts['gateways killed']} gateways killed"
    )


PROMISE = Promise(
    id="X11",
    says="Budgets hold under races",
    asked="200 requests at once on the last units of a budget x 500 runs, with kills: 0 overspent",
    unit="races",
    full=500,
    sample=8,
    slow=100,
    control=4,
    chunk=50,
    run=run,
    judge=judge,
    seen=seen,
)
