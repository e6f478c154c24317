"""R16: configurations that nobody should take over, and sound ones compared with a cold start.

The gateway is `insource serve` with two workers under load, told to reload each wrong file. The comparison runs in
this process, with a worker's own way of reloading. It knows settings only through `config_texts`.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from pathlib import Path
from random import Random

from reliability.cold_start import differences
from reliability.config_texts import sound, wrong
from reliability.harness import Promise, Tally
from reliability.plain_upstream import PlainUpstream
from reliability.running_gateway import LONGEST, Clients, RunningGateway, running, until

ALARM = 1.0
OF_BROKEN = 0.2
"""How much longer than ALARM an alarm of the broken build is waited for, and how long for its replies."""
CLIENTS = 3
PER_SOUND = 20
"""Wrong files for each sound one that is taken over by the running gateway."""
RELOADS = "insource_config_reloads_total"


async def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Reload a wrong file for each case, and compare a reload with a cold start; `broken` checks no file."""
    tally = Tally()
    home = folder / "home"
    home.mkdir()
    async with PlainUpstream() as right, PlainUpstream() as never:
        file = home / "insource.toml"
        file.write_text(sound(Random(cases.start), str(home), right.url, workers=2))
        build = ("reliability.broken_gateway", "BROKEN=trusting") if broken else ()
        async with running(file, *build) as gateway:
            clients = Clients(gateway.port, CLIENTS, pause=0.01)
            clients.start()
            await clients.more(20)
            before = gateway.workers()
            for case in cases:
                made = wrong(case, sound(Random(case), str(home), never.url, workers=2))
                await _refuse(tally, case, gateway, file, made, ALARM + OF_BROKEN if broken else 2 * ALARM)
                await clients.more(3, OF_BROKEN if broken else LONGEST)
                if case % PER_SOUND == PER_SOUND - 1:
                    await _accept(tally, case, gateway, file, sound(Random(case), str(home), right.url, workers=2))
            if broken:
                gateway.process.kill()  # nobody would answer what its clients have asked
            await clients.stop()
            if not broken:
                await _look_back(tally, cases[-1], gateway, before)
                gateway.signal(signal.SIGTERM)
                await gateway.process.wait()
        for what in clients.failed:
            tally.fail(cases[-1], what, "errors")
        tally.count("answered", len(clients.answered))
        tally.count("wrongly served", never.asked)
    for case in cases:
        await _compare(tally, case, folder / f"compared-{case}")
    return tally


def judge(tally: Tally) -> list[str]:
    """Refused, said so in time, and nobody noticed; what a sound one changes is what a cold start makes of it."""
    counts, found = tally.counts, []
    for what in ("not refused", "late alarms", "missing alarms", "errors", "wrongly served", "sound refused", "stale"):
        if counts[what]:
            found.append(f"{what}: {counts[what]:,}")
    if not counts["refused"] or not counts["compared"] or not counts["answered"]:
        found.append("nothing was tried")
    return found


def seen(tally: Tally) -> str:
    """One line."""
    counts = tally.counts
    return (
        f"{counts['refused']:,} of {counts['wrong files']:,} wrong configurations refused, the alarm after at most "
        f"{tally.quantile('alarm', 1.0):.2f} s ({tally.quantile('alarm', 0.5) * 1_000:.0f} ms median); "
        f"{counts['errors']} errors of {counts['answered']:,} requests, {counts['wrongly served']} served under a "
        f"wrong one; {counts['taken over']:,} sound ones taken over meanwhile; {counts['compared']:,} reloads compared "
        f"with a cold start, {counts['stale']} differ"
    )


async def _refuse(
    tally: Tally, case: int, gateway: RunningGateway, file: Path, made: tuple[str, bytes | None], seconds: float
) -> None:
    """Put a wrong file in place, have it reloaded, and wait for the alarm in the status file and the log."""
    kind, data = made
    tally.count("wrong files")
    if data is None:
        file.unlink()
    else:
        file.write_bytes(data)
    number, said = gateway.status().reload.number, gateway.log().count("is refused")
    told = time.monotonic()
    gateway.signal(signal.SIGHUP)
    in_time = await until(lambda: gateway.status().reload.number > number, seconds)
    took = time.monotonic() - told
    tally.measure("alarm", took)
    if not in_time or took > ALARM:
        tally.fail(case, f"{kind}: {took:.2f} s", "late alarms")
    if (result := gateway.status().reload.result) != "refused":
        tally.fail(case, f"{kind}: {result}", "not refused")
        return
    tally.count("refused")
    if gateway.log().count("is refused") == said:
        tally.fail(case, f"{kind}: not in the log", "missing alarms")


async def _accept(tally: Tally, case: int, gateway: RunningGateway, file: Path, text: str) -> None:
    """Have a sound file taken over."""
    file.write_text(text)
    number = gateway.status().reload.number
    gateway.signal(signal.SIGHUP)
    await until(lambda: gateway.status().reload.number > number, 2 * ALARM)
    told = gateway.status().reload
    if told.number == number or told.result != "loaded":
        tally.fail(case, told.message, "sound refused")
    tally.count("taken over")


async def _look_back(tally: Tally, case: int, gateway: RunningGateway, workers: list[int]) -> None:
    """See whether the metrics tell of every refusal (workers hand theirs over every second), and no worker ended."""
    if gateway.workers() != workers:
        tally.fail(case, "a worker was started again", "errors")
    wanted = tally.counts["refused"]
    end = time.monotonic() + 3.0
    told = 0.0
    while told != wanted and time.monotonic() < end:
        page = await gateway.get("/metrics")
        lines = page.body.decode().splitlines() if page else []
        told = sum(float(line.split()[-1]) for line in lines if line.startswith(RELOADS + '{result="refused"}'))
    if told != wanted:
        tally.fail(case, f"the metrics tell of {told:.0f} refusals of {wanted}", "missing alarms")


async def _compare(tally: Tally, case: int, home: Path) -> None:
    """Reload one sound configuration over another and compare all that stands with a start under the second."""
    texts = [sound(Random(f"{case} {which}"), str(home), "http://127.0.0.1:9/v1") for which in ("first", "second")]
    found = await differences(home, texts[0].encode(), texts[1].encode())
    tally.count("compared")
    if found:
        tally.fail(case, f"{len(found)} differ: {found[:3]}", "stale")
    for where, number in Counter(each.split(":")[0] for each in found).items():
        tally.count(f"stale at {where}", number)


PROMISE = Promise(
    id="R16",
    says="A bad config cannot hurt",
    asked="500 malformed or contradictory configs: old config keeps serving, 0 errors, alarm within 1 s; every derived "
    "cache rebuilt (checked by comparing with a cold start)",
    unit="wrong configurations reloaded by a gateway under load, and sound ones reloaded and compared",
    full=500,
    sample=8,
    slow=120,
    control=1,
    chunk=125,
    run=run,
    judge=judge,
    seen=seen,
    open="a key of thousands of dotted parts is refused, but later than that: tomllib takes time by the square of its "
    "parts (5,000: 1.3 s on two shared cores). Specialists of the comparison are doubles",
    timed=True,
)
