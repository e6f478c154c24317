"""A4: a ledger with proofs is killed again and again, then put back from a copy; no two checkpoints may contradict.

Twenty crashes and one restore make one life of a ledger. All notes that a file ever held are collected; that one
extends the other is shown by proofs from the rows of the time, and taken by the second implementation.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from insource.store.proof.folder import ProofFolder
from insource.store.proof.note import Checkpoint
from insource.store.proof.verify import Outside, verify
from reliability.harness import Promise, Tally
from reliability.histories import Life, extends, put_back
from reliability.restarts import CHANGES, RECONCILES, STEPS, Nursery, Order

CRASHES = 20
LIFE = CRASHES + 1
KINDS = (
    ("all", True), ("ledger", False), ("all of the moment before", True), ("all", False), ("proofs", True),
    ("ledger", True), ("proofs", False),
)  # fmt: skip
"""What is put back, and whether the home has a witness outside; by turns."""
POINTS = [f"{when} {name}" for name in STEPS for when in ("before", "after") if name != "old log aside"]
MOST = {"head": 8, "commit": 8, "tile": 6, "signature": 3, "checkpoint": 3, "witness": 6, "sync of a file": 16}
"""How often a process passes what it passes more than once, before it dies there."""
NARROW = [f"{when} {name}" for name in ("checkpoint", "witness") for when in ("before", "after")]
"""Between the first file that has a note and the last."""


def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Live through the cases, and uncounted through those of the same life before the first of them.

    `broken` signs without comparing.
    """
    tally, life = Tally(), Life(folder, None)
    with Nursery(folder / "nursery.log") as nursery:
        for case in range(cases.start - cases.start % LIFE, cases.stop):
            what, witnessed = KINDS[case // LIFE % len(KINDS)]
            if case % LIFE == 0:
                place = folder / str(case)
                place.mkdir()
                life = Life(place, place / "witness" if witnessed else None)
            trial = _Trial(tally if case in cases else Tally(), case, life, nursery, broken)
            if case % LIFE < CRASHES:
                trial.crash()
            else:
                trial.restore(what)
            if case % LIFE == CRASHES or case == cases[-1]:
                trial.compare()
                shutil.rmtree(life.folder)
    return tally


@dataclass
class _Trial:
    """One case of a life."""

    tally: Tally
    case: int
    life: Life
    nursery: Nursery
    broken: bool

    def __post_init__(self) -> None:
        self.chance = random.Random(self.case)

    def crash(self) -> None:
        """Start, write, and die somewhere; after that the ledger must be signed on."""
        if self.chance.random() < 0.2 or not (self.life.folder / "copy").exists():
            self._copy()
        rotates = self.chance.randrange(3) if self.chance.random() < 0.3 else None
        among = [point for point in POINTS if rotates is not None or point.partition(" ")[2] not in CHANGES]
        point, timed = self.chance.choice(among), self.chance.random() < 0.3
        at = self.chance.randint(1, MOST.get(point.partition(" ")[2], 1))
        if timed:
            self._run(bursts=self._bursts(10), rotates=rotates, milliseconds=self.chance.uniform(1, 80))
        else:
            self._run(bursts=self._bursts(10), rotates=rotates, point=point, at=at)
        self.tally.count("crashes")
        if (why := ProofFolder(self.life.home).refusal) is not None:
            self.tally.fail(self.case, f"after a crash it was not signed: {why}", "not signed after a crash")

    def restore(self, what: str) -> None:
        """Put an older copy back, and see whether it is signed before and after a person reconciled."""
        life, moment = self.life, what.endswith("before")
        self._run(bursts=(3,), closes=True)  # so that something was signed since the copy
        if moment:
            self._copy()
        self._run(bursts=self._bursts(2), point=self.chance.choice(NARROW) if moment else None)
        life.end_era()
        size = put_back(life.folder / "copy", life.home, what)
        before, origins, last = life.signed, life.origins(), life.largest()
        must = Checkpoint.read(last).size > size and (what == "ledger" or life.witness is not None)
        self.tally.count(f"restores of {what}, {'a' if life.witness else 'no'} witness")
        for closes in (True, False):
            self._run(bursts=self._bursts(2), closes=closes)
        refused = ProofFolder(life.home).refusal is not None
        if what == "all" and life.witness is None:
            return self._audit(last)
        self.tally.count("restores that must be refused", must)
        if must and not refused:
            self.tally.fail(self.case, f"{what} was put back ({size:,} rows), and signed on", "not refused")
        if refused and life.signed > before:
            self.tally.fail(self.case, "it refuses to sign, and signed", "signed while refusing")
        if refused:
            self._reconcile(origins)
        return None

    def compare(self) -> None:
        """Show of all checkpoints of each log that the larger one extends the smaller."""
        self.life.end_era()
        for origin in self.life.origins():
            line = sorted((each for each in self.life.noted if each.found.origin == origin),
                          key=lambda each: each.found.size)  # fmt: skip
            self.tally.count("checkpoints", len(line))
            for one, other in pairwise(line):
                if not extends(one, other):
                    what = f"checkpoints of {one.found.size:,} and {other.found.size:,} rows of {origin} contradict"
                    self.tally.fail(other.case, what, "contradictions")

    def _audit(self, last: str) -> None:
        """Nothing in reach remembers what was signed: only who kept a checkpoint finds it, and what follows is void."""
        found = verify(self.life.home, Outside(None, {"the kept one": last}), lambda done, of: None).faults
        self.tally.count("restores that only a kept checkpoint shows")
        if not found:
            self.tally.fail(self.case, "who kept a checkpoint did not find the restore", "not found by verifying")
        self.life.seen = {note: case for note, case in self.life.seen.items() if case < self.case or note == last}

    def _reconcile(self, origins: set[str]) -> None:
        """Begin a new log, mostly by way of a crash; from then on only that one is signed."""
        life, known = self.life, set(self.life.seen)
        if self.chance.random() < 0.7:
            point = f"{self.chance.choice(('before', 'after'))} {self.chance.choice(RECONCILES)}"
            self._run(bursts=(1,), reconciles=True, point=point, at=self.chance.choice((1, 2, 3)))
        self._run(bursts=self._bursts(2), reconciles=True)
        self._run(bursts=self._bursts(2), closes=True)
        self.tally.count("reconciled")
        fresh = [Checkpoint.read(note).origin for note in life.seen if note not in known]
        if not fresh or ProofFolder(life.home).refusal is not None:
            self.tally.fail(self.case, "once reconciled it was not signed", "not signed after reconciling")
        if origins & set(fresh):
            self.tally.fail(self.case, "the old log was signed once more", "old log signed again")
        notes = {} if life.witness is None else {"the witness": life.witness.read_text()}
        if faults := verify(life.home, Outside(None, notes), lambda done, of: None).faults:
            self.tally.fail(self.case, f"reconciled, and faulty: {faults[0].what}", "faults once reconciled")

    def _run(self, **asked: object) -> None:
        life = self.life
        told, witness = str(life.folder / "told"), None if life.witness is None else str(life.witness)
        order = Order(str(life.home), witness, told, broken=self.broken, **asked)  # type: ignore[arg-type]
        code = self.nursery.run(order)
        life.look(self.case)
        if code != (0 if order.closes else -9):
            self.tally.fail(self.case, f"a process ended with {code} ({order})", "processes that failed")
        self.tally.count(f"died {life.died or ('at some time' if order.milliseconds else 'at its end')}", code == -9)

    def _bursts(self, most: int) -> tuple[int, ...]:
        return tuple(self.chance.choice((1, 2, 7, 30)) for _ in range(self.chance.randint(1, most)))

    def _copy(self) -> None:
        copy = self.life.folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        if self.life.home.exists():
            shutil.copytree(self.life.home, copy)


def judge(tally: Tally) -> list[str]:
    """No two contradict; what was put back is not signed until reconciled; a crash keeps nobody from signing."""
    return list(_complaints(tally))


WRONG = (
    "contradictions", "not refused", "signed while refusing", "old log signed again", "not signed after a crash",
    "not signed after reconciling", "faults once reconciled", "not found by verifying", "processes that failed",
)  # fmt: skip


def _complaints(tally: Tally) -> Iterator[str]:
    counts = tally.counts
    for what in WRONG:
        if counts[what]:
            yield f"{what}: {counts[what]:,} ({counts['checkpoints']:,} checkpoints)"
    if not counts["checkpoints"] or counts["reconciled"] < counts["restores that must be refused"]:
        yield "not everything was tried"


def seen(tally: Tally) -> str:
    """One line."""
    counts = tally.counts
    restores = sum(number for name, number in counts.items() if name.startswith("restores of "))
    points = sum(name.startswith("died ") and number > 0 for name, number in counts.items())
    return (
        f"{counts['crashes']:,} crashes at {points} kinds of points and {restores:,} restores: "
        f"{counts['checkpoints']:,} checkpoints, {counts['contradictions']} contradictions; "
        f"{counts['restores that must be refused']:,} restores had to be refused, {counts['not refused']} were not; "
        f"{counts['reconciled']:,} reconciled, {counts['restores that only a kept checkpoint shows']:,} without a "
        "witness found by a kept checkpoint"
    )


PROMISE = Promise(
    id="A4",
    says="The log never contradicts itself",
    asked="1,000 crash restarts and 50 restores from old backups: 0 inconsistent checkpoints signed; a restored log "
    "refuses to sign until reconciled, which begins a new log",
    unit="crashes, and a restore after every twentieth",
    full=50 * LIFE,
    sample=LIFE,
    slow=len(KINDS) * LIFE,
    control=LIFE,
    chunk=5 * LIFE,
    run=run,
    judge=judge,
    seen=seen,
    open="where everything is put back and no witness lies outside, nothing in reach remembers what was signed: the "
    "ledger is signed on, and who kept a checkpoint finds it by verifying; a crash is one of the process, power cuts "
    "are R2's; ledgers of some thousand rows, whose tiles have two levels",
)
