"""R10: three times the load that saturates a gateway: it refuses what is too much at once and goes on serving the rest.

The gateway is `insource serve` with few permits; the upstream serves as many at once and queues the rest, as a real one
does. Requests are sent on time whatever became of those before. It knows nothing of what is asked.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.wire.load import Client, request
from benchmarks.wire.stub import REPLY
from reliability.harness import Promise, Tally
from reliability.served import Served, make_home, serving

PERMITS = 8
ANSWER_SECONDS = 0.05
TIMES = 3.0
PATIENCE = 0.2
"""A reply that comes later than that, four times the usual, is of no use to its client any more."""

CASE_SECONDS = 0.5
WARM_SECONDS = 0.2
PEAK_SECONDS = 0.5
SLOW_REFUSAL = 0.05
STALL = 0.02
STREAK = 8
LONGEST_RECOVERY = 12.0
BODY = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "Where is my parcel?"}]}).encode()
ASKED = request(BODY)


class Desk(asyncio.Protocol):
    """One connection to the upstream."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._waiting = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Queue the request once it is whole; a gateway asks one at a time."""
        self._waiting += data
        if self._waiting.endswith(BODY):
            self._waiting = b""
            self._upstream.take(self)


@dataclass
class Upstream:
    """Answers PERMITS requests at once, each after ANSWER_SECONDS, and the rest in their order."""

    busy: int = 0
    queue: deque[Desk] = field(default_factory=deque)

    def take(self, desk: Desk) -> None:
        """Serve a request, now or in its turn."""
        if self.busy >= PERMITS:
            self.queue.append(desk)
            return
        self.busy += 1
        asyncio.get_running_loop().call_later(ANSWER_SECONDS, self._done, desk)

    def _done(self, desk: Desk) -> None:
        self.busy -= 1
        desk.transport.write(REPLY)
        if self.queue:
            self.take(self.queue.popleft())


@dataclass(frozen=True, slots=True)
class Replied:
    """When a request was due, sent, and its reply whole, in seconds of perf_counter, and the reply's head."""

    due: float
    sent: float
    at: float
    head: bytes

    @property
    def seconds(self) -> float:
        """From the moment at which it was to be sent."""
        return self.at - self.due

    @property
    def status(self) -> int:
        """The reply's."""
        return int(self.head[9:12])

    @property
    def good(self) -> bool:
        """Whether it was answered while somebody still waited."""
        return self.status == 200 and self.seconds <= PATIENCE


class Crowd:
    """As many clients as it takes; each waits for its reply before it sends again. `eager` ones then do so at once."""

    def __init__(self, port: int, *, eager: bool = False) -> None:
        self.eager = eager
        self.replies: list[Replied] = []
        self.sent = 0
        self._port = port
        self._free: deque[Client] = deque()
        self._due: dict[Client, float] = {}
        self._all: list[Client] = []
        self._joining: set[asyncio.Task[None]] = set()

    async def join(self, clients: int) -> None:
        """Connect that many more."""
        for _ in range(clients):
            _, client = await asyncio.get_running_loop().create_connection(
                lambda: Client(self._done), "127.0.0.1", self._port
            )
            self._all.append(client)
            self._free.append(client)

    def send(self, due: float) -> None:
        """Send one request, on a new connection where all are waiting."""
        self.sent += 1
        if self._free:
            self._start(due)
        else:
            job = asyncio.ensure_future(self._late(due))
            self._joining.add(job)
            job.add_done_callback(self._joining.discard)

    def leave(self) -> None:
        """Close every connection."""
        for client in self._all:
            client.transport.abort()

    async def _late(self, due: float) -> None:
        await self.join(1)
        self._start(due)

    def _start(self, due: float) -> None:
        client = self._free.popleft()
        self._due[client] = due
        client.send(ASKED)

    def _done(self, client: Client, took: float, head: bytes) -> None:
        self.replies.append(Replied(self._due[client], client.started, time.perf_counter(), head))
        self._free.append(client)
        if self.eager:
            self.send(time.perf_counter())


async def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Overload one gateway for half a second for each case; `broken` has permits without end."""
    tally = Tally()
    async with _upstream() as upstream:
        home = folder / "home"
        home.mkdir()
        file = make_home(home, upstream, max_concurrency=100_000 if broken else PERMITS)
        async with serving(file) as gateway:
            peak = await _peak(gateway)
            steady = gateway.megabytes()
            await _overload(tally, gateway, cases, peak, steady)
            tally.measure("recovery s", await _recovery(gateway, 0.3 if broken else LONGEST_RECOVERY))
    return tally


async def _peak(gateway: Served) -> float:
    """Return the replies a second where exactly as many clients ask as there are permits."""
    crowd = Crowd(gateway.port, eager=True)
    await crowd.join(PERMITS)
    for _ in range(PERMITS):
        crowd.send(time.perf_counter())
    await asyncio.sleep(WARM_SECONDS)
    began = time.perf_counter()
    await asyncio.sleep(PEAK_SECONDS)
    took, crowd.eager = time.perf_counter() - began, False
    crowd.leave()
    return sum(reply.good and reply.at >= began for reply in crowd.replies) / took


async def _overload(tally: Tally, gateway: Served, cases: range, peak: float, steady: float) -> None:
    """Send at three times the peak, on time; count what came back while it lasted."""
    crowd, seconds, rate = Crowd(gateway.port), CASE_SECONDS * len(cases), TIMES * peak
    await crowd.join(PERMITS * 4)
    stalls = list[tuple[float, float]]()
    ticking = asyncio.ensure_future(_tick(stalls))
    began, largest = time.perf_counter(), steady
    for number in range(int(rate * seconds)):
        due = began + number / rate
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        crowd.send(due)
        if number % int(rate / 4) == 0:
            largest = max(largest, gateway.megabytes())
    ended = time.perf_counter()
    tally.measure("memory ratio", max(largest, gateway.megabytes()) / steady)
    tally.count("half seconds", len(cases))
    tally.count("sent", crowd.sent)
    tally.count("capacity", round(peak * (ended - began - ANSWER_SECONDS)))  # what came last is still on its way
    crowd.leave()
    ticking.cancel()
    _count(tally, cases, [reply for reply in crowd.replies if reply.at <= ended], stalls)


async def _tick(stalls: list[tuple[float, float]]) -> None:
    """Note when this very loop was kept from running: what it times then, it would only time itself."""
    before = time.perf_counter()
    while True:
        await asyncio.sleep(0.005)
        now = time.perf_counter()
        if now - before > STALL:
            stalls.append((before, now))
        before = now


def _count(tally: Tally, cases: range, replies: list[Replied], stalls: list[tuple[float, float]]) -> None:
    refused = []
    for reply in replies:
        if reply.status == 200:
            tally.count("good" if reply.good else "late")
        elif reply.status == 429 and b"retry-after:" in reply.head.lower():
            tally.count("refused")
            if not any(start < reply.at and reply.sent < end for start, end in stalls):
                refused.append(reply.at - reply.sent)
        else:
            tally.fail(cases.start, f"a reply of another kind: {reply.head[:200]!r}", "other replies")
    tally.count("refusals timed", len(refused))
    tally.count("refused slowly", sum(seconds > SLOW_REFUSAL for seconds in refused))
    for place in (0.5, 0.99):
        at = sorted(refused)[int(len(refused) * place)] if refused else 0.0
        tally.measure(f"refusal p{place * 100:.0f} ms", at * 1000)


async def _recovery(gateway: Served, longest: float) -> float:
    """Return the seconds until requests at half the peak are served as promptly as ever, STREAK of them in a row.

    It waits no longer than `longest`, and then returns that.
    """
    crowd, began, due = Crowd(gateway.port), time.perf_counter(), time.perf_counter()
    await crowd.join(PERMITS)
    streak: list[Replied] = []
    while len(streak) < STREAK and time.perf_counter() < began + longest:
        crowd.send(due)
        due += 2 * ANSWER_SECONDS / PERMITS
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        last = sorted(crowd.replies, key=lambda reply: reply.due)[-STREAK:]
        streak = [reply for reply in last if reply.status == 200 and reply.seconds <= 3 * ANSWER_SECONDS]
    crowd.leave()
    return streak[0].at - began if len(streak) == STREAK else longest


@asynccontextmanager
async def _upstream() -> AsyncIterator[str]:
    upstream = Upstream()
    server = await asyncio.get_running_loop().create_server(lambda: Desk(upstream), "127.0.0.1", 0, backlog=1024)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()


def judge(tally: Tally) -> list[str]:
    """Goodput, refusals, memory and recovery, each against its figure."""
    counts, found = tally.counts, []
    goodput = tally.share("good", "capacity")
    if goodput < 0.9:
        found.append(f"goodput was {goodput:.0%} of the peak; 90 % were asked for")
    if not counts["refused"]:
        found.append("nothing was refused at three times the peak")
    if not counts["refusals timed"]:
        found.append("no refusal could be timed")
    if tally.share("refused slowly", "refusals timed") > 0.01:
        found.append(
            f"{tally.share('refused slowly', 'refusals timed'):.1%} of the refusals took more than 50 ms; 1 % may"
        )
    if counts["other replies"]:
        found.append(f"{counts['other replies']:,} replies were neither 200 nor 429 with Retry-After")
    if (memory := max(tally.values.get("memory ratio", [9.9]))) > 1.5:
        found.append(f"memory grew to {memory:.2f} times the steady one")
    if (recovery := max(tally.values.get("recovery s", [LONGEST_RECOVERY]))) > 5:
        found.append(f"recovery took {recovery:.1f} s or more; 5 s were asked for")
    return found


def seen(tally: Tally) -> str:
    """One line."""
    counts = tally.counts
    return (
        f"{counts['half seconds'] * CASE_SECONDS:,g} s at 3 x saturation, {counts['sent']:,} requests: goodput "
        f"{tally.share('good', 'capacity'):.1%} of the peak, {counts['refused']:,} refused with Retry-After (p50 "
        f"{tally.quantile('refusal p50 ms', 0.5):.1f} ms, p99 {tally.quantile('refusal p99 ms', 1.0):.1f} ms, over 50 "
        f"ms {tally.share('refused slowly', 'refusals timed'):.2%}), memory at most "
        f"{tally.quantile('memory ratio', 1.0):.2f} x steady, recovered in {tally.quantile('recovery s', 1.0):.2f} s"
    )


PROMISE = Promise(
    id="R10",
    says="Overload sheds, does not collapse",
    asked="3 x saturation for 10 min: goodput >= 90 % of peak, refusals p99 <= 50 ms with Retry-After, memory <= 1.5 x "
    "steady, recovery <= 5 s",
    unit="half seconds of overload",
    full=1_200,
    sample=2,
    slow=60,
    control=1,
    chunk=120,
    run=run,
    judge=judge,
    seen=seen,
    open="saturation is that of the permits (8 at once, 50 ms each); three times what the processor itself can serve "
    "needs the load on another machine",
    timed=True,
)
