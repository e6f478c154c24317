"""S2: a check that crashes, hangs, lies or is missing, a specialist that cannot be opened: nothing goes to an upstream.

Each case has one doubt and several requests that would go up without it, so that the check's rest is among them.
"""

from __future__ import annotations

import asyncio
import builtins
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from insource.backends.contract import Backend
from insource.config import Allowed, Config, GatewayConfig, PolicyConfig, StoreConfig, UpstreamConfig
from insource.errors import ArtifactDamaged, InsourceError, StoreError, UpstreamTimeout
from insource.gateway.parts import Parts
from insource.policy.sensitivity import Check, Judge
from insource.store.ledger import Ledger
from insource.store.registry import Registry
from insource.types import Answer, Calibration, Outcome, Request, Sensitivity, SpecialistVersion, Task
from reliability.enclosed import Clerk, Enclosed, enclosed
from reliability.harness import Promise, Tally
from reliability.recording import Outside, reply, watched_connections

SECONDS = 0.02
REPEATS = 7  # more than it takes until the check is left alone
HELD_UP = 2.0
CERTIFIED = Calibration("band", 0.05, 0.95, 100, 0.5, 0.5, 50, 0, 0.04, 0.9)
SAID = b'{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"content":"yes"}}]}'


class Careless(Judge):
    """The broken build: the check runs, and what it leaves in doubt counts for nothing."""

    async def check(self, request: Request, rated: Sensitivity) -> Sensitivity:
        """Ask, and believe only what was known before."""
        await super().check(request, rated)
        return rated


class Claiming(str):
    """Says of itself that it is a sensitivity."""

    rank = 0
    value = "public"

    @property
    def __class__(self) -> type:  # type: ignore[override]
        return Sensitivity


async def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Ask a gateway under each case's doubt; `broken` takes a doubt for no reason to keep anything."""
    tally = Tally()
    with watched_connections() as watch:
        async with Outside(lambda received, number: reply(200, SAID)) as server:
            watch.allowed.add(server.address)
            config = _config(folder, server)
            with Registry.open(folder) as registry, Ledger.open(folder, clock=lambda: datetime.now(UTC)) as ledger:
                parts = Parts(config, ledger, registry, Opener(), check=_finds(Sensitivity.PUBLIC))
                async with enclosed(parts) as gateway:
                    await _sure(tally, gateway, server)
                    for case in cases:
                        seen, asked = server.connections + len(server.requests), len(watch.asked)
                        await _try(tally, gateway, case, broken, registry)
                        calls = server.connections + len(server.requests) - seen + len(watch.asked) - asked
                        if calls:
                            tally.fail(case, f"{NAMES[case % len(NAMES)]}: {calls} calls", "external calls")
                    await _sure(tally, gateway, server)
    return tally


def judge(tally: Tally) -> list[str]:
    """No call outside under doubt, nobody held up, and the same requests go up without doubt."""
    counts, found = tally.counts, []
    for what in ("external calls", "held up", "answered without being kept"):
        if counts[what]:
            found.append(f"{what}: {counts[what]:,} under {counts['doubts']:,} doubts")
    if not counts["doubts"] or not counts["sent up without doubt"]:
        found.append("nothing was tried")
    return found


def seen(tally: Tally) -> str:
    """One line."""
    counts = tally.counts
    return (
        f"{counts['external calls']:,} external calls under {counts['doubts']:,} doubts of {len(NAMES)} kinds "
        f"({counts['kept']:,} requests kept, {counts['answered here']:,} answered here, "
        f"{counts['held up']:,} held up); "
        f"{counts['sent up without doubt']:,} of {counts['asked without doubt']:,} went up without doubt"
    )


async def _sure(tally: Tally, gateway: Enclosed, server: Outside) -> None:
    """Ask without any doubt: these must go up, or nothing is shown."""
    gateway.gateway.generation.judge = Judge(gateway.gateway.config.policy, _finds(Sensitivity.PUBLIC), SECONDS)
    before = len(server.requests)
    for number in range(5):
        tally.count("asked without doubt")
        await gateway.ask("/v1/chat/completions", *_request(random.Random(number), "plain"))
    tally.count("sent up without doubt", len(server.requests) - before)


async def _try(tally: Tally, gateway: Enclosed, case: int, broken: bool, registry: Registry) -> None:
    chance, kind = random.Random(case), NAMES[case % len(NAMES)]
    tally.count("doubts")
    check, task = CHECKS.get(kind, _finds(Sensitivity.PUBLIC)), "plain"
    generation = gateway.gateway.generation
    if kind in SPECIALISTS:
        task = f"doubted-{kind}"
        _register(registry, task, SPECIALISTS[kind][0])
        await generation.serving.refresh()
    policy = replace(generation.config.policy, sensitivity=Sensitivity.PUBLIC)
    if kind in SPECIALISTS and not broken:
        policy = replace(policy, sensitivity=Sensitivity.RESTRICTED)
    generation.judge = (Careless if broken else Judge)(policy, check, SECONDS)
    for _ in range(REPEATS):
        try:
            async with asyncio.timeout(HELD_UP):
                replied = await gateway.ask(chance.choice(PATHS), *_request(chance, task, kind == "header"))
        except TimeoutError:
            tally.fail(case, f"{kind}: no reply in {HELD_UP:g} s", "held up")
            continue
        served_by = replied.headers.get("x-insource-served-by", "none")
        if replied.status == 200 and "@" in served_by:
            tally.count("answered here")
        elif replied.status == 403 and b"kept_local" in replied.body:
            tally.count("kept")
        elif replied.status != 500:
            tally.fail(case, f"{kind}: {replied.status} by {served_by}", "answered without being kept")


PATHS = ("/v1/chat/completions",) * 3 + (
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/moderations",
    "/v1/files",
)


def _request(chance: random.Random, task: str, unreadable: bool = False) -> tuple[bytes, list[tuple[str, str]]]:
    text = f"{chance.choice(('sure', 'unsure'))} {chance.random()}" if task != "plain" else "unsure"
    body: dict[str, Any] = {
        "model": "gpt-x" if task == "plain" else f"task:{task}", "messages": [{"role": "user", "content": text}],
        "prompt": text, "input": text, "stream": chance.random() < 0.2,
    }  # fmt: skip
    headers = [("host", "localhost"), ("content-type", "application/json")]
    if unreadable:
        headers.append(("x-insource-sensitivity", chance.choice(("", "publik", "0", "public;", "none", "\x00", "{}"))))
    elif chance.random() < 0.5:
        headers.append(("x-insource-sensitivity", "public"))
    return json.dumps(body).encode(), headers


def _finds(found: Any) -> Check:
    async def check(request: Request) -> Any:
        return found

    return check


def _raises(kind: type[BaseException]) -> Check:
    async def check(request: Request) -> Sensitivity:
        raise kind.__new__(kind)

    return check


async def _sleeps(request: Request) -> Sensitivity:
    await asyncio.sleep(20)
    return Sensitivity.PUBLIC


async def _is_deaf(request: Request) -> Sensitivity:
    """Take a cancellation for a failure and try again, as a retry around everything does."""
    for _ in range(2):
        try:
            await asyncio.sleep(20)
        except BaseException:
            continue
    return Sensitivity.PUBLIC


async def _is_late(request: Request) -> Sensitivity:
    """Say that all is well, but only when told to stop."""
    try:
        await asyncio.sleep(20)
    except asyncio.CancelledError:
        return Sensitivity.PUBLIC
    return Sensitivity.PUBLIC


async def _waits_for_ever(request: Request) -> Sensitivity:
    await asyncio.get_running_loop().create_future()
    return Sensitivity.PUBLIC


async def _cancels_itself(request: Request) -> Sensitivity:
    job = asyncio.current_task()
    assert job is not None
    job.cancel()
    await asyncio.sleep(0)
    return Sensitivity.PUBLIC


async def _recurses(request: Request) -> Sensitivity:
    return await _recurses(request)


def _forgets_to_wait(request: Request) -> Any:
    return Sensitivity.PUBLIC


async def _yields(request: Request) -> Any:
    yield Sensitivity.PUBLIC


ERRORS = [
    kind for kind in (*vars(builtins).values(), asyncio.CancelledError, asyncio.InvalidStateError, UpstreamTimeout,
                      StoreError, ArtifactDamaged, InsourceError)
    if isinstance(kind, type) and issubclass(kind, BaseException) and not issubclass(kind, Warning | BaseExceptionGroup)
]  # fmt: skip
"""Everything that Python can raise, the end of the process among it, and some of what insource raises."""
NONSENSE = (
    None, True, 0, 1, -1, 0.0, float("nan"), "public", "PUBLIC", b"public", "", [], {}, (Sensitivity.PUBLIC,),
    {Sensitivity.PUBLIC: 1.0}, Sensitivity, Outcome.ACCEPTED, Claiming("public"), object(), _sleeps,
    lambda: Sensitivity.PUBLIC,
)  # fmt: skip

CHECKS: Mapping[str, Any] = {
    **{f"raises {kind.__name__}": _raises(kind) for kind in ERRORS},
    **{f"says nonsense {number}": _finds(value) for number, value in enumerate(NONSENSE)},
    "sleeps": _sleeps, "is deaf": _is_deaf, "is late": _is_late, "waits for ever": _waits_for_ever,
    "cancels itself": _cancels_itself, "recurses": _recurses, "forgets to wait": _forgets_to_wait, "yields": _yields,
    "is a text": "a check", "is a number": 7, "takes nothing": lambda: Sensitivity.PUBLIC,
}  # fmt: skip


class Odd(Clerk):
    """A specialist that answers with what no specialist should."""

    def __init__(self, name: str, said: Callable[[Request], Any]) -> None:
        super().__init__(name)
        self._said = said

    async def answer(self, request: Request) -> Answer:
        """Say it."""
        found = self._said(request)
        return await found if asyncio.iscoroutine(found) else found


def _scores(score: Any, content: Any = "yes") -> Callable[[str], Backend]:
    return lambda name: Odd(name, lambda request: Answer(name, content, label="yes", score=score))


def _fails(error: BaseException) -> Callable[[Request], Any]:
    def fail(request: Request) -> Any:
        raise error

    return fail


def _missing(error: Exception) -> Callable[[str], Backend]:
    def make(name: str) -> Backend:
        raise error

    return make


def _bad(threshold: Any) -> Calibration:
    return replace(CERTIFIED, threshold=threshold)


SPECIALISTS: Mapping[str, tuple[Calibration | None, Callable[[str], Backend]]] = {
    "no file": (CERTIFIED, _missing(FileNotFoundError("model.onnx"))),
    "damaged": (CERTIFIED, _missing(ArtifactDamaged("a digest differs"))),
    "no package": (CERTIFIED, _missing(ImportError("onnxruntime"))),
    "no room": (CERTIFIED, _missing(MemoryError())),
    "no calibration": (None, Clerk),
    "no threshold": (_bad(None), Clerk),
    "threshold above all": (_bad(2.0), Clerk),
    "score is nan": (CERTIFIED, _scores(float("nan"))),
    "score is infinite": (CERTIFIED, _scores(float("inf"))),
    "score is none": (CERTIFIED, _scores(None)),
    "score is text": (CERTIFIED, _scores("0.9")),
    "answer is none": (CERTIFIED, _scores(0.9, None)),
    "says none": (CERTIFIED, lambda name: Odd(name, lambda request: None)),
    "crashes": (CERTIFIED, lambda name: Odd(name, _fails(ValueError("no")))),
    "times out": (CERTIFIED, lambda name: Odd(name, _fails(TimeoutError()))),
    "sleeps itself": (CERTIFIED, lambda name: Odd(name, lambda request: asyncio.sleep(20))),
}
"""Doubts about a specialist: what it was registered with, and what opens in its name. Its requests are restricted."""

NAMES = ("header", *CHECKS, *SPECIALISTS)


class Opener:
    """Opens what a case registered."""

    def __call__(self, version: SpecialistVersion, upstream: Backend | None = None) -> Any:
        """Open it, or fail as the case has it."""
        return SPECIALISTS[version.task.removeprefix("doubted-")][1](version.name)


def _register(registry: Registry, task: str, calibration: Calibration | None) -> None:
    if task not in registry.tasks():
        registry.register(task, "linear", "d" * 64, calibration, {}, datetime.now(UTC))
        registry.promote(task, 1, "soak", "soak", datetime.now(UTC))


def _config(folder: Path, server: Outside) -> Config:
    upstream = UpstreamConfig("main", server.base_url, timeout_s=2.0, model="model-x")
    gateway = GatewayConfig("127.0.0.1", 0, 100, 1, 1.0, 1.0, (("main", 1.0),))
    policy = PolicyConfig(Sensitivity.PUBLIC, public=Allowed(("*",)), internal=Allowed(("*",)))
    tasks = {f"doubted-{kind}": Task(f"doubted-{kind}", deadline_ms=20, audit_rate=1.0) for kind in SPECIALISTS}
    store = StoreConfig(folder, 30, record="after_reply")
    return Config(gateway, store, {"main": upstream}, tasks, policy, {}, {})


PROMISE = Promise(
    id="S2",
    says="Doubt means local",
    asked="1,000 crashes, timeouts, wrong types and absences of a check or a model: 0 external calls",
    unit="doubts",
    full=1_000,
    sample=130,
    slow=500,
    control=20,
    chunk=250,
    run=run,
    judge=judge,
    seen=seen,
    open="no detection of personal data is shipped yet; what is tried is the door that it will use",
)
