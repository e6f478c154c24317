"""X11: 200 requests at once want the last units of a budget, while workers and the keeper of limits are killed.

Most cases race for it over the workers' sockets, every other one on lease; now and then it is a running gateway of two
workers, killed in between, and what its upstream was really asked is counted.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from insource.gateway.limits import LimitKeeper
from insource.store.registry import Registry
from insource.types import Key, Limits
from reliability.budget_races import AT_ONCE, Later, Race, Unreserved
from reliability.harness import Promise, Tally
from reliability.plain_upstream import PlainUpstream
from reliability.raw_http import Wire
from reliability.running_gateway import post, running, until

SERVED_EVERY, SERVED_AT = 40, 7
"""Of so many cases which one is served; by turns it is killed once all were answered, or with requests under way."""
UNITS = 3
SECONDS = 20.0
STREAM = {"model": "m", "stream": True, "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}


async def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Race for each case; `broken` reserves nothing, or nothing of what it leases out."""
    tally = Tally()
    tally.count("broken", broken)
    for case in cases:
        if case % SERVED_EVERY == SERVED_AT and not broken:
            tally.count("gateways due")
            await _serve(tally, case, folder / str(case))
        else:
            on_lease = case % 2 == 1
            kind = (Unreserved if on_lease else Later) if broken else LimitKeeper
            await race(tally, case, folder / str(case), kind, on_lease)
        shutil.rmtree(folder / str(case))
        tally.count("runs")
    return tally


async def race(tally: Tally, case: int, home: Path, kind: type[LimitKeeper], on_lease: bool) -> None:
    """Race once, over two keepers of this kind."""
    found = Race(case, home, kind, on_lease)
    await found.run()
    for name, number in (("granted", found.granted), ("refused", found.refused), ("leased", found.leased)):
        tally.count(name, number)
    tally.count("killed")
    tally.count("on lease", on_lease)
    tally.count("had leases", found.leased > 0)
    tally.measure("spent on lease" if on_lease else "spent of the budget", float(found.spent / found.left))
    if found.spent > found.left:
        what = f"{found.spent} were spent of {found.left} that were left of {found.limit}"
        tally.fail(case, what, "overspent on lease" if on_lease else "overspent")


async def _serve(tally: Tally, case: int, home: Path) -> None:
    """A gateway with a budget of three requests: what its upstream is asked in all, over a kill."""
    home.mkdir()
    most = len(post(STREAM).partition(b"\r\n\r\n")[2]) + STREAM["max_tokens"]  # type: ignore[operator]
    whole = case // SERVED_EVERY % 2 == 0
    async with PlainUpstream() as upstream:
        if whole:
            upstream.end.set()
        file = home / "insource.toml"
        file.write_text(
            f'[gateway]\nport = 0\nworkers = 2\ndrain_s = 1\n[store]\nhome = "{home}"\n[upstreams.stub]\n'
            f'base_url = "{upstream.url}"\n'
        )
        limits = Limits(tokens=(most * UNITS, "total"))
        with Registry.open(home) as registry:
            _, text = registry.create_key(Key("", "app", datetime.now(UTC), "soak", limits=limits), "a promise")
        async with running(file) as gateway:
            asking = [asyncio.ensure_future(_post(gateway.port, text)) for _ in range(AT_ONCE)]
            if whole:
                await asyncio.wait(asking)
            under_way = not whole and await until(lambda: upstream.streams > 0)  # a granted one: its reply is held
            if whole and upstream.asked != UNITS:
                tally.fail(case, f"{upstream.asked} requests went up, {UNITS} could be paid", "not granted")
            gateway.signal(signal.SIGKILL)
            await asyncio.gather(*asking)
            upstream.end.set()
            tally.count("under way due", not whole)
            tally.count("killed with requests under way", under_way)
            tally.count("gateways killed")
        async with running(file) as gateway:
            told = Counter(await asyncio.gather(*(_post(gateway.port, text) for _ in range(AT_ONCE))))
            tally.count("refused over HTTP", told[429])
            if set(told) - ({429} if whole else {200, 429}) or not told[429]:
                tally.fail(case, f"after the restart: {dict(told)}", "answered otherwise after a restart")
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
    """Nothing is overspent, and what there is can be spent, much of it on lease.

    Of the two broken builds both must be found: a control with one of them is none.
    """
    counts = tally.counts
    wrong = ("overspent", "overspent on lease", "not granted", "answered otherwise after a restart")
    found = [f"{what}: {counts[what]} of {counts['runs']} runs" for what in wrong if counts[what]]
    tried = counts["granted"] and counts["refused"] and counts["killed"] and counts["leased"]
    wanted = (
        ("gateways killed", "gateways due"),
        ("killed with requests under way", "under way due"),
        ("had leases", "on lease"),
    )
    if not tried or any(counts[done] < counts[due] for done, due in wanted):
        found.append("not every outcome was tried")
    if min(tally.quantile(spent, 0.5) for spent in ("spent of the budget", "spent on lease")) < 0.2:
        found.append("hardly anything of the budgets could be spent")
    if counts["broken"] and not (counts["overspent"] and counts["overspent on lease"]):
        return []
    return found


def seen(tally: Tally) -> str:
    """One line."""
    counts = tally.counts
    return (
        f"{counts['runs']:,} runs of {AT_ONCE} requests at once on the last units: "
        f"{counts['overspent'] + counts['overspent on lease']} overspent; {counts['granted']:,} granted, "
        f"{counts['leased']:,} requests on lease, {counts['refused']:,} refused, "
        f"{tally.quantile('spent of the budget', 0.5):.0%} of a budget spent (median; on lease "
        f"{tally.quantile('spent on lease', 0.5):.0%}), over "
        f"{counts['killed']:,} keepers and {counts['gateways killed']} gateways killed "
        f"({counts['killed with requests under way']} with requests under way); {counts['refused over HTTP']:,} "
        "requests refused by those started again"
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
