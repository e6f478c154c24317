"""Canaries replayed through a served gateway: clients ask over HTTP, every request is audited, the gateway's own ledger
holds the pairs, and `insource steward` beside it moves the canary on or rolls it back.

A case is one task of a gateway that serves many. The figures are those of the clients and of the registry's moves;
what is asked of them, the promise says.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from insource.answers import AnswerSpace
from insource.lifecycle.gates import SHARES
from insource.risk.paired import PairedTest, Verdict
from insource.store.artifacts import ArtifactStore
from insource.store.registry import Registry
from insource.types import Calibration, Move, Stage, Task
from reliability.harness import Tally
from reliability.losses import answers_of, loss_of
from reliability.raw_http import Reply, Wire
from reliability.replayed_gateway import SWAPPED
from reliability.running_gateway import LONGEST, post, running
from reliability.told_answers import ANSWERS, ToldUpstream, telling

TOGETHER = 30
"""Canaries that one gateway serves at once, each with a client of its own."""
MOST = 4_000
"""Requests after which a canary that still stands was not caught."""
SUBJECTS = 20
LOOK_SECONDS = 0.1
RATE = 400.0
"""Requests a second of all clients together: a steward takes in about three times as many where all are audited."""
TARGET = 0.25
"""Above the risk of every candidate here, so that nothing but the comparison can end a canary."""
CERTIFIED = Calibration("band", TARGET, 0.95, 400, 0.5, 0.9, 360, 40, 0.2, 0.9)
_SHOWN = re.compile(r"shown after ([\d,]+) of [\d,]+ requests")


@dataclass
class Replay:
    """One canary: its share at first; when each request began and whether the candidate decided it; what became of it.

    `after` are the requests that the candidate decided once a round of all subjects had gone to the incumbent.
    """

    case: int
    share: float
    asked: list[tuple[datetime, bool]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    moved: Move | None = None
    before_calm: list[datetime] = field(default_factory=list)
    calm: int = 0
    after: int = 0

    @property
    def task(self) -> str:
        """Its task's name."""
        return f"canary-{self.case}"

    @property
    def decided_at(self) -> int | None:
        """After how many pairs the steward's test decided against it, as its act says."""
        shown = _SHOWN.search(self.moved.why) if self.moved is not None else None
        return int(shown[1].replace(",", "")) if shown else None


class Pace:
    """Gives each request its turn, so many a second; time that nobody used is not made up for."""

    def __init__(self, rate: float) -> None:
        self._pause, self._next = 1.0 / rate, 0.0

    async def turn(self) -> None:
        """Wait for the next turn."""
        now = time.monotonic()
        turn = max(now, self._next)
        self._next = turn + self._pause
        await asyncio.sleep(turn - now)


def measured(points: int) -> str:
    """How the tally calls the requests until a loss was rolled back in a replay."""
    return f"replayed requests until {points} points lost were rolled back"


async def replay(cases: Iterable[int], folder: Path, broken: bool) -> Tally:
    """Replay each case's canary, many at a time through one gateway; `broken` takes the candidate for the incumbent."""
    tally, replays = Tally(), [Replay(case, Random(case).choice(SHARES)) for case in cases]
    async with ToldUpstream() as upstream:
        for start in range(0, len(replays), TOGETHER):
            together = replays[start : start + TOGETHER]
            await _serve(together, folder / str(together[0].case), upstream.url, broken)
    for each in replays:
        _count(tally, each)
    return tally


async def _serve(replays: list[Replay], folder: Path, upstream: str, broken: bool) -> None:
    folder.mkdir(parents=True)
    lines = [
        "[gateway]", "port = 0",
        "[store]", f'home = "{folder}"',
        "[upstreams.main]", f'base_url = "{upstream}"', 'model = "told"',
    ]  # fmt: skip
    for each in replays:
        lines += [f"[tasks.{each.task}]", f"target_risk = {TARGET}", 'mode = "auto"', "audit_rate = 1",
                  "deadline_ms = 5000"]  # fmt: skip
    (folder / "insource.toml").write_text("\n".join(lines) + "\n")
    with Registry.open(folder) as registry:
        _register(registry, ArtifactStore(folder), replays)
        file, variables = folder / "insource.toml", [f"BROKEN={SWAPPED}"] if broken else []
        async with _steward(file) as watches, running(file, "reliability.replayed_gateway", *variables) as gateway:
            await watches
            watching = asyncio.ensure_future(_watch(registry, replays))
            try:
                pace = Pace(RATE)
                await asyncio.gather(*(_ask(gateway.port, pace, each) for each in replays))
            finally:
                watching.cancel()
                with suppress(asyncio.CancelledError):
                    await watching


def _register(registry: Registry, artifacts: ArtifactStore, replays: list[Replay]) -> None:
    now, answers = datetime.now(UTC), AnswerSpace("label", ANSWERS, ANSWERS).to_json()
    with artifacts.draft() as draft:
        digest = artifacts.commit(draft, {"kind": "specialist", "answers": answers})
    for each in replays:
        for role in ("incumbent", "candidate"):
            registry.register(each.task, "linear", digest, CERTIFIED, {"role": role}, now)
        registry.promote(each.task, 1, "soak", "soak", now)
        registry.move(each.task, 2, expected=Stage.CANDIDATE, to=Stage.CANARY, share=each.share, who="soak",
                      why="soak", now=now)  # fmt: skip


@asynccontextmanager
async def _steward(file: Path) -> AsyncIterator[Awaitable[bytes]]:
    """Run `insource steward`, at the priority of all else: what is yielded is its word that it watches.

    The one that `serve` starts gives way to everybody, so that a busy machine would be measured here.
    """
    command = (sys.executable, "-m", "insource.cli.main", "--config", str(file), "steward")
    places = os.pathsep.join([str(Path(__file__).parents[1]), *(path for path in sys.path if path)])
    with (file.parent / "steward.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=log,
            env={**os.environ, "PYTHONPATH": places},
        )  # fmt: skip
    assert process.stdout is not None
    try:
        yield process.stdout.readline()
    finally:
        process.kill()
        await process.communicate()


async def _watch(registry: Registry, replays: list[Replay]) -> None:
    """Note which canaries the steward has ended, one way or the other."""
    while True:
        for each in replays:
            if each.moved is None and registry.trial(each.task) is None:
                each.moved = registry.moves(each.task)[-1]
        await asyncio.sleep(LOOK_SECONDS)


async def _ask(port: int, pace: Pace, replay: Replay) -> None:
    """Ask one request after the other until the canary is ended; then see that it gets no more."""
    wire = await Wire.open(port)
    incumbent, candidate = answers_of(replay.case)
    for number, (ours, theirs) in enumerate(zip(incumbent[:MOST], candidate[:MOST], strict=True)):
        if replay.moved is not None:
            break
        await pace.turn()
        text = telling(number, incumbent_wrong=bool(ours), candidate_wrong=bool(theirs))
        began = datetime.now(UTC)
        replay.asked.append((began, await _canary_decides(wire, replay, text, number)))
    if replay.moved is not None and replay.moved.stage is Stage.RETIRED:
        await _see_it_end(wire, replay)
    wire.cut()


async def _see_it_end(wire: Wire, replay: Replay) -> None:
    """Ask for all subjects until the incumbent has answered each, then once more."""
    end = time.monotonic() + LONGEST
    while time.monotonic() < end:
        began, decided = datetime.now(UTC), await _round(wire, replay)
        if not decided:
            replay.calm, replay.after = SUBJECTS, await _round(wire, replay)
            return
        replay.before_calm += [began] * decided


async def _round(wire: Wire, replay: Replay) -> int:
    text = telling(0, incumbent_wrong=False, candidate_wrong=False)
    return sum([await _canary_decides(wire, replay, text, subject) for subject in range(SUBJECTS)])


async def _canary_decides(wire: Wire, replay: Replay, text: str, number: int) -> bool:
    body = {"model": f"task:{replay.task}", "messages": [{"role": "user", "content": text}],
            "user": f"user {number % SUBJECTS}"}  # fmt: skip
    reply = await wire.ask(post(body), LONGEST)
    if reply is None or reply.status != 200 or _said(reply) not in ANSWERS:
        replay.broken.append("no reply" if reply is None else f"{reply.status} {reply.body[:100]!r}")
    return reply is not None and reply.headers.get("x-insource-version") == "2"


def _said(reply: Reply) -> object:
    with suppress(ValueError, KeyError, IndexError, TypeError):
        return json.loads(reply.body)["choices"][0]["message"]["content"]
    return None


def simulated(case: int) -> int | None:
    """Return after how many requests the test decides against a case's canary without a gateway; None: it does not."""
    test = PairedTest(margin=Task("any").margin)
    return test.decided_at if test.update(*(wrong[:MOST] for wrong in answers_of(case))) is Verdict.ROLL_BACK else None


def _count(tally: Tally, replay: Replay) -> None:
    decided_at, expected, loss = replay.decided_at, simulated(replay.case), loss_of(replay.case)
    tally.count("replays")
    tally.count("replayed requests", len(replay.asked))
    tally.count("replayed canary requests", sum(decides for _, decides in replay.asked))
    tally.measure(measured(loss.points), decided_at or MOST + 1)
    if replay.broken:
        tally.count("broken replayed requests", len(replay.broken) - 1)
        tally.fail(replay.case, replay.broken[0], "broken replayed requests")
    if decided_at is None or expected is None:
        if decided_at is not None or expected is not None:
            became = "still in canary" if replay.moved is None else f"{replay.moved.stage}: {replay.moved.why}"
            tally.fail(replay.case, f"simulated: decided after {expected}; replayed: {became}", "replayed otherwise")
        return
    tally.measure("pairs apart from the simulation", abs(decided_at - expected))
    _count_end(tally, replay, decided_at)


def _count_end(tally: Tally, replay: Replay, decided_at: int) -> None:
    """Count what the canary still got once the test had decided."""
    assert replay.moved is not None, "it was rolled back"
    late = [began for began, decides in replay.asked[decided_at:] if decides] + replay.before_calm
    tally.measure("canary requests until rolled back", sum(began <= replay.moved.time for began in late))
    tally.measure("canary requests until all was calm", sum(began > replay.moved.time for began in late))
    tally.measure("rolled back s", (replay.moved.time - replay.asked[decided_at - 1][0]).total_seconds())
    tally.measure("last canary s", max([0.0, *((began - replay.moved.time).total_seconds() for began in late)]))
    tally.count("requests after", replay.calm)
    if not replay.calm or replay.after:
        tally.fail(replay.case, f"rolled back, but the canary decided {replay.after} requests more", "late canaries")
