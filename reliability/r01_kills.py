"""R1: kill -9 under mixed load; whatever was acknowledged is there afterwards, once, provably, and soon again.

The gateway is `insource serve` with two workers and a witness outside its home. What is killed is the whole process
group, the ledger's process alone, or a worker; now and then the start after it too, and the person at work beside it.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from insource.store.ledger_reader import LedgerReader
from insource.store.proof.note import PublicKey
from insource.store.proof.verify import Outside, verify
from insource.store.registry import Registry
from insource.types import Key
from reliability.harness import Promise, Tally
from reliability.killable import Killable, free_port, kill, serves
from reliability.mixed_load import ANSWER, DECIDED, MADE, REVOKED, VERSION, Journal, Load, Person
from reliability.plain_upstream import PlainUpstream
from reliability.running_gateway import until
from reliability.served import make_home

VICTIMS = ("group", "worker", "ledger")
PER_HOME = 20
SECONDS = 2.0
WRONG = ("acknowledged and lost", "not as proven", "not delivered once", "not ready", "refused acts")


async def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Kill once for each case, twenty times on one home; `broken` is a gateway that records after its replies."""
    tally = Tally()
    for first in range(cases.start, cases.stop, PER_HOME):
        place = folder / str(first)
        async with PlainUpstream() as upstream:
            upstream.end.set()
            home = _Home(place / "home", place / "outside")
            await _try(tally, range(first, min(first + PER_HOME, cases.stop)), home, upstream.url, broken)
        shutil.rmtree(place)
    if broken:  # what is to be found is a loss, not a slow machine
        tally.values.pop("ready", None)
    return tally


def judge(tally: Tally) -> list[str]:
    """Nothing lost, nothing broken, nothing twice, and ready in two seconds at p95."""
    counts = tally.counts
    found = [f"{what}: {counts[what]:,} in {counts['kills']:,} kills" for what in WRONG if counts[what]]
    if (took := tally.quantile("ready", 0.95)) > SECONDS:
        found.append(f"ready after {took:.2f} s at p95, {SECONDS:g} s were asked")
    if not counts["kills"] or counts["kills"] < counts["due"] or not counts["acknowledged"] or not counts["verified"]:
        found.append("not everything was tried")
    return found


def seen(tally: Tally) -> str:
    """One line."""
    counts, at = tally.counts, tally.quantile
    killed = ", ".join(f"{counts[f'killed {victim}']:,} {victim}" for victim in VICTIMS)
    return (
        f"{counts['kills']:,} kills ({killed}; {counts['killed starting']:,} starts, {counts['killed person']:,} other "
        f"writers): {counts['acknowledged and lost']:,} of {counts['acknowledged']:,} acknowledged lost, "
        f"{counts['acts']:,} acts and {counts['answers']:,} answers delivered, {counts['not delivered once']:,} not "
        f"once; {counts['verified']:,} verifications of {counts['rows']:,} rows in all, {counts['not as proven']:,} "
        f"with a fault; ready after {at('ready', 0.5):.2f} s (p95 {at('ready', 0.95):.2f}, at most "
        f"{at('ready', 1.0):.2f}), a worker's place filled after {at('worker', 0.95):.2f} s at p95"
    )


@dataclass
class _Home:
    """A home and what is kept outside it: the journal, the witness, its notes so far, and the public key."""

    home: Path
    outside: Path
    notes: dict[str, str] = field(default_factory=dict)
    key: PublicKey | None = None
    checked: int = 0

    @property
    def witness(self) -> Path:
        return self.outside / "witness"

    def make(self, upstream: str, record: str) -> tuple[Killable, str, str]:
        """Return the gateway, a key to ask with, and one of an administrator."""
        port = free_port()
        self.outside.mkdir(parents=True)
        file = make_home(self.home, upstream, port=port, workers=2)
        lines = f'[store]\nrecord = "{record}"\nwitness = "{self.witness}"\n'
        file.write_text(file.read_text().replace("[store]\n", lines))
        with Registry.open(self.home) as registry:
            keys = [
                registry.create_key(Key("", name, datetime.now(UTC), "soak", admin=name == "admin"), "a promise")[1]
                for name in ("app", "admin")
            ]
        return Killable(file, port), keys[0], keys[1]


async def _try(tally: Tally, cases: range, home: _Home, upstream: str, broken: bool) -> None:
    gateway, key, admin = home.make(upstream, "after_reply" if broken else "before_reply")
    journal = Journal(home.outside / "journal.jsonl")
    load = Load(gateway.port, key, admin, journal, Random(cases.start))
    person = Person(home.home, load)
    await gateway.start()
    assert await gateway.ready() is not None, gateway.file.with_name("gateway.log").read_text()
    load.start()
    person.start()
    try:
        for case in cases:
            tally.count("due")
            if not await _kill(tally, case, gateway, load, person):
                return
            await asyncio.to_thread(_check, tally, case, home, journal, [*journal.lines])
        await person.stop()
        await load.stop()
        tally.count("refused acts", load.refused)
        await _deliver(home.home)
        await asyncio.to_thread(_check, tally, cases[-1], home, journal, [*journal.lines], whole=True)
        await gateway.stop()
    finally:
        gateway.kill_all()
        await person.stop()
        await load.stop()


async def _kill(tally: Tally, case: int, gateway: Killable, load: Load, person: Person) -> bool:
    """Kill once under load, and return whether all serves again; most kills follow a reply at once."""
    chance, victim = Random(case), VICTIMS[case % len(VICTIMS)]
    if not await load.more(20):
        tally.fail(case, "hardly anything is served", "not ready")
        return False
    await asyncio.sleep(chance.uniform(0.0, 0.4))
    workers, struck = gateway.workers(), asyncio.Event()
    old = chance.choice(workers)

    def strike() -> None:
        kill(old) if victim == "worker" else gateway.kill() if victim == "ledger" else gateway.kill_all()
        struck.set()

    if chance.random() < 0.75:
        load.strike = strike
        await struck.wait()
    else:
        strike()
    tally.count("kills")
    tally.count(f"killed {victim}")
    if chance.random() < 0.2:
        tally.count("killed person")
        person.kill()
    if victim == "worker":
        return await _again(tally, case, gateway, old, len(workers))
    await gateway.ended()
    if chance.random() < 0.2:
        tally.count("killed starting")
        await gateway.start()
        await asyncio.sleep(chance.uniform(0.0, 1.0))
        gateway.kill_all()
        await gateway.ended()
    await gateway.start()
    took = await gateway.ready()
    if took is None:
        tally.fail(case, gateway.file.with_name("gateway.log").read_text()[-500:], "not ready")
        return False
    tally.measure("ready", took)
    return True


async def _again(tally: Tally, case: int, gateway: Killable, old: int, number: int) -> bool:
    """Wait until another worker serves in the place of one that was killed."""
    began = time.monotonic()

    def filled() -> bool:
        now = gateway.workers()
        return len(now) == number and old not in now and all(map(serves, now))

    if not await until(filled):
        tally.fail(case, "the worker was not started again, or does not serve", "not ready")
        return False
    tally.measure("worker", time.monotonic() - began)
    return True


async def _deliver(home: Path) -> None:
    """Wait until the ledger has what people did; what it has not by then, the check tells."""
    with Registry.open(home) as registry:
        await until(lambda: not registry.outgoing_acts() and not registry.outgoing_feedback(), 10.0)


def _check(
    tally: Tally, case: int, home: _Home, journal: Journal, lines: list[tuple[str, str]], *, whole: bool = False
) -> None:
    """Hold ledger and registry against the journal and the proofs; `whole`, against all of it and to the last act."""
    new = lines if whole else lines[home.checked :]
    if not whole:
        home.checked = len(lines)
        tally.count("acknowledged", len(new))
    with Registry.open(home.home) as registry, LedgerReader(home.home) as ledger:
        for kind, what in new:
            if kind == DECIDED and not ledger.knows(what):
                tally.fail(case, f"request {what}", "acknowledged and lost")
        keys = {each.id: each.revoked is not None for each in registry.keys()}
        versions = {str(each.version) for each in registry.versions("triage")}
        stands = {MADE: keys.keys(), REVOKED: {each for each, revoked in keys.items() if revoked}, VERSION: versions}
        for kind, what in new:
            if kind in stands and what not in stands[kind]:
                tally.fail(case, f"{kind} {what}", "acknowledged and lost")
        _delivered(tally, case, registry, ledger, new, whole)
    _proven(tally, case, home, whole)


def _delivered(
    tally: Tally, case: int, registry: Registry, ledger: LedgerReader, new: list[tuple[str, str]], whole: bool
) -> None:
    """What the registry counts as told, and at the end all of it, is in the ledger once; nothing is there twice."""
    acts = registry.acts()
    waiting = len(registry.outgoing_acts()), {(each.request_id, each.who) for each in registry.outgoing_feedback()}
    told = Counter(ledger.acts())
    due = acts if whole else acts[: max(0, len(acts) - waiting[0])]
    for act in set(acts):
        if told[act] > 1 or (act in due and not told[act]):
            tally.fail(case, f"{told[act]} times in the ledger: {act}", "not delivered once")
    for kind, about in new:
        who = kind.removeprefix(ANSWER)
        if who == kind or ((about, who) in waiting[1] and not whole):
            continue
        times = sum(each.who == who for each in ledger.feedback(about))
        if times != 1:
            tally.fail(case, f"{times} times in the ledger: the answer of {who}", "not delivered once")
        tally.count("answers", whole)
    tally.count("acts", len(acts) if whole else 0)


def _proven(tally: Tally, case: int, home: _Home, whole: bool) -> None:
    """Verify the whole ledger against all that the witness ever had; a row's number that is given twice is a fault."""
    if home.witness.exists():
        home.notes[f"the witness at kill {case}"] = home.witness.read_text()
    verdict = verify(home.home, Outside(home.key, home.notes), lambda done, of: None)
    tally.count("verified")
    tally.count("rows", verdict.rows)
    home.key = home.key or (PublicKey.read(verdict.key) if verdict.key is not None else None)
    told = [fault.what for fault in verdict.faults] + ([verdict.refusal] if verdict.refusal is not None else [])
    if told or (whole and not verdict.signed):
        tally.fail(case, "; ".join(told) or "nothing is signed", "not as proven")


PROMISE = Promise(
    id="R1",
    says="A crash loses nothing acknowledged",
    asked="1,000 kill -9 of supervisor, ledger or worker under mixed load, also on the way up: 0 acknowledged lost, 0 "
    "breaks in the tree, 0 numbers twice, acts and answers delivered once, ready again within 2 s at p95",
    unit="kills under load, twenty to a home",
    full=1_000,
    sample=3,
    slow=30,
    control=1,
    chunk=PER_HOME,
    run=run,
    judge=judge,
    seen=seen,
    timed=True,
)
