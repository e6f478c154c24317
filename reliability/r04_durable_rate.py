"""R4: decisions at a fixed rate through the sockets that workers write by, to the ledger's process, each waited for.

Requests come on time whatever became of those before. That a commit is synced is counted in the ledger's process; that
every record can be proved is verified afterwards. In longer runs a gateway is asked as well, for what it adds.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import socket
import time
from datetime import UTC, datetime
from pathlib import Path

from insource.gateway.control import new_loop
from insource.governance.verifier import verify_ledger as second
from insource.store.ledger_client import LedgerClient
from insource.store.ledger_reader import LedgerReader
from insource.store.proof.proving import Prover
from insource.store.proof.verify import Outside, verify
from insource.types import Content, Decision, Outcome, Reason, Settlement
from reliability.harness import Promise, Tally
from reliability.ledger_process import ledger_process

RATE, ASKED = 2_100, 2_000
CLIENTS = 2
TURN_SECONDS = 0.001
MOST_MS, MOST_ADDED_MS = 25.0, 15.0
PROVED = 20
WAL = "ledger.db-wal"
WITH_GATEWAY, GATEWAY_RATE, GATEWAY_SECONDS, ROUNDS = 30, 200, 5.0, 3
"""A run of so many seconds asks a gateway, too: by turns the upstream alone and through it."""


def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Write for as many seconds as there are cases; `broken` has SQLite sync nothing."""
    tally, home = Tally(), folder / "home"
    tally.count("broken", broken)
    home.mkdir()
    with ledger_process(home, CLIENTS, broken=broken) as process, asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(_load(tally, process.clients, len(cases), cases.start))
    syncs = process.syncs[WAL]
    tally.count(f"syncs counted by {process.by}", syncs)
    commits = _look(tally, home, cases)
    tally.count("syncs", syncs)
    tally.count("commits", commits)
    tally.count("commits without a sync", max(0, commits - syncs))
    shutil.rmtree(home)
    if len(cases) >= WITH_GATEWAY and not broken:
        _gateway(tally, folder / "gateway")
    return tally


class _Load:
    """Requests that come on time, by turns over the clients."""

    def __init__(self, tally: Tally, clients: list[LedgerClient], start: int) -> None:
        self.tally, self.clients, self.start = tally, clients, start
        self.last = 0.0
        self._chance = random.Random(start)
        self._jobs: set[asyncio.Task[None]] = set()

    async def send(self, number: int) -> float:
        """Send so many, and return the moment of the first, once all are answered."""
        began, sent = time.perf_counter(), 0
        while sent < number:
            due = min(number, int((time.perf_counter() - began) * RATE) + 1)
            for each in range(sent, due):
                job = asyncio.ensure_future(self._append(each, began + each / RATE))
                self._jobs.add(job)
                job.add_done_callback(self._jobs.discard)
            sent = due
            await asyncio.sleep(TURN_SECONDS)
        await asyncio.gather(*self._jobs)
        return began

    async def _append(self, number: int, due: float) -> None:
        client, name, now = self.clients[number % len(self.clients)], f"r-{self.start}-{number}", datetime.now(UTC)
        decision = Decision(name, now, Outcome.ACCEPTED, Reason.ABOVE_THRESHOLD, task="triage", version=3, score=0.93)
        content = Content(name, now, "triage", f"where is card {self._chance.getrandbits(64)}?", "lost card")
        await client.append(decision, content)
        self.last = time.perf_counter()
        self.tally.measure("ms", round(1_000 * (self.last - due), 2))
        self.tally.count("acknowledged")
        client.settle(Settlement(name, now, 200, "triage@3", 0.002))


async def _load(tally: Tally, sockets: list[socket.socket], seconds: int, start: int) -> None:
    clients = [await LedgerClient.connect(each, clock=lambda: datetime.now(UTC)) for each in sockets]
    load = _Load(tally, clients, start)
    began = await load.send(RATE * seconds)
    tally.measure("acknowledged a second", tally.counts["acknowledged"] / (load.last - began))
    for client in clients:
        await client.close()
        tally.count("lost", client.lost)


def _look(tally: Tally, home: Path, cases: range) -> int:
    """Verify all that is there, prove some of it to the second implementation, and return how many commits it took."""
    verdict = verify(home, Outside(), lambda done, of: None)
    tally.count("rows", verdict.rows)
    tally.count("not signed", verdict.rows - verdict.signed)
    tally.count("faults", len(verdict.faults))
    with LedgerReader(home) as reader:
        tally.count("recorded", reader.totals().requests)
    chance = random.Random(cases.start)
    with Prover(home) as prover:
        for _ in range(PROVED):
            proof = prover.prove(f"r-{cases.start}-{chance.randrange(RATE * len(cases))}")
            try:
                second.check_proof(proof, [str(verdict.key)], [], lambda line: None)
                tally.count("proved", len(proof["rows"]) == 2)
            except second.Wrong as error:
                tally.fail(cases.start, f"{proof['request']}: {error}", "not proved")
    return verdict.heads


def _gateway(tally: Tally, folder: Path) -> None:
    """Measure what a gateway that records before its reply adds at 200 requests a second."""
    from benchmarks import gateway

    folder.mkdir()
    bodies, port = gateway.lines(folder, "pass", [gateway.PASS]), gateway.free_port()
    with gateway.stub() as upstream, gateway.serving(folder, upstream, port):
        for _ in range(ROUNDS):
            alone, through = (
                gateway.load("open", each, GATEWAY_RATE, GATEWAY_SECONDS, bodies=bodies) for each in (upstream, port)
            )
            tally.count("asked of a gateway", through["sent"])
            tally.count("refused by a gateway", through["sent"] - through["counts"].get("200", 0))
            tally.measure("added ms", through["p99"] - alone["p99"])


def judge(tally: Tally) -> list[str]:
    """Fast enough, durable each time, and all of it provable; of the broken build only whether it is durable."""
    counts, at, found = tally.counts, tally.quantile, []
    if counts["commits without a sync"] or not counts["commits"]:
        found.append(f"{counts['syncs']:,} syncs under {counts['commits']:,} commits")
    if counts["broken"]:  # what is to be found are syncs that are missing, not a slow machine
        return found
    if at("ms", 0.99) > MOST_MS:
        found.append(f"acknowledged after {at('ms', 0.99):.1f} ms at p99, at most {MOST_MS:g} were asked")
    if at("acknowledged a second", 0.0) < ASKED:
        found.append(f"{at('acknowledged a second', 0.0):,.0f} acknowledged a second, {ASKED:,} were asked")
    for what in ("lost", "not signed", "faults", "not proved", "refused by a gateway"):
        if counts[what]:
            found.append(f"{what}: {counts[what]:,} of {counts['rows']:,} rows")
    if not counts["recorded"] == counts["acknowledged"] > 0 or not counts["proved"]:
        found.append(f"{counts['recorded']:,} recorded, {counts['acknowledged']:,} acknowledged")
    if counts["acknowledged"] >= RATE * WITH_GATEWAY and not counts["asked of a gateway"]:
        found.append("no gateway was asked")
    if at("added ms", 0.5) > MOST_ADDED_MS:
        found.append(f"a gateway adds {at('added ms', 0.5):.1f} ms at p99, at most {MOST_ADDED_MS:g} were asked")
    return found


def seen(tally: Tally) -> str:
    """One line."""
    counts, at = tally.counts, tally.quantile
    by = " and ".join(sorted(name.rpartition(" by ")[2] for name in counts if name.startswith("syncs counted by")))
    added = f"; a gateway adds {at('added ms', 0.5):.1f} ms at p99" if "added ms" in tally.values else ""
    return (
        f"{counts['acknowledged']:,} decisions at {at('acknowledged a second', 0.0):,.0f} a second, each with its "
        f"settlement, acknowledged after {at('ms', 0.5):.1f} ms (p99 {at('ms', 0.99):.1f}, most {at('ms', 1):.0f}); "
        f"{counts['syncs']:,} syncs under {counts['commits']:,} commits, counted by {by}; {counts['rows']:,} rows "
        f"signed and verified, {counts['proved']:,} requests proved to the second implementation{added}"
    )


PROMISE = Promise(
    id="R4",
    says="Durable audit keeps up",
    asked="at least 2,000 durable, provable records a second for 10 min, acknowledged within 25 ms at p99, the syncs "
    "counted; a gateway adds at most 15 ms at p99 at 200 requests a second",
    unit="seconds of the load",
    full=600,
    sample=1,
    slow=10,
    control=1,
    chunk=60,
    run=run,
    judge=judge,
    seen=seen,
    timed=True,
)
