"""R13: a disk that is full, fails or turns bits: nothing is acknowledged falsely, and damage is found, not served.

It fails each call of SQLite to the disk in turn (`disk`), and turns bits in files that were closed in good order.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import apsw

from insource.cli.checks.store import database_check
from insource.errors import ArtifactDamaged, InsourceError, StoreError
from insource.store import migrations
from insource.store.artifacts import ArtifactStore
from insource.store.ledger_reader import LedgerReader
from insource.store.proof.verify import Outside, verify
from insource.store.registry import Registry
from reliability.disk import Fault, left_after, recording, write_files
from reliability.harness import Promise, Tally
from reliability.load import missing_from_ledger, missing_from_registry, write_ledger, write_registry
from reliability.mutants import flip_bit

CALLS = 400
"""More than a load makes: a fault at a later call never comes, and its case is a load without one."""
LATER = 120  # the broken build must have acknowledged something before its first fault
KINDS = ("full", "error")


def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Fail one call for each case, then turn one bit or cut one file; `broken` syncs nothing and verifies nothing."""
    tally = Tally()
    sound = folder / "sound"
    asyncio.run(write_ledger(sound, random.Random(0), lambda _: None))
    write_registry(sound, random.Random(0), lambda _: None)
    digest = _publish(sound)
    wanted = {"ledger": _read_ledger(sound), "registry": _read_registry(sound)}
    for case in cases:
        for what in ("ledger", "registry"):
            _fail(tally, case, what, folder / f"fault-{case}", broken)
            _damage(tally, case, what, sound, folder / f"flip-{case}", wanted[what])
        _damage_artifact(tally, case, sound, folder / f"artifact-{case}", digest, broken)
    return tally


def judge(tally: Tally) -> list[str]:
    """No false acknowledgement, no corrupt file, no damaged artifact served, no damage of the ledger unnoticed."""
    counts, found = tally.counts, []
    for what in ("false acknowledgement", "corrupt after a fault", "damaged artifact served"):
        if counts[what]:
            found.append(f"{what} in {counts[what]:,} of {counts['ledger faults']:,} cases")
    if counts["ledger unnoticed"]:
        found.append(f"ledger read wrongly unnoticed in {counts['ledger unnoticed']:,} cases")
    if not counts["faults that came"] or not counts["artifact damages"]:
        found.append("no fault was tried")
    return found


def seen(tally: Tally) -> str:
    """One line, with the share that is found in the databases."""
    counts = tally.counts
    shares = ", ".join(
        f"{what}: {counts[f'{what} found']:,} found, {counts[f'{what} harmless']:,} harmless, "
        f"{counts[f'{what} unnoticed']:,} read wrongly unnoticed of {counts[f'{what} damages']:,}"
        for what in ("ledger", "registry")
    )
    return (
        f"{counts['faults that came']:,} failed calls ({counts['refused']:,} writes refused): "
        f"{counts['false acknowledgement']} false acknowledgements, {counts['corrupt after a fault']} corrupt; "
        f"artifacts: {counts['damaged artifact served']} of {counts['artifact damages']:,} damages served; {shares}"
    )


def _fail(tally: Tally, case: int, what: str, home: Path, broken: bool) -> None:
    """Let the disk fail once or for good at one call, cut the power at the end, and look for what was confirmed."""
    chance = random.Random(f"{case} {what} fault")
    came: list[str] = []
    call = 1 + case % CALLS + (LATER if broken else 0)
    with recording(home, broken=broken, fault=_fault(call, chance, came)) as record:
        if what == "ledger":
            refused = asyncio.run(write_ledger(home, random.Random(case), record.acknowledge, bursts=6))
        else:
            refused = write_registry(home, random.Random(case), record.acknowledge)
    tally.count(f"{what} faults")
    tally.count("faults that came", bool(came))
    tally.count("refused", refused)
    cut = record.moment(chance) if broken else len(record.events)
    after = home.with_name(home.name + "-after")
    write_files(left_after(record, cut, chance), after)
    missing = missing_from_ledger if what == "ledger" else missing_from_registry
    try:
        lost = missing(after, record.acknowledged(cut))
    except (StoreError, apsw.Error) as error:
        tally.fail(case, f"{what}, {came}: {error}", "corrupt after a fault")
    else:
        if lost:
            tally.fail(case, f"{what}, {came}: {', '.join(lost[:5])}", "false acknowledgement")
    shutil.rmtree(home)
    shutil.rmtree(after)


def _fault(call: int, chance: random.Random, came: list[str]) -> Fault:
    """Return a fault that strikes at the `call`th call, and, one time in two, at all that follow."""
    kind, lasting = chance.choice(KINDS), chance.random() < 0.5
    number = 0

    def fault(operation: str, path: str) -> Exception | None:
        nonlocal number
        number += 1
        if number != call and not (lasting and number > call):
            return None
        came.append(f"{kind} at {operation} of {Path(path).name}")
        return apsw.FullError("no room (a fault)") if kind == "full" else apsw.IOError("input/output error (a fault)")

    return fault


def _damaged(data: bytes, chance: random.Random) -> bytes:
    """Turn one bit; in one case of ten, cut the file."""
    if chance.random() < 0.1:
        return data[: chance.randrange(len(data))]
    changed = bytearray(data)
    flip_bit(changed, chance)
    return bytes(changed)


def _damage(tally: Tally, case: int, what: str, sound: Path, home: Path, wanted: object) -> None:
    """Damage a database and see whether verifying or reading it says so, and if not, whether it reads the same."""
    name = f"{what}.db"
    shutil.copytree(sound, home, ignore=shutil.ignore_patterns("artifacts", "*-wal", "*-shm", "*.lock"))
    (home / name).write_bytes(_damaged((sound / name).read_bytes(), random.Random(f"{case} {what} flip")))
    schema = migrations.LEDGER if what == "ledger" else migrations.REGISTRY
    read: Callable[[Path], object] = _read_ledger if what == "ledger" else _read_registry
    tally.count(f"{what} damages")
    if database_check(what, home / name, schema).status == "fail" or _told(home, what):
        tally.count(f"{what} found")
    else:
        try:
            tally.count(f"{what} harmless" if read(home) == wanted else f"{what} unnoticed")
        except (InsourceError, ValueError, ArithmeticError):
            tally.count(f"{what} found")
    shutil.rmtree(home)


def _told(home: Path, what: str) -> bool:
    """Say whether verifying tells of damage: the ledger by its tree and its texts' seals, the registry by its rows.

    A text that names another key than its own is told as one that is gone; nobody erased any here.
    """
    try:
        if what == "ledger":
            verdict = verify(home, Outside(), lambda done, of: None)
            return bool(verdict.faults) or verdict.texts["erased"] > 0
        with Registry.open(home) as registry:
            return bool(registry.flaws())
    except InsourceError:
        return True


def _read_ledger(home: Path) -> object:
    with LedgerReader(home) as reader:
        rows = list(reader.rows())
        for row in rows:
            if row.content is not None and not reader.proves(row.content):
                raise StoreError(f"The text of {row.decision.request_id} does not match its digest.")
        return rows, reader.acts(), reader.totals()


def _read_registry(home: Path) -> object:
    with Registry.open(home) as registry:
        return [registry.versions(name) for name in registry.tasks()], registry.acts()


def _publish(home: Path) -> str:
    store = ArtifactStore(home)
    with store.draft() as draft:
        (draft / "weights").write_bytes(random.Random(1).randbytes(3_000))
        return store.commit(draft, {"kind": "soak"})


def _damage_artifact(tally: Tally, case: int, sound: Path, home: Path, digest: str, broken: bool) -> None:
    shutil.copytree(sound / "artifacts", home / "artifacts")
    chance = random.Random(f"{case} artifact")
    path = home / "artifacts" / digest / chance.choice(("weights", "manifest.json"))
    path.write_bytes(_damaged(path.read_bytes(), chance))
    tally.count("artifact damages")
    try:
        if not broken:
            ArtifactStore(home).open(digest)
        tally.fail(case, f"{path.name} was served", "damaged artifact served")
    except ArtifactDamaged:
        tally.count("artifact found")
    shutil.rmtree(home)


PROMISE = Promise(
    id="R13",
    says="Disk trouble is detected, never hidden",
    asked="disk full or EIO at each write call: 0 false acknowledgements; 1,000 bit flips or truncations in store and "
    "registry: 100 % detected by verifying, 0 served",
    unit="cases (a failed call and a damage in each of ledger and registry, a damaged artifact)",
    full=1_000,
    sample=24,
    slow=240,
    control=20,
    chunk=100,
    run=run,
    judge=judge,
    seen=seen,
    open="a turned bit in the registry is found where it breaks the file's structure, an index, a stored form, or the "
    "row of a version; in other rows (acts, reviews, moves) it is not, and that share is not judged",
)
