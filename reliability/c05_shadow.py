"""C5: shadow is invisible. Two gateways get the same requests side by side, one with a version in shadow.

The version is dead (it cannot be opened), failing, hung (it holds its thread), or slow. Whatever it does, the replies
are those of the gateway without it, the upstream gets no call more, and nobody waits: a delay that both gateways have
is the machine's, and cancels out.
"""

from __future__ import annotations

import asyncio
import json
import math
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any

from insource.cascade.builder import build_task
from insource.cascade.choice import NOT_TOSSED, Choice, Toss
from insource.cascade.coin import hash_coin
from insource.cascade.shadow import Shadow
from insource.config import Config, GatewayConfig, PolicyConfig, StoreConfig, UpstreamConfig
from insource.gateway import generation
from insource.gateway.parts import Parts
from insource.store.registry import Registry
from insource.types import Calibration, Request, Sensitivity, Stage, Task
from reliability.enclosed import Clerk, Enclosed, enclosed
from reliability.harness import Promise, Tally
from reliability.recording import Outside, Received, reply

KINDS = ("dead", "failing", "hung", "slow")
PAIRS = 60
TOOLS = [{"type": "function", "function": {"name": "write_file"}}]
MS = 1.0
SHARE = 0.01
HANGS, CONTROL_HANGS = 60.0, 0.01
CERTIFIED = Calibration("band", 0.05, 0.95, 100, 0.5, 0.5, 50, 0, 0.04, 0.9)
WELL = b'{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"content":"yes"}}]}'


class Misfit(Clerk):
    """A version in shadow that fares badly, and notes what it was given."""

    def __init__(self, name: str, kind: str, hangs: float) -> None:
        super().__init__(name)
        self.info = replace(self.info, inline=kind == "hung")
        self.given: list[Request] = []
        self.let_go = threading.Event()
        self._kind = kind
        self._hangs = hangs

    async def answer(self, request: Request) -> Any:
        """Fail, hold the thread, or take its time."""
        self.given.append(request)
        if self._kind == "failing":
            raise ValueError("broken")
        if self._kind == "hung":
            self.let_go.wait(self._hangs)
        if self._kind == "slow":
            await asyncio.sleep(0.01)
        return await super().answer(request)


class Eager(Shadow):
    """The broken build: the version is asked before the reply, and its failure is the caller's."""

    async def decide(self, request: Request, toss: Toss = NOT_TOSSED) -> Choice:
        """Ask, then choose."""
        for beside in self._versions:
            if beside.tier.backend is not None:
                await beside.tier.backend.answer(request)
        return await super().decide(request, toss)


class NoLedger:
    """A ledger that takes everything at once, and notes the audits."""

    def __init__(self) -> None:
        self.rows: list[str] = []
        self.audits: list[Any] = []
        self.waiting = self.lost = 0
        self.failing = None

    def note(self, *_: Any, **__: Any) -> None:
        """Take a decision."""
        self.rows.append("decision")

    async def append(self, *_: Any, **__: Any) -> None:
        """Take a decision."""
        self.rows.append("decision")

    def settle(self, *_: Any, **__: Any) -> Any:
        """Take what became of it."""
        self.rows.append("settlement")

    def act(self, *_: Any, **__: Any) -> Any:
        """Take an act."""

    def audit(self, audit: Any, *_: Any, **__: Any) -> Any:
        """Take an audit."""
        self.audits.append(audit)

    async def purge(self, now: datetime) -> int:
        """Erase nothing."""
        return 0


@dataclass
class Side:
    """One of the two gateways."""

    gateway: Enclosed
    upstream: Outside
    ledger: NoLedger
    shadows: list[Misfit] = field(default_factory=list)

    async def ask(self, body: bytes, headers: list[tuple[str, str]]) -> tuple[tuple[object, ...], float]:
        """Send one request; return what its client learns, and the seconds it took."""
        started = perf_counter()
        replied = await self.gateway.ask("/v1/chat/completions", body, headers)
        seconds = perf_counter() - started
        told = [replied.headers.get(f"x-insource-{name}") for name in ("served-by", "reason", "version", "score")]
        try:
            said = json.loads(replied.body)
            said = said["choices"][0]["message"]["content"] if "choices" in said else said["error"]["code"]
        except (ValueError, KeyError, TypeError):
            said = None
        return (replied.status, said, *told), seconds


async def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Send each case's requests to both gateways; `broken` asks the version before it replies."""
    tally = Tally()
    for case in cases:
        kind = KINDS[case % len(KINDS)]
        async with _side(folder / f"{case}-plain", None, case) as plain:
            async with _side(folder / f"{case}-shadowed", kind, case, broken=broken) as shadowed:
                await _compare(tally, case, plain, shadowed)
        _check(tally, case, kind, plain, shadowed)
    return tally


def judge(tally: Tally) -> list[str]:
    """No reply differs, nobody waits, no call more, nothing given that may not be."""
    counts, found = tally.counts, []
    for what in ("other replies", "calls more", "rows more", "given wrongly", "not invited"):
        if counts[what]:
            found.append(f"{what}: {counts[what]:,} in {counts['cases']:,} cases")
    excess, error = _excess(tally)
    added = tally.quantile("shadowed ms", 0.99) - tally.quantile("plain ms", 0.99)
    if excess - 3 * error > SHARE or (added > MS and excess - 2 * error > 0.0):
        found.append(f"p99 + {added:.2f} ms; {100 * excess:.1f} % of the requests more than {MS:g} ms later")
    if not counts["pairs"]:
        found.append("nothing was asked")
    return found


def seen(tally: Tally) -> str:
    """One line."""
    counts, (excess, error) = tally.counts, _excess(tally)
    plain, shadowed = (tally.quantile(f"{name} ms", 0.99) for name in ("plain", "shadowed"))
    return (
        f"{counts['pairs']:,} requests beside a shadow that was dead, failing, hung or slow: "
        f"{counts['other replies']:,} replies differ; p99 {shadowed:.2f} ms against {plain:.2f} without; "
        f"late by more than {MS:g} ms rather than early: {100 * excess:.2f} % (+- {200 * error:.2f}); "
        f"{counts['calls more']:,} upstream calls more; "
        f"{counts['given']:,} requests given to it, {counts['given wrongly']:,} of them restricted or with tools"
    )


def _excess(tally: Tally) -> tuple[float, float]:
    """Return by how much more often the shadowed side was late than the plain one, and the standard error."""
    pairs = tally.counts["pairs"]
    if not pairs:
        return 0.0, 0.0
    late, early = tally.counts["later"] / pairs, tally.counts["sooner"] / pairs
    return late - early, math.sqrt(max(late + early - (late - early) ** 2, 0.0) / pairs)


async def _compare(tally: Tally, case: int, plain: Side, shadowed: Side) -> None:
    chance = Random(case)
    for number in range(PAIRS + 1):
        fields: dict[str, Any] = {"tools": TOOLS} if chance.random() < 0.1 else {}
        headers = [("host", "localhost")]
        if chance.random() < 0.1:
            headers.append(("x-insource-sensitivity", "restricted"))
        text = chance.choice(("sure", "unsure"))
        body = {"model": "task:triage", "messages": [{"role": "user", "content": f"{text} {number}"}], **fields}
        sent, found = json.dumps(body).encode(), {}
        for name in chance.sample(("plain", "shadowed"), 2):
            side = plain if name == "plain" else shadowed
            found[name] = await side.ask(sent, headers)
            await asyncio.sleep(0)
        if not number:
            continue  # the first opens connections
        (one, took), (other, took_beside) = found["plain"], found["shadowed"]
        tally.count("pairs")
        tally.measure("plain ms", took * 1_000)
        tally.measure("shadowed ms", took_beside * 1_000)
        tally.count("later", (took_beside - took) * 1_000 > MS)
        tally.count("sooner", (took - took_beside) * 1_000 > MS)
        if one != other:
            tally.fail(case, f"{one} without, {other} with", "other replies")


def _check(tally: Tally, case: int, kind: str, plain: Side, shadowed: Side) -> None:
    """Look at what both left behind, now that both are closed."""
    tally.count("cases")
    tally.count(f"kind {kind}")
    calls = len(shadowed.upstream.requests) - len(plain.upstream.requests)
    if calls:
        tally.fail(case, f"{kind}: {calls} upstream calls more", "calls more")
    if len(shadowed.ledger.rows) != len(plain.ledger.rows):
        tally.fail(case, f"{kind}: {len(shadowed.ledger.rows)} rows, not {len(plain.ledger.rows)}", "rows more")
    given = [request for one in shadowed.shadows for request in one.given]
    tally.count("given", len(given))
    for request in given:
        if request.sensitivity is Sensitivity.RESTRICTED or "tools" in request.fields:
            tally.fail(case, f"{kind}: given {request.id}", "given wrongly")
    beside = [audit for audit in shadowed.ledger.audits if audit.version == 2]
    if not beside or (kind != "dead" and not given):
        tally.fail(case, f"{kind}: the shadow was never asked", "not invited")


@asynccontextmanager
async def _side(folder: Path, kind: str | None, case: int, *, broken: bool = False) -> AsyncIterator[Side]:
    folder.mkdir(parents=True)
    shadows: list[Misfit] = []

    def opened(version: Any, upstream: Any = None) -> Any:
        if version.version == 1:
            return Clerk(version.name)
        if kind == "dead":
            raise ValueError("its bytes are no model")
        shadows.append(Misfit(version.name, str(kind), CONTROL_HANGS if broken else HANGS))
        return shadows[-1]

    with ExitStack() as stack:
        registry = stack.enter_context(Registry.open(folder))
        stack.callback(lambda: [one.let_go.set() for one in shadows])
        _register(registry, shadowed=kind is not None)
        ledger, ids = NoLedger(), iter(range(10**9))
        async with Outside(_is_well) as upstream:
            parts = Parts(_config(folder, upstream), ledger, registry, opened, new_id=lambda: f"{case}-{next(ids)}",
                          coin=hash_coin(case))  # fmt: skip
            with _eagerly() if broken else ExitStack():
                async with enclosed(parts) as gateway:
                    yield Side(gateway, upstream, ledger, shadows)


@contextmanager
def _eagerly() -> Iterator[None]:
    """Have every generation opened meanwhile ask its versions in shadow before it replies."""

    def build(task: Task, *, trial: Any, **parts: Any) -> Any:
        inner = build_task(task, trial=trial, **parts)
        beside = [one for one in getattr(getattr(inner, "_inner", None), "_versions", ()) if one.version == 2]
        return Eager(inner, beside, task=task, record=parts["record"])

    generation.build_task = build  # type: ignore[assignment]
    try:
        yield
    finally:
        generation.build_task = build_task


def _register(registry: Registry, *, shadowed: bool) -> None:
    now = datetime.now(UTC)
    for number in (1, 2):
        registry.register("triage", "linear", f"{number}" * 64, CERTIFIED, {}, now)
    registry.promote("triage", 1, "soak", "soak", now)
    if shadowed:
        registry.move("triage", 2, expected=Stage.CANDIDATE, to=Stage.SHADOW, who="soak", why="soak", now=now)


def _is_well(received: Received, number: int) -> bytes:
    return reply(200, WELL)


def _config(folder: Path, upstream: Outside) -> Config:
    main = UpstreamConfig("main", upstream.base_url, timeout_s=30.0, model="model-x", retries=0)
    gateway = GatewayConfig("127.0.0.1", 0, 100, 1, 1.0, 1.0, (("main", 1.0),))
    tasks = {"triage": Task("triage", audit_rate=0.25, deadline_ms=5)}
    return Config(gateway, StoreConfig(folder, 30, "after_reply"), {"main": main}, tasks, PolicyConfig(), {}, {})


PROMISE = Promise(
    id="C5",
    says="Shadow is invisible",
    asked="shadow dead, hung or slow: primary errors 0, p99 + <= 1 ms; no tool or write calls; within its budget; "
    "obeys S1",
    unit="cases of 60 pairs of requests",
    full=400,
    sample=8,
    slow=48,
    control=len(KINDS),
    chunk=80,
    run=run,
    judge=judge,
    seen=seen,
    timed=True,
)
