"""X5: every way through the gateway, each with a restricted request: none of its bytes may reach an upstream.

The ways are multiplied: endpoint, plain or streamed, what becomes of the request, and how it is known to be restricted.
Half of the gateways have their first guards blinded, so that the egress alone must hold. It knows no detection.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from insource.answers import learn_answers
from insource.backends.contract import Backend
from insource.backends.house_tier import HouseTier, TierScore, behind
from insource.config.loading import load_bytes
from insource.errors import ArtifactDamaged
from insource.gateway.gateway import Gateway
from insource.gateway.parts import Parts
from insource.policy.breaker import Breaker
from insource.policy.sensitivity import HEADER, Judge
from insource.store.ledger_reader import LedgerReader
from insource.store.registry import Registry
from insource.types import Calibration, Request, Sensitivity, SpecialistVersion, Stage
from reliability.enclosed import Clerk, Enclosed, Replied, enclosed
from reliability.harness import Promise, Tally
from reliability.load import NOON
from reliability.noted_egress import CANARY, Doors, Noting, Seen, told_away
from reliability.recording import Outside, Received, reply
from reliability.ways_through import BODIES, MATRIX, OWN, TASKS, TOLD, TRIALS, UNREAD, WAYS, Cell

CERTIFIED = Calibration("band", 0.05, 0.95, 100, 0.5, 0.5, 50, 0, 0.04, 0.9)
UPSTREAMS = ("main", "spare", "down", "house", "vault")
OUTSIDE = frozenset(UPSTREAMS) - {"vault"}
"""Those that restricted text may not go to."""
CHAT = "/v1/chat/completions"
AROUND = "without the egress's say"


async def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Ask each cell of the matrix twice, marked and plain; `broken` reaches the upstreams around their egress."""
    tally = Tally()
    by_house: dict[tuple[str, bool], list[int]] = {}
    for case in cases:
        by_house.setdefault(MATRIX[case].house, []).append(case)
    for (house, blind), numbers in by_house.items():
        home = folder / f"{house}-{blind}"
        await _try(tally, home, house, numbers, blind=blind, broken=broken)
    return tally


async def _try(tally: Tally, home: Path, house: str, cases: Sequence[int], *, blind: bool, broken: bool) -> None:
    seen = Seen()
    async with AsyncExitStack() as opened:
        outside = {name: await opened.enter_async_context(Outside(_script(name))) for name in UPSTREAMS}
        async with _serving(home, house, outside, seen, blind=blind, broken=broken) as gateway:
            _check_endpoints(tally, gateway)
            together = asyncio.Semaphore(16)
            await asyncio.gather(*[_ask(tally, gateway, case, together, seen) for case in cases])
        arrived = {(name, found[0]) for name, one in outside.items() for found in CANARY.finditer(bytes(one.bytes))}
        places: dict[bytes, set[str]] = defaultdict(set)
        for name, canary in arrived:
            places[canary].add(name)
        _judge_arrivals(tally, cases, arrived, places, seen)
        _judge_told(tally, home, places, seen)
        with LedgerReader(home) as ledger:
            tally.count("answers in shadow", sum(audit.stage is Stage.SHADOW for _, audit in ledger.audits("shadowed")))


def _judge_arrivals(
    tally: Tally, cases: Sequence[int], arrived: set[tuple[str, bytes]], places: Mapping[bytes, set[str]], seen: Seen
) -> None:
    """Compare what arrived, byte for byte, with what was let through; `places` are the upstreams by canary."""
    tally.count("arrivals", len(arrived))
    for name, canary in sorted(arrived - seen.passes):
        tally.fail(int(canary.split(b"-")[1]), f"{name} was reached without its egress", AROUND)
    for request_id in seen.early:
        tally.fail(-1, f"{request_id} was sent before its decision was on record", "before its record")
    for case in cases:
        reached = places.get(b"canary-%d-marked" % case, set()) - {"vault"}
        tally.count("marked")
        if reached:
            tally.fail(case, f"{MATRIX[case]} reached {', '.join(sorted(reached))}", "left")
        if MATRIX[case].marked != "policy":
            tally.count("plain")
            tally.count("plain arrived", b"canary-%d-plain" % case in places)
            if b"canary-%d-plain" % case not in places:
                tally.fail(case, f"{MATRIX[case]}, unmarked, reached no upstream", "plain kept")


def _judge_told(tally: Tally, home: Path, places: Mapping[bytes, set[str]], seen: Seen) -> None:
    """Compare what arrived with what an auditor who asks about each request is told of where it went."""
    for told in told_away(home):
        canary = seen.asked.get(told.request_id, b"")
        arrived = places.get(canary, set())
        tally.count("told of", bool(canary))
        tally.count("told of and arrived", bool(arrived))
        if canary and not told.fits(arrived, {"down"}):
            case = int(canary.split(b"-")[1])
            tally.fail(case, f"{MATRIX[case]} reached {sorted(arrived)}, and {told} is told", "told otherwise")


async def _ask(tally: Tally, gateway: Enclosed, case: int, together: asyncio.Semaphore, seen: Seen) -> None:
    cell = MATRIX[case]
    for marked in (True, False) if cell.marked != "policy" else (True,):
        async with together:
            replied = await _send(gateway, case, cell, marked, seen)
        served_by = replied.headers.get("x-insource-served-by", "none")
        kept = replied.status == 403 and any(code in replied.body for code in (b"kept_local", b"awaiting_review"))
        here = replied.status == 200 and served_by not in OUTSIDE
        if not marked and cell.path == CHAT and replied.headers.get("x-insource-reason") != WAYS[cell.way].reason:
            tally.fail(case, f"{cell}, unmarked, went another way: {replied.headers}", "another way")
        if not marked and cell.path == CHAT and WAYS[cell.way].task in TRIALS:
            task, version = WAYS[cell.way].task, replied.headers.get("x-insource-version")
            tally.count(f"asked of the {task}")
            if version != ("2" if task == "canaried" else "1"):
                tally.fail(case, f"{cell}, unmarked, was decided by version {version}", "another way")
        if marked:
            tally.count("kept" if kept else "answered here", kept or here)
            if not (kept or here):
                tally.fail(case, f"{cell} got {replied.status} from {served_by}", "answered wrongly")


async def _send(gateway: Enclosed, case: int, cell: Cell, marked: bool, seen: Seen) -> Replied:
    canary = f"canary-{case}-{'marked' if marked else 'plain'}"
    task, how = WAYS[cell.way].task, WAYS[cell.way].text
    if task is not None and marked and cell.marked.startswith("task"):
        task += ".kept"
    text = f"{how} {canary}" + (f" [{cell.marked}]" if marked and cell.house[0] == "check" else "")
    headers = [("host", "127.0.0.1"), ("content-type", "application/json")]
    headers += [(HEADER, value) for value in TOLD[cell.marked]] if marked else []
    if task is not None and "by model" not in how:
        headers.append(("x-insource-task", task))
    body = b""
    if (cell.method, cell.path) not in UNREAD:
        fields = msgspec.json.decode(msgspec.json.encode(BODIES[cell.path]).replace(b"TEXT", text.encode()))
        fields |= {"stream": True} if cell.stream else {}
        fields |= {"unheard_of": 1} if "unheard of" in how else {}
        fields |= {"model": f"task:{task}"} if "by model" in how else {}
        body = msgspec.json.encode(fields)
    elif cell.method != "GET":
        body = text.encode()
    query = msgspec.json.encode(text).decode().strip('"').replace(" ", "%20") if not body else "note=1"
    replied = await gateway.ask(f"{cell.path}?{query}", body, headers, cell.method)
    seen.asked[replied.headers.get("x-insource-request-id", "")] = canary.encode()
    return replied


def _check_endpoints(tally: Tally, gateway: Enclosed) -> None:
    """Every endpoint that the application names must have its cases; a new one is found here."""
    known = OWN | set(UNREAD) | {("POST", path) for path in BODIES}
    for method, path in gateway._app.paths:
        tally.count("endpoints")
        if (method, path) not in known:
            tally.fail(-1, f"{method} {path} has no case here", "endpoints without a case")


def _script(name: str) -> Any:
    said = msgspec.json.encode(
        {"choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}]}
    )

    def script(received: Received, number: int) -> bytes | str:
        if name != "down":
            return reply(200, said)
        return reply(503, b"{}") if number % 2 else "reset"

    return script


@asynccontextmanager
async def _serving(
    home: Path, house: str, outside: dict[str, Outside], seen: Seen, *, blind: bool, broken: bool
) -> AsyncIterator[Enclosed]:
    """Run one gateway with every task twice: as it is, and restricted (NAME.kept)."""
    home.mkdir(parents=True)
    config = load_bytes(_settings(home, house, outside).encode(), home / "insource.toml", env={})

    def prepare(gateway: Gateway) -> None:
        gateway.generation.upstreams = Doors(config, seen, blind=blind, broken=broken)
        if house == "check":
            gateway.generation.judge = Judge(config.policy, _check, breaker=Breaker(1_000_000))

    with Noting.open(home, clock=lambda: NOON) as ledger, Registry.open(home) as registry:
        ledger.seen = seen
        for task in TASKS:
            for name in (task, f"{task}.kept"):
                _register(registry, task, name)
        async with enclosed(Parts(config, ledger, registry, _open, coin=lambda _: 0.0), prepare) as gateway:
            yield gateway


def _settings(home: Path, house: str, outside: dict[str, Outside]) -> str:
    lines = ["[gateway]", 'default_upstream = ["main"]', "max_concurrency = 64", "retry_budget = 1.0"]
    lines += ["[store]", f'home = "{home}"', "[policy]", 'restricted.upstreams = ["vault"]']
    lines += ['sensitivity = "restricted"'] if house == "policy" else []
    for name, server in outside.items():
        lines += [f"[upstreams.{name}]", f'base_url = "{server.base_url}"', 'model = "m"', "breaker_failures = 1000"]
        lines += ["retries = 0"] if name != "down" else ["retries = 1"]
    for task, settings in TASKS.items():
        settings = settings if "audit_rate" in settings else f"{settings}\naudit_rate = 0"
        lines += [f"[tasks.{task}]", settings]
        lines += [f'[tasks."{task}.kept"]', settings, 'sensitivity = "restricted"']
    return "\n".join(lines) + "\n"


def _register(registry: Registry, task: str, name: str) -> None:
    if task == "fresh":
        return
    calibration = None if task == "open" else CERTIFIED
    version = registry.register(name, "linear", "d" * 64, calibration, {}, NOON)
    registry.promote(name, version.version, "x5", "tried", NOON)
    if task in TRIALS:
        stage, share = TRIALS[task]
        second = registry.register(name, "linear", "f" * 64, CERTIFIED, {}, NOON)
        registry.move(
            name, second.version, expected=second.stage, to=stage, share=share, who="x5", why="tried", now=NOON
        )
    if task == "tiered":
        tier = registry.register(f"{name}/house", "house", "e" * 64, CERTIFIED, {"behind": behind([version])}, NOON)
        registry.promote(tier.task, tier.version, "x5", "tried", NOON)


def _open(version: SpecialistVersion, upstream: Backend | None = None) -> Any:
    if version.task.startswith("damaged"):
        raise ArtifactDamaged("planted")
    if upstream is None:
        return Clerk(version.name)
    space = learn_answers(["yes", "no"] * 20)
    return HouseTier(version.name, upstream, "m", space, TierScore("answer", rates=(0.1, 0.1)), version.digest)


async def _check(request: Request) -> Any:
    """The door for detection: finds the token, fails, or says what is no sensitivity."""
    told = request.body + request.path.encode()
    if b"[failing" in told:
        raise ValueError("the check fails by script")
    if b"[odd" in told:
        return "public"
    return Sensitivity.RESTRICTED if b"[token]" in told else Sensitivity.INTERNAL


def judge(tally: Tally) -> list[str]:
    """Nothing marked may leave, nothing may arrive but through the egress, and what is not marked must arrive."""
    counts, found = tally.counts, []
    for what, told in (
        ("left", "marked requests reached an upstream that may not have them"),
        (AROUND, "requests reached an upstream without its egress's say"),
        ("before its record", "requests went up before their decision was on record"),
        ("answered wrongly", "marked requests got another answer than a refusal or one made here"),
        ("plain kept", "unmarked requests reached no upstream"),
        ("told otherwise", "requests of which an auditor is told otherwise than what arrived"),
        ("another way", "unmarked requests did not take the way that they were to try"),
        ("endpoints without a case", "endpoints have no case"),
    ):
        if counts[what]:
            found.append(f"{counts[what]:,} {told}")
    if counts["asked of the shadowed"] and not counts["answers in shadow"]:
        found.append("no version answered in shadow")
    if not counts["marked"] or not counts["plain arrived"] or not counts["told of and arrived"]:
        found.append("nothing was tried")
    return found


def seen(tally: Tally) -> str:
    """One line."""
    counts = tally.counts
    return (
        f"{counts['marked'] - counts['left']:,} of {counts['marked']:,} marked requests blocked ({counts['kept']:,} "
        f"refused, {counts['answered here']:,} answered here or by the upstream named for them); "
        f"{counts['plain arrived']:,} of {counts['plain']:,} unmarked ones arrived; "
        f"{counts[AROUND]} of {counts['arrivals']:,} arrivals without the egress's say; of {counts['told of']:,} "
        f"requests an auditor is told where they went, {counts['told otherwise']} of them otherwise than what arrived"
    )


PROMISE = Promise(
    id="X5",
    says="Guards run on every path",
    asked="every endpoint x stream/plain x direct, audit, shadow, canary, bought label, fallback, tier: the planted "
    "restricted marker is blocked in 100 %; a response without the egress's say is impossible",
    unit="cells of the matrix, each asked marked and unmarked",
    full=len(MATRIX),
    sample=300,
    slow=len(MATRIX),
    control=60,
    chunk=1_000,
    run=run,
    judge=judge,
    seen=seen,
    open="batches of our own and the detection of personal data do not exist yet; the door for detection is tried with "
    "a check by script; a tier is exempt from being asked after its decision is on record, since it is asked while it "
    "is decided, and an auditor is told of the last one only",
)
