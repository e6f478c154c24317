"""R11: ledger, registry, check, upstream or a tier answers after 20 s: it is given up in time, and then left alone.

Each case slows one of them down. Deadlines are short, so that a case takes no minute; the slowness is real.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from insource.answers import AnswerSpace
from insource.backends.house_tier import HouseTier, TierScore, behind
from insource.config import Allowed, Config, GatewayConfig, PolicyConfig, StoreConfig, UpstreamConfig
from insource.errors import StoreError
from insource.gateway.gateway import Gateway
from insource.gateway.parts import Parts
from insource.gateway.patience import Patience, TimelyLedger
from insource.policy.breaker import Breaker
from insource.policy.sensitivity import Judge
from insource.store.registry import Registry
from insource.types import Calibration, Request, Sensitivity, Task, WhenKept
from reliability.enclosed import Clerk, Enclosed, Replied, enclosed
from reliability.harness import Promise, Tally
from reliability.recording import Outside, Received, reply

SLOW = 20.0
DEADLINE = 0.03
LATE = 1.0  # what a deadline may be missed by
MOST_CALLS = 5
OPEN_ASKED = 5
OPEN_MS = 5.0
REST = 60.0
CERTIFIED = Calibration("band", 0.05, 0.95, 100, 0.5, 0.5, 50, 0, 0.04, 0.9)
WELL = b'{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"content":"yes"}}]}'


class SlowLedger:
    """A ledger that confirms a decision after 20 s; `waits` False makes it quick."""

    def __init__(self) -> None:
        self.waits = False
        self.calls = 0
        self.waiting = self.lost = 0
        self.failing: StoreError | None = None

    async def append(self, decision: Any, content: Any = None, *, keep_text: bool = False) -> None:
        """Take one decision."""
        self.calls += 1
        if self.waits:
            await asyncio.sleep(SLOW)

    def note(self, *args: Any, **options: Any) -> None:
        """Take one decision without a word."""

    def settle(self, *args: Any, **options: Any) -> Any:
        """Take what became of it."""

    audit = act = settle

    async def purge(self, now: datetime) -> int:
        """Erase nothing."""
        return 0


class SlowRegistry:
    """A registry that takes 20 s to queue a review, unless it is let go."""

    def __init__(self, inner: Registry) -> None:
        self._inner = inner
        self.let_go = threading.Event()
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def ask_review(self, *args: Any) -> None:
        """Queue one."""
        self.calls += 1
        self.let_go.wait(SLOW)
        self._inner.ask_review(*args)


class SlowCheck:
    """A check of a text that takes 20 s."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, request: Request) -> Sensitivity:
        """Find nothing, much too late."""
        self.calls += 1
        await asyncio.sleep(SLOW)
        return Sensitivity.PUBLIC


@dataclass
class Scene:
    """A gateway with one slow dependency: how to ask it so that it matters, and how often that was called."""

    gateway: Enclosed
    upstream: Outside
    calls: Callable[[], int]
    model: str
    fails_closed: bool
    registry: SlowRegistry
    sent: list[Replied] = field(default_factory=list)

    async def ask(self, restricted: bool = False) -> tuple[Replied, float]:
        """Send one request; return the reply and the seconds it took."""
        body = json.dumps({"model": self.model, "messages": [{"role": "user", "content": "unsure"}]}).encode()
        headers = [("host", "localhost")] + [("x-insource-sensitivity", "restricted")] * restricted
        started = perf_counter()
        replied = await self.gateway.ask("/v1/chat/completions", body, headers)
        self.sent.append(replied)
        return replied, perf_counter() - started


KINDS = ("upstream", "upstream with a deadline", "check", "ledger", "registry", "tier")


async def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Slow one dependency down for each case; `broken` has no breaker that ever opens."""
    tally = Tally()
    for case in cases:
        kind = KINDS[case % len(KINDS)]
        async with _scene(kind, folder / f"{case}", broken) as scene:
            await _try(tally, case, kind, scene)
        tally.count(f"kind {kind}")
    return tally


def judge(tally: Tally) -> list[str]:
    """Few calls, a quick refusal afterwards, deadlines kept, and nothing restricted gone up."""
    counts, found = tally.counts, []
    for what in ("too many calls", "late", "restricted gone up", "no refusal"):
        if counts[what]:
            found.append(f"{what}: {counts[what]:,} of {counts['cases']:,} cases")
    if tally.quantile("open path ms", 0.99) > OPEN_MS:
        found.append(f"a dependency that rests is refused in {tally.quantile('open path ms', 0.99):.1f} ms at p99")
    missing = [kind for kind in KINDS if not counts[f"kind {kind}"]]
    if missing or not counts["restricted asked"]:
        found.append(f"not tried: {', '.join(missing) or 'restricted requests'}")
    return found


def seen(tally: Tally) -> str:
    """One line."""
    counts = tally.counts
    rests, longest = tally.quantile("open path ms", 0.5), tally.quantile("open path ms", 0.99)
    return (
        f"{len(KINDS)} kinds of dependency slowed down in {counts['cases']:,} cases: at most "
        f"{tally.quantile('calls', 1.0):.0f} calls until it is left alone, then {rests:.1f} ms a request (p99 "
        f"{longest:.1f}); {counts['late']:,} of {counts['asked']:,} requests {LATE:g} s over their deadline; "
        f"{counts['restricted gone up']:,} of {counts['restricted asked']:,} restricted ones gone up"
    )


async def _try(tally: Tally, case: int, kind: str, scene: Scene) -> None:
    tally.count("cases")
    longest = 0.0
    for _ in range(MOST_CALLS + 1):
        longest = max(longest, (await scene.ask())[1])
    calls = scene.calls()
    took = [(await scene.ask())[1] for _ in range(OPEN_ASKED)]
    calls = max(calls, scene.calls())
    tally.count("asked", len(scene.sent))
    tally.measure("calls", calls)
    tally.measure("open path ms", median(took) * 1_000)
    if calls > MOST_CALLS:
        tally.fail(case, f"{kind}: called {calls} times", "too many calls")
    if longest > 2 * DEADLINE + LATE:
        tally.fail(case, f"{kind}: a request took {longest:.2f} s", "late")
    if kind != "tier" and any(replied.status < 400 for replied in scene.sent):
        tally.fail(case, f"{kind}: {[replied.status for replied in scene.sent]}", "no refusal")
    before = len(scene.upstream.requests)
    for _ in range(3):
        replied, seconds = await scene.ask(restricted=True)
        tally.count("restricted asked")
        if replied.status not in (403, 503) or len(scene.upstream.requests) > before:
            tally.fail(case, f"{kind}: a restricted request got {replied.status}", "restricted gone up")
        if seconds > 2 * DEADLINE + LATE:
            tally.fail(case, f"{kind}: a restricted request took {seconds:.2f} s", "late")
    if scene.fails_closed and scene.upstream.requests:
        tally.fail(case, f"{kind}: {len(scene.upstream.requests)} requests went up", "restricted gone up")


@asynccontextmanager
async def _scene(kind: str, folder: Path, broken: bool) -> AsyncIterator[Scene]:
    folder.mkdir(parents=True)
    failures = 1_000 if broken else MOST_CALLS
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(Outside(_hangs if kind.startswith("upstream") else _is_well))
        box = await stack.enter_async_context(Outside(_hangs))
        registry = SlowRegistry(stack.enter_context(Registry.open(folder)))
        stack.callback(registry.let_go.set)
        if kind in ("tier", "registry"):
            _promote(registry, kind)
        ledger, check = SlowLedger(), SlowCheck()
        patience = Patience("ledger", DEADLINE, Breaker(failures, REST))
        config = _config(kind, folder, upstream, box, failures)
        parts = Parts(
            config, TimelyLedger(ledger, patience), registry, _opened, check=check if kind == "check" else None
        )

        def prepare(gateway: Gateway) -> None:
            if kind == "check":
                rests = Breaker(failures, REST)
                gateway.generation.judge = Judge(config.policy, check, DEADLINE, breaker=rests)
            gateway.registry = Patience("registry", DEADLINE, Breaker(failures, REST))

        gateway = await stack.enter_async_context(enclosed(parts, prepare))
        ledger.waits = kind == "ledger"
        calls = {
            "check": lambda: check.calls, "ledger": lambda: ledger.calls, "registry": lambda: registry.calls,
            "tier": lambda: len(box.requests),
        }.get(kind, lambda: len(upstream.requests))  # fmt: skip
        model = {"registry": "task:reviewed", "tier": "task:triage"}.get(kind, "gpt-x")
        yield Scene(gateway, upstream, calls, model, kind in ("check", "ledger", "registry"), registry)


def _hangs(received: Received, number: int) -> str:
    return "hang"


def _is_well(received: Received, number: int) -> bytes:
    return reply(200, WELL)


def _config(kind: str, folder: Path, upstream: Outside, box: Outside, failures: int) -> Config:
    silent = UpstreamConfig(
        "main", upstream.base_url, timeout_s=DEADLINE, connect_timeout_s=DEADLINE, model="model-x", retries=0,
        breaker_failures=failures, breaker_rest_s=REST,
    )  # fmt: skip
    if kind == "upstream with a deadline":
        silent = replace(silent, timeout_s=600.0, deadline_s=DEADLINE, retries=1)
    house = replace(silent, name="box", base_url=box.base_url, timeout_s=600.0, deadline_s=DEADLINE)
    gateway = GatewayConfig("127.0.0.1", 0, 100, 1, 1.0, 1.0, (("main", 1.0),))
    policy = PolicyConfig(Sensitivity.PUBLIC, public=Allowed(("*",)), restricted=Allowed(("box",)))
    tasks = {
        "reviewed": Task("reviewed", sensitivity=Sensitivity.RESTRICTED, when_kept=WhenKept.REVIEW),
        "triage": Task("triage", tiers=("box",)),
    }
    return Config(gateway, StoreConfig(folder, 30), {"main": silent, "box": house}, tasks, policy, {}, {})


def _promote(registry: SlowRegistry, kind: str) -> None:
    now, name = datetime.now(UTC), "triage" if kind == "tier" else "reviewed"
    registry.register(name, "linear", "d" * 64, CERTIFIED, {}, now)
    version = registry.promote(name, 1, "soak", "soak", now)
    if kind == "tier":
        registry.register("triage/box", "house", "e" * 64, CERTIFIED, {"behind": behind([version])}, now)
        registry.promote("triage/box", 1, "soak", "soak", now)


def _opened(version: Any, upstream: Any = None) -> Any:
    if upstream is None:
        return Clerk(version.name)
    space = AnswerSpace("label", ("yes", "no"), ("yes", "no"), None, (1, 1))
    return HouseTier(version.name, upstream, "house-x", space, TierScore("answer", rates=(0.1, 0.9)), "e" * 64)


PROMISE = Promise(
    id="R11",
    says="A slow dependency is treated as dead",
    asked="ledger, registry, check, upstream, tier delayed by 20 s: left alone after <= 5 calls, then <= 5 ms a "
    "request, deadlines kept, sensitive requests fail closed 100 %",
    unit="cases",
    full=600,
    sample=12,
    slow=96,
    control=6,
    chunk=60,
    run=run,
    judge=judge,
    seen=seen,
    open="an upstream's deadline is 600 s of silence unless timeout_s or deadline_s say less: a client that leaves "
    "before that is no failure of the upstream. Judge and price file do not exist yet",
    timed=True,
)
