"""Eleven years of one gateway by an injected clock: requests of many tasks, restarts, and looks at what is kept.

Each request is looked at a microsecond before its end and at it, and what was sealed of it once its day is over.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from insource.config import Allowed, Config, GatewayConfig, PolicyConfig, StoreConfig, UpstreamConfig
from insource.errors import InsourceError
from insource.gateway.parts import Parts
from insource.governance.verifier import verify_ledger
from insource.store.artifacts import ArtifactStore
from insource.store.columns import EPOCH
from insource.store.ledger import Ledger
from insource.store.ledger_reader import LedgerReader
from insource.store.proof.folder import ProofFolder
from insource.store.proof.proving import Prover
from insource.store.proof.verify import Outside as Elsewhere
from insource.store.proof.verify import verify
from insource.store.registry import Registry
from insource.types import Calibration, Content, Outcome, Sensitivity, Task, WhenKept
from reliability.enclosed import Clerk, Enclosed, enclosed
from reliability.harness import Tally
from reliability.recording import Outside, Received, reply
from reliability.sealed_blobs import Blob, blobs_of, keys_left, ledger_blobs

DAYS = 4_015
LONG = timedelta(days=DAYS)
START = datetime(2027, 1, 1, 9, tzinfo=UTC)
HAIR = timedelta(microseconds=1)
LIVES = 3, 12
"""How often the gateway is started: at least, and at most, once in so many requests as below."""
LIFE = 40
STORE_DAYS = (30, 45, 20)
"""What the store is set to, by turns, from restart to restart: for tasks that say nothing themselves."""
ROUTINE = 4
"""For so many requests there is one purge at a moment of no other meaning."""
RAW_EVERY = 7
"""So often the files are read byte by byte for what has expired."""
CERTIFIED = Calibration("band", 0.05, 0.95, 100, 0.5, 0.5, 50, 0, 0.04, 0.9)
KEPT = {"audit_rate": 1.0, "sensitivity": Sensitivity.PUBLIC}
REVIEWED = {"audit_rate": 0.0, "sensitivity": Sensitivity.RESTRICTED, "when_kept": WhenKept.REVIEW}
TASKS = (
    Task("day", content="full", retention_days=1, **KEPT), Task("week", content="full", retention_days=7, **KEPT),
    Task("store", content="full", **KEPT), Task("half", content="full", retention_days=183, **KEPT),
    Task("year", content="digest", retention_days=365, **KEPT), Task("waits", retention_days=7, **REVIEWED),
    Task("digest", content="digest", **KEPT), Task("none", content="none", retention_days=None, **KEPT),
    Task("decade", content="full", retention_days=3_650, **KEPT),
)  # fmt: skip
ANSWER = b'{"choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}]}'
OpenLedger = Callable[..., Ledger]
Happens = Callable[[], Awaitable[None]]


@dataclass
class Kept:
    """One request: its number, text and task, when all that is kept of it ends (None: nobody knows yet, or nothing)."""

    case: int
    task: Task
    request_id: str = ""
    end: datetime | None = None
    sealed: list[Blob] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What was asked."""
        sure = self.case % 2 and self.task.when_kept is not WhenKept.REVIEW
        return f"{'sure' if sure else 'unsure'}, kanarie{self.case:06d}, where is my card?"


class Years:
    """One home and its clock; what is to happen lies in a heap."""

    def __init__(self, tally: Tally, cases: range, folder: Path, open_ledger: OpenLedger) -> None:
        self.tally, self.cases, self.folder, self.open_ledger = tally, cases, folder, open_ledger
        self.now, self.lives = START, 0
        self.kept: list[Kept] = []
        self.notes: dict[str, str] = {}
        self._moments: list[tuple[datetime, int, Happens]] = []
        self._order = itertools.count()
        self.registry: Registry
        self.reader: LedgerReader
        self.gateway: Enclosed
        self.digest = _publish(folder)

    async def live(self) -> None:
        """Let the years pass from one moment to the next."""
        for case in self.cases:
            chance = random.Random(case)
            share = (case - self.cases.start + chance.random()) / len(self.cases)
            self._at(START + share * LONG, partial(self._ask, Kept(case, TASKS[case % len(TASKS)])))
        purges = len(self.cases) // ROUTINE
        for number in range(purges):
            self._at(START + number / purges * LONG, self._purge)
        lives = min(max(LIVES[0], len(self.cases) // LIFE), LIVES[1])
        starts = [START + number / lives * LONG for number in range(1, lives + 1)]
        async with Outside(_script) as upstream:
            for until in starts:
                async with self._living(upstream):
                    while self._moments and self._moments[0][0] < until:
                        self.now, _, happens = heapq.heappop(self._moments)
                        await happens()
                    self.now = until
                self._check_proofs()
        self._check_end()

    def _at(self, time: datetime, happens: Happens) -> None:
        heapq.heappush(self._moments, (time, next(self._order), happens))

    @asynccontextmanager
    async def _living(self, upstream: Outside) -> AsyncIterator[None]:
        """Run a gateway from one start to the next."""
        self.days = STORE_DAYS[self.lives % len(STORE_DAYS)]
        self.lives += 1
        self.tally.count("restarts", self.lives > 1)
        with ExitStack() as stack:
            opened = self.open_ledger(self.folder, clock=lambda: self.now, retention_days=self.days)
            ledger = stack.enter_context(opened)
            self.registry = stack.enter_context(Registry.open(self.folder))
            if self.lives == 1:
                _promote(self.registry, self.digest)
            self.reader = stack.enter_context(LedgerReader(self.folder))
            parts = Parts(_config(self.folder, upstream, self.days), ledger, self.registry,
                          lambda version, upstream=None: Clerk(version.name), clock=lambda: self.now,
                          coin=lambda _: 0.0)  # fmt: skip
            async with enclosed(parts) as self.gateway:
                await self._purge()
                yield

    async def _purge(self) -> None:
        """Have the gateway erase what is due, and see that no key of a day that is over is left."""
        await self.gateway.gateway._purge()
        self.tally.count("purges")
        if any(day < (self.now - EPOCH).days for day in keys_left(self.folder).days):
            self.tally.fail(0, f"a key of a day before {self.now} is there", "day keys left")

    async def _ask(self, kept: Kept) -> None:
        """Send a request, and look at what is kept of it at its end."""
        body = {"model": f"task:{kept.task.name}", "messages": [{"role": "user", "content": kept.text}]}
        told = await self.gateway.ask("/v1/chat/completions", json.dumps(body).encode())
        kept.request_id = told.headers["x-insource-request-id"]
        while (
            (row := self.reader.decision(kept.request_id)) is None
            or row.settlement is None
            or (row.decision.audited and not row.audits)
        ):
            await asyncio.sleep(0.0005)  # what is written later has a later end
        self.tally.count("requests")
        self.kept.append(kept)
        days = kept.task.retention_days or self.days
        if kept.task.content != "none":
            kept.end = self.now + timedelta(days=days)
            self._at(kept.end - HAIR, partial(self._before, kept))
            self._at(kept.end, partial(self._after, kept))
        elif self._blobs(kept) or row.content_digest:
            self.tally.fail(kept.case, "something is kept of a task that keeps nothing", "overdue")
        if kept.task.when_kept is WhenKept.REVIEW:
            self._at(self.now + random.Random(kept.case).random() * timedelta(days=60), partial(self._answer, kept))

    async def _answer(self, kept: Kept) -> None:
        """Have a person answer; the text stays for the task's days from now on."""
        await self._purge()
        if self.registry.find_review(kept.request_id).text is None:
            self.tally.fail(kept.case, "the text went while it waited", "early")
        self.registry.answer_review(kept.request_id, "yes", "ada", self.now)
        end = self.now + timedelta(days=kept.task.retention_days or self.days)
        sealed = [blob for blob in blobs_of(self.folder) if kept.request_id.encode() in blob.place]
        self._at(end - HAIR, partial(self._look_at_review, kept, sealed, True))
        self._at(end, partial(self._look_at_review, kept, sealed, False))

    async def _look_at_review(self, kept: Kept, sealed: list[Blob], there: bool) -> None:
        await self._purge()
        found, keys = self.registry.find_review(kept.request_id).text, keys_left(self.folder)
        readable = [found is not None, *(blob.opened(keys) is not None for blob in sealed)]
        self._judge(kept, readable, there, "of a review")

    async def _before(self, kept: Kept) -> None:
        """Look a microsecond before the end: all is there."""
        await self._purge()
        kept.sealed, keys = self._blobs(kept), keys_left(self.folder)
        self.tally.count("opened in a copy", sum(blob.opened(keys) is not None for blob in kept.sealed))
        self._judge(kept, [self._readable(kept), bool(kept.sealed)], True, "of the ledger")

    async def _after(self, kept: Kept) -> None:
        """Look at the end: nothing is there, and from midnight on no copy is read."""
        await self._purge()
        self._judge(kept, [self._readable(kept), bool(self._blobs(kept))], False, "of the ledger")
        if kept.case % RAW_EVERY == 0:
            raw = b"".join(path.read_bytes() for path in self.folder.glob("ledger.db*"))
            self.tally.count("read byte by byte")
            self.tally.count("sealed bytes in the file", any(blob.data in raw for blob in kept.sealed))
        assert kept.end is not None, "it has one"
        midnight = (kept.end + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        self._at(midnight, partial(self._in_a_copy, kept))

    async def _in_a_copy(self, kept: Kept) -> None:
        await self._purge()
        keys = keys_left(self.folder)
        if any(blob.opened(keys) is not None for blob in kept.sealed):
            self.tally.fail(kept.case, "a copy of it is read after its day", "overdue")
        if any(each in keys.secrets for blob in kept.sealed for each in blob.seal):
            self.tally.fail(kept.case, "the key of its day is there", "day keys left")
        self.tally.count("closed in a copy", len(kept.sealed))

    def _judge(self, kept: Kept, readable: list[bool], there: bool, where: str) -> None:
        if there and not all(readable):
            self.tally.fail(kept.case, f"{where}, {kept.task.name}: {readable} before its end", "early")
        elif not there and any(readable):
            self.tally.fail(kept.case, f"{where}, {kept.task.name}: {readable} at its end", "overdue")
        else:
            self.tally.count("read before their end" if there else "gone at their end")

    def _readable(self, kept: Kept) -> bool:
        """Say whether the text is there; of a digest, whether it proves the text."""
        row = self.reader.decision(kept.request_id)
        if row is None or row.content_digest is None:
            self.tally.fail(kept.case, "its row is not there", "rows lost")
            return False
        if kept.task.content == "full":
            return row.content is not None and row.content.text == kept.text
        answer = "yes" if row.decision.outcome is Outcome.ACCEPTED else None
        return self.reader.proves(Content(kept.request_id, row.decision.time, kept.task.name, kept.text, answer))

    def _blobs(self, kept: Kept) -> list[Blob]:
        """Return what is sealed of a request in the ledger."""
        ids = " UNION ALL ".join(f"SELECT seq FROM {table} WHERE request_id = ?1"
                                 for table in ("decisions", "settlements", "audits"))  # fmt: skip
        return list(ledger_blobs(self.folder, f"seq IN ({ids})", (kept.request_id,)))

    def _check_proofs(self) -> None:
        """Verify the whole ledger against every checkpoint that was kept, and an early proof by the other code."""
        self.notes[f"of life {self.lives}"] = ProofFolder(self.folder).checkpoint() or ""
        faults = verify(self.folder, Elsewhere(None, self.notes), lambda done, of: None).faults
        proof, told = self.folder.parent / f"{self.folder.name}.proof", list[str]()
        if not proof.exists() and self.kept:
            with Prover(self.folder) as prover:
                proof.write_text(json.dumps(prover.prove(self.kept[0].request_id)))
        self.tally.count("verified")
        if faults or (proof.exists() and verify_ledger.main([str(proof)], told.append)):
            self.tally.fail(0, f"{[fault.what for fault in faults]}, {told}", "proofs broken")

    def _check_end(self) -> None:
        """See that what is not due is there, every row, and the documents of the first day."""
        with LedgerReader(self.folder) as self.reader, Registry.open(self.folder) as registry:
            for kept in self.kept:
                if kept.end is not None and kept.end > self.now:
                    there = self._readable(kept)
                    self.tally.count("kept to the last day", there)
                    if not there:
                        self.tally.fail(kept.case, f"{kept.task.name}: gone, and due at {kept.end}", "early")
            rows = {row.decision.request_id for row in self.reader.rows() if row.settlement is not None}
            for kept in self.kept:
                if kept.request_id not in rows:
                    self.tally.fail(kept.case, "its row is not there", "rows lost")
            try:
                ArtifactStore(self.folder).open(self.digest)
                found = [registry.get(task.name, 1).digest for task in TASKS if registry.acts(f"{task.name}@1")]
            except InsourceError as error:
                found = [str(error)]
            if found != [self.digest] * len(TASKS):
                self.tally.fail(0, f"documents of the first day: {found}", "documents lost")


def _publish(folder: Path) -> str:
    store = ArtifactStore(folder)
    with store.draft() as draft:
        (draft / "weights").write_bytes(b"of the first day")
        return store.commit(draft, {"kind": "specialist"})


def _promote(registry: Registry, digest: str) -> None:
    for task in TASKS:
        registry.register(task.name, "linear", digest, CERTIFIED, {}, START)
        registry.promote(task.name, 1, "soak", "a promise", START)


def _config(folder: Path, upstream: Outside, days: int) -> Config:
    gateway = GatewayConfig("127.0.0.1", 0, 1_000, 1, 1.0, 1.0, (("up", 1.0),))
    anywhere = Allowed(("*",))
    policy = PolicyConfig(internal=anywhere, public=anywhere, restricted=Allowed(()))
    upstreams = {"up": UpstreamConfig("up", upstream.base_url, model="model-x")}
    return Config(gateway, StoreConfig(folder, days), upstreams, {task.name: task for task in TASKS}, policy, {}, {},
                  None, {})  # fmt: skip


def _script(received: Received, number: int) -> bytes:
    return reply(200, ANSWER)
