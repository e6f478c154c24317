"""R2: power cuts at random points under the ledger, the registry and the artifacts, and what is there afterwards.

It runs the store's own code on a disk that records (`disk`) and on folders whose syncs are recorded (`folders`).
"""

from __future__ import annotations

import asyncio
import random
import shutil
from pathlib import Path

import apsw

from insource.errors import StoreError
from reliability.disk import Record, left_after, recording, write_files
from reliability.folders import try_publishing
from reliability.harness import Promise, Tally
from reliability.load import missing_from_ledger, missing_from_registry, write_ledger, write_registry

CUTS_PER_LOAD = 10
LEAST_LOST_BY_CONTROL = 0.5


def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Cut the power once for each case: the ledger always, the registry and the publishing of an artifact as well."""
    tally = Tally()
    records: dict[int, tuple[Record, Record]] = {}
    for case in cases:
        load = case // CUTS_PER_LOAD
        if load not in records:
            records = {load: _record(folder / f"load-{load}", load, broken)}
        for what, record in zip(("ledger", "registry"), records[load], strict=True):
            _cut(tally, case, what, record, folder / f"{what}-{case}")
        for failure in try_publishing(folder / f"artifacts-{case}", random.Random(case), broken=broken):
            tally.fail(case, failure, "artifacts lost")
        tally.count("artifact cuts")
        if broken:
            tally.count("broken cuts")
    return tally


def judge(tally: Tally) -> list[str]:
    """Nothing corrupt and nothing lost; a broken build that loses in less than half of the cuts was not found."""
    counts, found = tally.counts, []
    for what in ("corrupt", "ledger lost", "registry lost", "artifacts lost"):
        if counts[what]:
            found.append(f"{what} in {counts[what]:,} of {counts['ledger cuts']:,} cuts")
    if counts["broken cuts"] and tally.share("ledger lost", "broken cuts") < LEAST_LOST_BY_CONTROL:
        return []  # a control that loses too seldom is none
    if not counts["ledger cuts"] or not counts["acknowledged"]:
        found.append("no cut was tried")
    return found


def seen(tally: Tally) -> str:
    """One line."""
    counts = tally.counts
    return (
        f"{counts['ledger cuts']:,} cuts of the ledger after {counts['acknowledged']:,} acknowledged rows, as many of "
        f"the registry and the artifacts: {counts['corrupt']} corrupt, {counts['ledger lost']} + "
        f"{counts['registry lost']} + {counts['artifacts lost']} with losses"
    )


def _record(home: Path, load: int, broken: bool) -> tuple[Record, Record]:
    chance = random.Random(load)
    with recording(home, broken=broken) as ledger:
        asyncio.run(write_ledger(home, chance, ledger.acknowledge))
    with recording(home, broken=broken) as registry:
        write_registry(home, chance, registry.acknowledge)
    return ledger, registry


def _cut(tally: Tally, case: int, what: str, record: Record, home: Path) -> None:
    """Cut the power at a random event and look at what a restart finds."""
    chance = random.Random(f"{case} {what}")
    cut = record.moment(chance)
    noted = record.acknowledged(cut)
    tally.count(f"{what} cuts")
    tally.count("acknowledged", len(noted))
    write_files(left_after(record, cut, chance), home)
    try:
        lost = (missing_from_ledger if what == "ledger" else missing_from_registry)(home, noted)
    except (StoreError, apsw.Error) as error:
        tally.fail(case, f"{what} at event {cut}: {error}", "corrupt")
    else:
        if lost:
            tally.fail(case, f"{what} at event {cut} of {len(record.events)}: {', '.join(lost[:5])}", f"{what} lost")
        tally.count(f"{what} rows lost", len(lost))
    shutil.rmtree(home)


PROMISE = Promise(
    id="R2",
    says="Power loss loses nothing acknowledged",
    asked="1,000 simulated cuts with dropped, reordered and torn unsynced writes: 0 corrupt, 0 lost; the control with "
    "synchronous=NORMAL loses in at least 50 %",
    unit="cuts",
    full=1_000,
    sample=20,
    slow=200,
    control=20,
    chunk=100,
    run=run,
    judge=judge,
    seen=seen,
)
