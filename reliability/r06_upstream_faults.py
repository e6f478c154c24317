"""R6: whatever an upstream does, the client gets a typed end in time, and nothing is asked again that may not be.

Twenty faults at three moments, for streams and plain replies, with and without a fallback that policy permits; beside
them a total outage and upstreams that ask for a pause (`outages`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvloop
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from insource.config import Allowed, PolicyConfig, UpstreamConfig
from insource.store.ledger_reader import LedgerReader
from insource.types import Match, Task
from reliability.endings import BY_A_STRAY, ending, served_by
from reliability.faults import FAULTS
from reliability.harness import Promise, Tally
from reliability.misbehaving import CONNECT, POSITIONS, Misbehaving
from reliability.outages import ask, asked_for_pauses, total_outage
from reliability.raw_http import Reply
from reliability.standing import Standing, standing

SILENCE, DEADLINE, REPLY, GRACE = 0.25, 0.6, 0.8, 1.0
"""The gateway's bounds (timeout_s, deadline_s, reply_s) and the figure's second, in seconds."""
LATE, GAP = 1.0, 0.05
ADDRESSES = ("DNS fail", "TLS fail")
KINDS = (*FAULTS, *ADDRESSES)
NAMES_OF_NOTHING = ("nowhere.invalid", "x" * 70 + ".invalid", "a..b.invalid")
AT_ONCE, STAGGER = 120, 0.004
"""Cases under way at once, and the seconds between their starts: requests that come earn the tokens of fallbacks."""
BEGUN = " after the reply had begun"


@dataclass(frozen=True, slots=True)
class Case:
    """One request and the fault that it meets."""

    number: int

    @property
    def fault(self) -> str:
        """By name."""
        return KINDS[self.number % len(KINDS)]

    @property
    def at(self) -> str:
        """The moment."""
        return POSITIONS[self.number // len(KINDS) % len(POSITIONS)]

    @property
    def stream(self) -> bool:
        """Whether a stream is asked for."""
        return self.number // (len(KINDS) * len(POSITIONS)) % 2 == 1

    @property
    def pinned(self) -> bool:
        """Whether the request is restricted, so that policy permits it no fallback."""
        return self.number % 3 == 0

    @property
    def upstream(self) -> str:
        """The name of the upstream that it is sent to."""
        alone = self.at == CONNECT or self.fault in ADDRESSES
        return f"{self.at} {self.fault}".replace(" ", "-").replace("/", "-").lower() if alone else "main"

    @property
    def name(self) -> str:
        """How the upstream knows the case."""
        return f"case-{self.number}"


async def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Try the cases, many at once, and the two drills; `broken` waits for ever and asks on, even after a first byte."""
    uvloop.new_event_loop().close()  # libuv keeps a pipe of its own from then on
    tally, before, cut = Tally(), _descriptors(), set[str]()
    async with Misbehaving(LATE, GAP) as upstream:
        async with standing(
            folder / "faults",
            _upstreams(upstream, broken),
            (("main", 1.0), ("spare", 0.0)),
            tasks=[_task(name) for name in sorted({Case(number).upstream for number in range(120)} - {"main"})],
            policy=PolicyConfig(restricted=Allowed(tuple(each.name for each in _upstreams(upstream, broken)[1:]))),
            retry_budget=3.0,
            broken=AsksAgain if broken else lambda app: app,
        ) as gateway:
            drills = [
                total_outage(tally, folder, max(40, len(cases) // 2), broken),
                asked_for_pauses(tally, folder, broken),
            ]
            await asyncio.gather(_matrix(tally, cases, gateway, upstream, cut, broken), *drills)
        await _settles(lambda: not upstream.standing, 2.0)
        tally.count("sockets left after the stop", upstream.standing)
    await _settles(lambda: _descriptors() <= before, 2.0)
    tally.count("descriptors left after the stop", max(0, _descriptors() - before))
    _read_ledger(tally, folder / "faults", cut)
    return tally


@dataclass(frozen=True, slots=True)
class Came:
    """What a client got, after how many seconds, when it began (of the loop), and whether the connection ended."""

    reply: Reply
    seconds: float
    began: float | None
    ended: bool


async def _matrix(
    tally: Tally, cases: range, gateway: Standing, upstream: Misbehaving, cut: set[str], broken: bool
) -> None:
    """Try every case; after each batch, see what the gateway still holds, and judge."""
    await ask(gateway.port, {"model": "main", "case": "warm", "fault": "well", "at": ""}, 5.0)
    await _settles(lambda: gateway.held()[0] == 0, 2.0)
    _, jobs = gateway.held()
    tally.count("runs")
    for start in range(cases.start, cases.stop, AT_ONCE):
        batch = [Case(number) for number in range(start, min(start + AT_ONCE, cases.stop))]
        came = await asyncio.gather(*(_try(case, gateway, n * STAGGER) for n, case in enumerate(batch)))
        await _settles(lambda: not upstream.busy and gateway.held() <= (0, jobs), 0.1 if broken else 3.0)
        served, left = gateway.held()
        tally.count("permits leaked", served)
        tally.count("jobs leaked", max(0, left - jobs))
        tally.count("sockets leaked", upstream.busy)
        for case, each in zip(batch, came, strict=True):
            _judge_case(tally, case, each, upstream)
            if not each.reply.whole:
                cut.add(each.reply.headers.get("x-insource-request-id", ""))
    tally.count("redirects followed", upstream.arrived["connections at elsewhere"])


async def _try(case: Case, gateway: Standing, wait: float) -> Came:
    await asyncio.sleep(wait)
    body = {"model": case.upstream, "stream": case.stream, "messages": [{"role": "user", "content": "Go on."}],
            "case": case.name, "fault": case.fault, "at": case.at}  # fmt: skip
    headers = ["x-insource-sensitivity: restricted"] if case.pinned else []
    loop = asyncio.get_running_loop()
    started = loop.time()
    wire, reply = await ask(gateway.port, body, DEADLINE + REPLY + GRACE, headers)
    return Came(reply, loop.time() - started, wire.began, reply.whole or wire.closed)


def _judge_case(tally: Tally, case: Case, came: Came, upstream: Misbehaving) -> None:
    """Judge what the client saw and what arrived at the upstream."""
    reply = came.reply
    bound = DEADLINE + GRACE + (REPLY if served_by(reply) in (case.upstream, "spare") else 0.0)
    tally.count("cases")
    tally.measure("seconds", came.seconds)
    where = f"{case.fault} at {case.at}, {'stream' if case.stream else 'plain'}"
    if not came.ended or came.seconds > bound:
        tally.fail(case.number, f"{where}: {came.seconds:.2f} s, {'ended' if came.ended else 'not ended'}", "late")
    else:
        meant = upstream.meant[case.name] | upstream.meant[f"{CONNECT} {case.fault}"]
        kind, problem = ending(reply, case.upstream, meant, upstream.meant[f"spare {case.name}"])
        tally.count(kind)
        if problem:
            tally.fail(case.number, f"{where}: {problem}; status {reply.status}, {reply.body[:80]!r}", "untyped")
    later = [at - came.began for at in upstream.asked[case.name][1:] if came.began is not None and at > came.began]
    if later and served_by(reply) in (case.upstream, "spare"):  # an error of ours holds no byte of an upstream's
        what = f"{where}: asked again {later[0] * 1_000:.1f} ms after the first byte of a {reply.status}"
        tally.fail(case.number, what, "asked after the first byte")
    if case.pinned and upstream.meant[f"spare {case.name}"]:
        tally.fail(case.number, f"{where}: restricted, and sent to the fallback", "forbidden fallbacks")


def _upstreams(upstream: Misbehaving, broken: bool) -> list[UpstreamConfig]:
    """Return the fallback, the upstream whose requests name their fault, and one for each fault at the connection."""
    urls = {"spare": upstream.url("spare"), "main": upstream.url("main")}
    for number in range(len(KINDS) * len(POSITIONS)):
        case = Case(number)
        if case.fault == "DNS fail":
            urls[case.upstream] = f"http://{NAMES_OF_NOTHING[POSITIONS.index(case.at)]}/v1"
        elif (
            case.fault == "TLS fail"
        ):  # who speaks TLS meets one who hangs, one who answers in plain text, one who goes
            port = ("hang", "bad JSON", "early EOF")[POSITIONS.index(case.at)]
            urls[case.upstream] = upstream.url(f"{CONNECT} {port}", "https")
        elif case.at == CONNECT:
            urls[case.upstream] = upstream.url(f"{CONNECT} {case.fault}")
    day = 86_400.0
    silence, deadline, whole = (day, None, day) if broken else (SILENCE, DEADLINE, REPLY)
    return [
        UpstreamConfig(name, url, timeout_s=silence, connect_timeout_s=silence, deadline_s=deadline, reply_s=whole,
                       retries=1, breaker_failures=10**9)
        for name, url in urls.items()
    ]  # fmt: skip


def _task(name: str) -> Task:
    return Task(name, match=Match(models=(name,)), upstreams=((name, 1.0), ("spare", 0.0)))


class AsksAgain:
    """The guard broken: a reply that breaks off is asked for again, though its first bytes have been sent."""

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner
        self.state = getattr(inner, "state", None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, and serve again, to nobody, what was not completed."""
        kept: list[Message] = []
        ended = False

        async def keep() -> Message:
            kept.append(await receive())
            return kept[-1]

        async def watch(message: Message) -> None:
            nonlocal ended
            ended = ended or (message["type"] == "http.response.body" and not message.get("more_body"))
            await send(message)

        async def again() -> Message:
            return kept.pop(0) if kept else await receive()

        async def drop(message: Message) -> None:
            return None

        await self._inner(scope, keep, watch)
        if scope["type"] == "http" and not ended:
            await self._inner(scope, again, drop)


def _read_ledger(tally: Tally, home: Path, cut: set[str]) -> None:
    """Count requests that were not settled, and replies that broke off without the ledger saying why."""
    with LedgerReader(home) as reader:
        for row in reader.rows():
            settled = row.settlement
            tally.count("decisions")
            if settled is None:
                tally.count("unsettled")
            elif row.decision.request_id in cut and BEGUN not in (settled.detail or ""):
                tally.fail(
                    0, f"broken off, and on record as {settled.detail!r}", "broken off without a word in the ledger"
                )


async def _settles(holds: Callable[[], bool], seconds: float) -> None:
    """Return once something holds, or after so many seconds."""
    for _ in range(int(seconds / 0.02)):
        if holds():
            return
        await asyncio.sleep(0.02)


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


NEVER = (
    "late", "untyped", "asked after the first byte", "forbidden fallbacks", "redirects followed", "permits leaked",
    "jobs leaked", "sockets leaked", "sockets left after the stop", "descriptors left after the stop", "unsettled",
    "broken off without a word in the ledger", "outages asked too often", "pauses not honoured",
)  # fmt: skip


def judge(tally: Tally) -> list[str]:
    """Every case ends in time in one of the ways that a client understands, and nothing is left or asked too often."""
    counts = tally.counts
    found = [f"{name}: {counts[name]:,} of {counts['cases']:,} cases" for name in NEVER if counts[name]]
    if not counts["cases"] or not counts["outage requests"] or not counts["pauses"]:
        found.append("nothing was tried")
    if counts["decisions"] != counts["cases"] + counts["runs"]:
        found.append(f"{counts['decisions']:,} decisions on record for {counts['cases']:,} cases")
    if counts["outage replies"] != counts["outage requests"]:
        found.append(
            f"{counts['outage replies']:,} typed replies for {counts['outage requests']:,} requests in an outage"
        )
    if counts["refusals that say when"] != counts["refusals in a pause"]:
        found.append("a refusal in a pause did not say when to come back")
    return found


def seen(tally: Tally) -> str:
    """The ways in which cases ended, the slowest, and the attempts in an outage."""
    counts = tally.counts
    ends = ", ".join(
        f"{counts[kind]:,} {kind}"
        for kind in ("typed errors", "relayed", "fallbacks", "told in the stream", "broken off")
    )
    attempts = max(tally.values.get("attempts per request", [0.0]))
    return (
        f"{counts['cases']:,} cases: {ends}, {counts[BY_A_STRAY]} {BY_A_STRAY}; {counts['late']} late, "
        f"{counts['untyped']} untyped (slowest {max(tally.values.get('seconds', [0.0])):.2f} s; "
        f"{DEADLINE:g} s to begin, {REPLY:g} s for a reply); "
        f"{counts['asked after the first byte']} asked again after the first byte, {counts['sockets leaked']} sockets "
        f"and {counts['jobs leaked']} jobs leaked; total outage: at most {attempts:.2f} attempts per request "
        f"(without the budget's first 3); pauses not honoured: {counts['pauses not honoured']} of {counts['pauses']}"
    )


PROMISE = Promise(
    id="R6",
    says="Any upstream misbehaviour ends in a typed answer in time",
    asked="20 faults x 3 moments x stream and plain x 200 = 24,000 requests: 100 % end by deadline + 1 s with a typed "
    "error or a permitted fallback; 0 jobs or sockets leaked 60 s later; 0 retries after the first byte; attempts "
    "<= 1.2 x requests under total outage; Retry-After honoured",
    unit="requests, each meeting one fault",
    full=24_000,
    sample=120,
    slow=1_320,
    control=60,
    chunk=1_200,
    run=run,
    judge=judge,
    seen=seen,
    open="a reply that was complete as HTTP is relayed as it came, whatever it holds (bad JSON, another type, no "
    "[DONE]); a plain reply that breaks off after its head can only be told as incomplete, and its reason stands in "
    "the ledger; an upstream that sends two replies to one request may have the second taken for its reply to the "
    "next; the budget's 3 tokens come on top of 1.2 x requests; a name server that hangs was not tried",
    timed=True,
)
