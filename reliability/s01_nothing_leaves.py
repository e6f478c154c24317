"""S1: requests that each hold a canary, by every way out there is, while the upstreams fail in every way.

No canary may reach a server that its sensitivity forbids, nor stand in a span, a log line, an error, a metric or, with
digests alone, in the ledger. `traffic_with_canaries` makes the requests; this file runs and judges them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from insource.answers import AnswerSpace
from insource.backends.house_tier import HouseTier, TierScore, behind
from insource.cli.train_tier import certify
from insource.config import Allowed, Config, EmbeddingsConfig, GatewayConfig, PolicyConfig, StoreConfig, UpstreamConfig
from insource.errors import InsourceError
from insource.gateway.gateway import Gateway
from insource.gateway.logs import JsonLines, PlainLines
from insource.gateway.parts import Parts
from insource.gateway.spans import Token, Traced
from insource.policy.breaker import Breaker
from insource.policy.sensitivity import Judge
from insource.store.ledger import Ledger
from insource.store.registry import Registry
from insource.types import Calibration, Request, Sensitivity, Task, WhenKept
from reliability.enclosed import Clerk, Enclosed, Replied, enclosed
from reliability.harness import Promise, Tally
from reliability.recording import Outside, Watch, watched_connections
from reliability.traffic_with_canaries import (
    PLACES,
    WAYS,
    Asked,
    canaries_in,
    case_of,
    examples_for,
    level_of,
    reply_by_fault,
    rings,
)  # fmt: skip

CERTIFIED = Calibration("band", 0.05, 0.95, 100, 0.5, 0.5, 50, 0, 0.04, 0.9)
HAUL = 16  # requests under way at once
LABELLINGS = 250  # a run of `train --tier` once in so many cases
TASKS = (
    Task("triage", audit_rate=1.0, deadline_ms=30),
    Task("secret", audit_rate=1.0, deadline_ms=30, sensitivity=Sensitivity.RESTRICTED, tiers=("box",)),
    Task("open", audit_rate=1.0, deadline_ms=30, sensitivity=Sensitivity.PUBLIC),
    Task("best", sensitivity=Sensitivity.RESTRICTED, when_kept=WhenKept.BEST, deadline_ms=30),
    Task("review", sensitivity=Sensitivity.RESTRICTED, when_kept=WhenKept.REVIEW, deadline_ms=30),
    Task("bare", sensitivity=Sensitivity.RESTRICTED),
)  # fmt: skip


class AllowsAll(PolicyConfig):
    """The broken build: whatever the person wrote, every sensitivity may go everywhere."""

    def allowed(self, sensitivity: Sensitivity) -> Allowed:
        """Everywhere."""
        return Allowed(tuple(PLACES))


class Telling(Traced):
    """The same for traces: the body is told as well."""

    def begin(self, request: Request, started: float | None = None) -> Token | None:
        """Open the span and tell all."""
        token = super().begin(request, started)
        if token is not None:
            token.server.set_attribute("body", request.body.decode("utf-8", "replace"))
        return token


@dataclass(frozen=True)
class House:
    """What a run needs: the gateway, the servers around it, and what is written while it serves."""

    config: Config
    gateway: Enclosed
    servers: Mapping[str, Outside]
    registry: Registry
    spans: InMemorySpanExporter
    log: StringIO


async def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Send one request for each case; `broken` has a policy that allows all, and keeps and tells the texts."""
    tally, log = Tally(), StringIO()
    with watched_connections() as watch, _all_logged(log, broken):
        async with _house(folder, watch, log, broken) as house:
            turns = iter(cases)
            await asyncio.gather(*(_send(tally, house, turns) for _ in range(HAUL)))
            for case in [case for case in cases if case % LABELLINGS == 0]:
                await _label(tally, house, case)
            metrics = await house.gateway.ask("/metrics", method="GET")
            _look(tally, "metrics", metrics.body)
        _look_at_servers(tally, house)
        told = "\n".join(span.to_json() for span in house.spans.get_finished_spans())
        tally.count("spans", len(house.spans.get_finished_spans()))
        _look(tally, "traces", told.encode())
        _look(tally, "logs", log.getvalue().encode())
        tally.count("log lines", log.getvalue().count("\n"))
        for path in folder.glob("ledger.db*"):
            _look(tally, "ledger", path.read_bytes())
        for address in watch.off_the_list:
            tally.fail(cases.start, f"a connection to {address} was asked for", "connections off the list")
        tally.count("connections", len(watch.asked))
    return tally


def judge(tally: Tally) -> list[str]:
    """No canary anywhere, and proof that those which may travel were seen where they arrived."""
    counts = tally.counts
    found = [
        f"{counts[f'canaries in {where}']:,} canaries in {where}"
        for where in ("servers", "traces", "logs", "errors", "metrics", "ledger")
        if counts[f"canaries in {where}"]
    ]
    if counts["connections off the list"]:
        found.append(f"{counts['connections off the list']:,} connections off the list")
    for name in ("permitted canaries seen", "house canaries seen", "spans", "errors", "log lines", "labellings"):
        if not counts[name]:
            found.append(f"{name}: none, so that nothing was proved")
    missing = [way for way in WAYS if not counts[f"way {way}"]]
    if missing:
        found.append(f"not tried: {', '.join(missing)}")
    return found


def seen(tally: Tally) -> str:
    """One line."""
    counts = tally.counts
    leaks = sum(number for name, number in counts.items() if name.startswith("canaries in "))
    return (
        f"{leaks:,} canaries astray of {counts['restricted']:,} restricted and {counts['internal']:,} internal "
        f"requests by {len(WAYS)} ways out and {counts['labellings']:,} labellings; {counts['spans']:,} spans, "
        f"{counts['errors']:,} errors and {counts['log lines']:,} log lines read; "
        f"{counts['permitted canaries seen']:,} canaries that may travel seen outside, "
        f"{counts['house canaries seen']:,} at the server in the house; "
        f"{counts['connections off the list']:,} of {counts['connections']:,} connections off the list"
    )


async def _send(tally: Tally, house: House, cases: Iterator[int]) -> None:
    for case in cases:
        asked = case_of(case)
        replied = await house.gateway.ask(asked.path, asked.body, asked.headers, asked.method)
        _note(tally, case, asked, replied)
        for finding in asked.canaries:
            tally.count(level_of(finding))


def _note(tally: Tally, case: int, asked: Asked, replied: Replied) -> None:
    tally.count(f"way {asked.way}")
    headers = "\n".join(f"{name}: {value}" for name, value in replied.headers.items()).encode()
    if replied.status >= 400:
        tally.count("errors")
    told = replied.body if replied.status >= 400 else b""
    for canary in canaries_in(told + b"\n" + headers):
        tally.fail(case, f"{asked.way}: {canary} in a reply of status {replied.status}", "canaries in errors")


async def _label(tally: Tally, house: House, case: int) -> None:
    """Have a server outside asked for labels of restricted texts, as `insource train --tier` would."""
    tally.count("labellings")
    task, tier = house.config.tasks["bare"], ("us", "eu", "spare")[case // LABELLINGS % 3]
    advance = SimpleNamespace(say=lambda what: lambda done, of: None)
    try:
        await asyncio.to_thread(
            certify, house.config, task, tier, "label-x", examples_for(case), house.registry, advance.say,
            skipped=0, gold=False, seed=case,
        )  # fmt: skip
    except InsourceError as error:
        for canary in canaries_in(str(error).encode()):
            tally.fail(case, f"labelling: {canary} in {type(error).__name__}", "canaries in errors")


def _look(tally: Tally, where: str, data: bytes) -> None:
    for canary in sorted(set(canaries_in(data))):
        tally.fail(int(canary[3:11]), f"{canary} in {where}", f"canaries in {where}")


def _look_at_servers(tally: Tally, house: House) -> None:
    for name, server in house.servers.items():
        for canary in sorted(set(canaries_in(bytes(server.bytes)))):
            level = level_of(canary)
            if level not in PLACES[name]:
                tally.fail(int(canary[3:11]), f"{canary} ({level}) at {name}", "canaries in servers")
            else:
                tally.count("house canaries seen" if name == "box" else "permitted canaries seen")


@contextmanager
def _all_logged(stream: StringIO, broken: bool) -> Iterator[None]:
    """Log everything, down to debugging, in both of our formats; `broken` in Python's own."""
    root, before, disabled = logging.getLogger(), logging.getLogger().level, logging.root.manager.disable
    logging.disable(logging.NOTSET)
    handlers = [logging.StreamHandler(stream), logging.StreamHandler(stream)]
    formatters = (logging.Formatter(), logging.Formatter()) if broken else (JsonLines(), PlainLines())
    for handler, formatter in zip(handlers, formatters, strict=True):
        handler.setFormatter(formatter)
        root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.setLevel(before)
        logging.disable(disabled)
        for handler in handlers:
            root.removeHandler(handler)


@asynccontextmanager
async def _house(folder: Path, watch: Watch, log: StringIO, broken: bool) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        servers = {name: await stack.enter_async_context(Outside(reply_by_fault)) for name in PLACES}
        watch.allowed |= {server.address for server in servers.values()}
        config = _config(folder, servers, broken)
        registry = stack.enter_context(Registry.open(folder))
        _promote(registry)
        ledger = stack.enter_context(Ledger.open(folder, clock=lambda: datetime.now(UTC)))
        exporter = InMemorySpanExporter()
        spans = (Telling if broken else Traced)(SimpleSpanProcessor(exporter))
        stack.callback(spans.close)
        parts = Parts(
            config, ledger, registry, _opened, coin=lambda _: 0.0, spans=spans, check=_check,
            open_trunk=lambda _: _Trunk(),
        )  # fmt: skip
        gateway = await stack.enter_async_context(enclosed(parts, _hurried))
        yield House(config, gateway, servers, registry, exporter, log)


def _hurried(gateway: Gateway) -> None:
    """Give the check a shorter deadline and a shorter rest, so that cases need not wait."""
    policy = gateway.config.policy
    doubted = logging.getLogger("insource.gateway").warning
    gateway.generation.judge = Judge(
        policy, _check, 0.02, on_doubt=lambda kind: doubted("the check failed (%s)", kind), breaker=Breaker(5, 0.01)
    )


async def _check(request: Request) -> Sensitivity:
    """Stand in for the detection of personal data: finds it, breaks, hangs, talks nonsense, or finds nothing."""
    text = request.body.decode("utf-8", "replace")
    if rings("detected", text):
        return Sensitivity.RESTRICTED
    if rings("crashing", text):
        raise ValueError(f"no idea what {text} is")
    if rings("hanging", text):
        await asyncio.sleep(20)
    if rings("babbling", text):
        return text  # type: ignore[return-value]
    return Sensitivity.PUBLIC


def _config(folder: Path, servers: Mapping[str, Outside], broken: bool) -> Config:
    upstream = UpstreamConfig(
        "", "", timeout_s=0.2, connect_timeout_s=1.0, model="model-x", retries=2, breaker_failures=20,
        breaker_rest_s=0.02, deadline_s=1.0,
    )  # fmt: skip
    places = {"us": "US", "us2": "US", "eu": "EU", "spare": "US", "box": None}
    upstreams = {
        name: replace(upstream, name=name, base_url=servers[name].base_url, jurisdiction=place)
        for name, place in places.items()
    }
    policy = (AllowsAll if broken else PolicyConfig)(
        internal=Allowed(("box",), ("EU",)), public=Allowed(("*",)), restricted=Allowed(("box",))
    )
    chosen = (("us", 3.0), ("us2", 1.0), ("eu", 1.0), ("spare", 0.0))
    gateway = GatewayConfig("127.0.0.1", 0, 1_000, 1, 1.0, 1.0, chosen, retry_budget=1.0)
    tasks = {task.name: replace(task, content="full" if broken else "digest") for task in TASKS}
    embeddings = {"local": EmbeddingsConfig("local", "t" * 64)}
    return Config(gateway, StoreConfig(folder, 30), upstreams, tasks, policy, {}, {}, None, embeddings)


def _promote(registry: Registry) -> None:
    now = datetime.now(UTC)
    for name in ("triage", "secret", "open", "best", "review"):
        registry.register(name, "linear", "d" * 64, CERTIFIED, {}, now)
        version = registry.promote(name, 1, "soak", "soak", now)
        if name == "secret":
            registry.register("secret/box", "house", "e" * 64, CERTIFIED, {"behind": behind([version])}, now)
            registry.promote("secret/box", 1, "soak", "soak", now)


def _opened(version: Any, upstream: Any = None) -> Any:
    if upstream is None:
        return Clerk(version.name)
    space = AnswerSpace("label", ("yes", "no"), ("yes", "no"), None, (1, 1))
    return HouseTier(version.name, upstream, "house-x", space, TierScore("answer", rates=(0.1, 0.9)), "e" * 64)


class _Trunk:
    """Embeds, and for some texts fails in words that quote them, having logged them: libraries do."""

    dimension = 4

    def tokens(self, text: str) -> SimpleNamespace:
        return SimpleNamespace(ids=[1, 2], truncated=False)

    def embed_one(self, text: str) -> np.ndarray:
        if text.endswith(("0", "1", "2", "3", "4", "5", "6", "7")):
            logging.getLogger("tokenizers").warning("cannot take %s", text)
            logging.getLogger("uvicorn.error").warning("Exception in ASGI application for %r" % text)  # noqa: UP031
            raise ValueError(f"cannot embed {text!r}")
        return np.ones(4, np.float32)


PROMISE = Promise(
    id="S1",
    says="Sensitive text never leaves",
    asked="20,000 sensitive requests with unique canaries by all ways out and faults: 0 canaries at any server that "
    "may not have them, in any trace, log, error, metric or digest ledger; no connection off the list",
    unit="requests",
    full=24_000,
    sample=300,
    slow=4_000,
    control=120,
    chunk=3_000,
    run=run,
    judge=judge,
    seen=seen,
    open="shadow, canary rollout, webhooks and a judge do not exist yet. A model's name and trace context are told in "
    "spans by convention, so a client that writes text there tells it. The gateway runs on asyncio's loop, whose "
    "connections Python sees, and is asked over ASGI; uvloop's own connections would need a network namespace",
)
