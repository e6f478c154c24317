"""C3: rollback is immediate. A canary that regresses is rolled back while two workers serve, and answers nothing more.

A case is a task of a gateway of its own round: its second version goes into canary and answers wrongly, crashes, hangs
or scores nonsense; clients keep asking; at the verdict the registry takes it out. The figures are the clients'.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from insource.gateway.metrics import read_text
from insource.store.registry import Registry
from insource.types import Calibration, Stage
from reliability.harness import Promise, Tally
from reliability.plain_upstream import PlainUpstream
from reliability.raw_http import Wire
from reliability.running_gateway import LONGEST, RunningGateway, post, running
from reliability.staged_gateway import FLUSH_SECONDS, KINDS

SECONDS = 2.0
WATCHED, WATCHED_BROKEN = 3.0, 2.3
WORKERS = 2
ROUND = 10
SHARES = (0.05, 0.25, 0.5, 1.0)
CLIENTS = 4
SUBJECTS = 400
CERTIFIED = Calibration("band", 0.05, 0.95, 100, 0.5, 0.5, 50, 0, 0.04, 0.9)


@dataclass
class Asked:
    """What was seen of one task: when its canary was last given a request, and what went wrong."""

    name: str
    fares: str
    share: float
    canary: list[float] = field(default_factory=list)
    answered: int = 0
    broken: list[str] = field(default_factory=list)
    verdict: float = 0.0


async def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Roll back each case's canary, ten at a time; `broken` is deaf for a while, or loads everything anew."""
    tally = Tally()
    async with PlainUpstream() as upstream:
        for start in range(cases.start, cases.stop, ROUND):
            some = range(start, min(start + ROUND, cases.stop))
            kind = ("deaf", "forgetful")[start // ROUND % 2] if broken else ""
            await _round(tally, some, folder / str(start), upstream.url, kind)
    return tally


def judge(tally: Tally) -> list[str]:
    """No canary traffic after two seconds, nothing broken, and the version before loaded all along."""
    counts, found = tally.counts, []
    for what in ("late canary", "broken requests", "loaded again"):
        if counts[what]:
            found.append(f"{what}: {counts[what]:,} in {counts['cases']:,} cases")
    if not counts["cases"] or counts["without canary traffic"]:
        found.append(f"{counts['without canary traffic']:,} of {counts['cases']:,} cases saw no canary traffic before")
    if not counts["answered after"]:
        found.append("nothing was answered after a verdict")
    return found


def seen(tally: Tally) -> str:
    """One line."""
    counts = tally.counts
    return (
        f"{counts['cases']:,} regressions, {WORKERS} workers: the last canary request came "
        f"{tally.quantile('last s', 0.5):.2f} s after the verdict in the middle, "
        f"{tally.quantile('last s', 1.0):.2f} s at most; {counts['late canary']:,} "
        f"after {SECONDS:g} s of {counts['answered after']:,} answered then; {counts['broken requests']:,} of "
        f"{counts['answered']:,} requests broken; {counts['loaded again']:,} versions loaded for a rollback"
    )


async def _round(tally: Tally, cases: range, folder: Path, upstream: str, kind: str) -> None:
    folder.mkdir(parents=True)
    tasks = [_asked(case) for case in cases]
    lines = [
        "[gateway]", "port = 0", f"workers = {WORKERS}", "drain_s = 2",
        "[store]", f'home = "{folder}"', 'record = "after_reply"',
        "[upstreams.main]", f'base_url = "{upstream}"', 'model = "plain"',
    ]  # fmt: skip
    for task in tasks:
        lines += [f"[tasks.{task.name}]", "audit_rate = 0", "deadline_ms = 50"]
    (folder / "insource.toml").write_text("\n".join(lines) + "\n")
    with Registry.open(folder) as registry:
        for task in tasks:
            _register(registry, task)
        module = "reliability.staged_gateway"
        async with running(folder / "insource.toml", module, *([f"BROKEN={kind}"] if kind else [])) as gateway:
            await _drill(gateway, registry, tasks, tally, WATCHED_BROKEN if kind else WATCHED)
    for case, task in zip(cases, tasks, strict=True):
        _count(tally, case, task)


def _asked(case: int) -> Asked:
    chance = Random(case)
    return Asked(f"task-{case}", KINDS[case % len(KINDS)], chance.choice(SHARES))


def _register(registry: Registry, task: Asked) -> None:
    now = datetime.now(UTC)
    for number, fares in ((1, "well"), (2, task.fares)):
        registry.register(task.name, "linear", f"{number}" * 64, CERTIFIED, {"fares": fares}, now)
    registry.promote(task.name, 1, "soak", "soak", now)
    registry.move(task.name, 2, expected=Stage.CANDIDATE, to=Stage.CANARY, share=task.share, who="soak", why="soak",
                  now=now)  # fmt: skip


async def _drill(gateway: RunningGateway, registry: Registry, tasks: list[Asked], tally: Tally, watched: float) -> None:
    stopped = asyncio.Event()
    clients = [asyncio.ensure_future(_ask(gateway.port, tasks, number, stopped)) for number in range(CLIENTS)]
    try:
        end = time.monotonic() + LONGEST
        while any(not task.canary for task in tasks) and time.monotonic() < end:
            await asyncio.sleep(0.01)
        loaded = 2 * len(tasks) * WORKERS
        while (before := await _opened(gateway)) < loaded and time.monotonic() < end:
            await asyncio.sleep(FLUSH_SECONDS / 2)
        for task in tasks:
            task.verdict = time.monotonic() if task.canary else 0.0
            await asyncio.to_thread(
                registry.rollback, task.name, "soak", f"it fares {task.fares}", datetime.now(UTC), expected=2
            )
        await asyncio.sleep(watched)
    finally:
        stopped.set()
        await asyncio.gather(*clients)
    await asyncio.sleep(2 * FLUSH_SECONDS)  # a worker hands its figures over that often
    tally.count("loaded again", int(await _opened(gateway) - before))


async def _opened(gateway: RunningGateway) -> float:
    reply = await gateway.get("/metrics")
    assert reply is not None, "it serves"
    return sum(value for _, value in read_text(reply.body.decode()).get("insource_versions_opened_total", []))


async def _ask(port: int, tasks: list[Asked], number: int, stopped: asyncio.Event) -> None:
    """Ask about one task after the other, for one subject after the other, until told to stop."""
    chance, wire, turn = Random(number), await Wire.open(port), number
    while not stopped.is_set():
        task, turn = tasks[turn % len(tasks)], turn + 1
        body = {"model": f"task:{task.name}", "messages": [{"role": "user", "content": "sure"}],
                "user": f"user {chance.randrange(SUBJECTS)}"}  # fmt: skip
        began = time.monotonic()
        reply = await wire.ask(post(body), LONGEST)
        if reply is None or reply.status != 200 or not _is_completion(reply.body):
            task.broken.append("no reply" if reply is None else f"{reply.status} {reply.body[:100]!r}")
            wire.cut()
            wire = await Wire.open(port)
            continue
        task.answered += 1
        if reply.headers.get("x-insource-version") == "2":
            task.canary.append(began)
    wire.cut()


def _is_completion(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body)["choices"][0]["message"]["content"], str)
    except (ValueError, KeyError, IndexError, TypeError):
        return False


def _count(tally: Tally, case: int, task: Asked) -> None:
    tally.count("cases")
    tally.count(f"fares {task.fares}")
    tally.count("answered", task.answered)
    if task.broken:
        tally.count("broken requests", len(task.broken) - 1)
        tally.fail(case, f"{task.fares}: {task.broken[0]}", "broken requests")
    if not task.verdict:
        tally.fail(case, f"{task.fares}: no canary traffic at share {task.share}", "without canary traffic")
        return
    after = max(task.canary) - task.verdict
    tally.measure("last s", max(0.0, after))
    tally.count("answered after", task.answered)
    if after > SECONDS:
        tally.fail(case, f"{task.fares}: canary traffic {after:.2f} s after the verdict", "late canary")


PROMISE = Promise(
    id="C3",
    says="Rollback is immediate",
    asked="500 induced regressions: 0 % canary traffic <= 2 s after the verdict on all workers, 0 broken requests, "
    "previous version already loaded",
    unit="regressions",
    full=500,
    sample=2,
    slow=30,
    control=4,
    chunk=50,
    run=run,
    judge=judge,
    seen=seen,
    timed=True,
)
