"""A1: twelve kinds of alteration of a ledger; each must be found, and the first bad entry be named.

What is outside is the public key and the last checkpoint. Both implementations look, the second at what it reads.
"""

from __future__ import annotations

import asyncio
import random
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from insource.governance.verifier import verify_ledger
from insource.store.ledger import Ledger
from insource.store.proof.checking import Fault
from insource.store.proof.folder import ProofFolder
from insource.store.proof.note import Checkpoint, PublicKey
from insource.store.proof.tiles import Hashes
from insource.store.proof.tree import Frontier
from insource.store.proof.verify import Outside, Report, Verdict, verify
from insource.types import Content, Decision, Outcome, Reason, Settlement
from reliability.alterations import KINDS, Altered
from reliability.harness import Promise, Tally
from reliability.load import NOON

NOT_READ_BY_THE_SECOND = {"index", "edit_tile"}
"""The second implementation reads rows, texts, heads and checkpoints: no index, no tile."""
RANGED = {"rewrite"}
"""Where the bad row may be told as one of a range; see what stands as `open`."""
REQUESTS = 180
_RANGE = re.compile(r"one of rows ([\d,]+) to ([\d,]+) ")


def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Alter a copy for each case, the kinds in turn; of the `broken` two, neither looks at a row."""
    tally = Tally()
    first, second = (trusting_tiles, trusting_the_checkpoint) if broken else (verify, verify_ledger.main)
    tally.count("broken", broken)
    sound, backup = folder / "sound", folder / "backup"
    asyncio.run(_fill(sound, 0))
    shutil.copytree(sound, backup)
    asyncio.run(_fill(sound, REQUESTS))
    note = ProofFolder(sound).checkpoint() or ""
    verdict = verify(sound, Outside(None, {"outside": note}), _quiet)
    tally.count("sound found altered", bool(verdict.faults))
    outside = Outside(PublicKey.read(verdict.key or ""), {"the one kept outside": note})
    (folder / "kept").write_text(note)
    for case in cases:
        kind, home = KINDS[case % len(KINDS)], folder / f"case-{case}"
        shutil.copytree(sound, home)
        altered = kind(home, backup, random.Random(case))
        tally.count("alterations")
        _look(tally, case, kind.__name__, altered, first(home, outside, _quiet))
        if kind.__name__ not in NOT_READ_BY_THE_SECOND:
            told: list[str] = []
            code = second([str(home), "--key", str(outside.key), "--checkpoint", str(folder / "kept")], told.append)
            _count_second(tally, case, kind.__name__, code)
        shutil.rmtree(home)
    return tally


def judge(tally: Tally) -> list[str]:
    """All are found by both, and the first bad entry is named. Both broken builds must be found: one alone is none."""
    counts, found = tally.counts, []
    for what in ("unnoticed", "unnoticed by the second", "misnamed", "sound found altered"):
        if counts[what]:
            found.append(f"{counts[what]:,} of {counts['alterations']:,} alterations: {what}")
    if not counts["alterations"]:
        found.append("nothing was altered")
    if counts["broken"] and not (counts["unnoticed"] and counts["unnoticed by the second"]):
        return []
    return found


def seen(tally: Tally) -> str:
    """One line."""
    counts = tally.counts
    return (
        f"{counts['found']:,} of {counts['alterations']:,} alterations of {len(KINDS)} kinds found; first bad row "
        f"named exactly {counts['row named exactly']:,} times, by a range {counts['row named by a range']:,} times; "
        f"the second implementation found {counts['found by the second']:,} of {counts['read by the second']:,} that "
        "it reads"
    )


async def _fill(home: Path, start: int) -> None:
    with Ledger.open(home, clock=lambda: NOON) as ledger:
        for low in range(start, start + REQUESTS, 12):
            await asyncio.gather(*(_request(ledger, number) for number in range(low, low + 12)))
            ledger.act("ada", "promote", f"triage@{low}", "it held")


async def _request(ledger: Ledger, number: int) -> None:
    request_id = f"r-{number}"
    decision = Decision(
        request_id, NOON, Outcome.ACCEPTED, Reason.ABOVE_THRESHOLD, task="triage", version=3, score=0.93
    )
    await ledger.append(decision, Content(request_id, NOON, "triage", f"where is card {number}?"), keep_text=True)
    ledger.settle(Settlement(request_id, NOON, 200, "triage@3", 0.002))


def _look(tally: Tally, case: int, kind: str, altered: Altered, verdict: Verdict) -> None:
    if not verdict.faults:
        tally.fail(case, f"{kind} went unnoticed", "unnoticed")
        return
    tally.count("found")
    if not _named(tally, kind, altered, verdict):
        told = "; ".join(fault.what for fault in verdict.faults[:3])
        tally.fail(case, f"{kind} of {altered} was told as: {told}", "misnamed")


def _named(tally: Tally, kind: str, altered: Altered, verdict: Verdict) -> bool:
    first = next((fault for fault in verdict.faults if fault.row is not None), None)
    if altered.row is None:
        return all(any(word in fault.what for fault in verdict.faults) for word in altered.words)
    if first is None:
        return False
    told = _RANGE.match(first.what)
    if told is None:
        tally.count("row named exactly", first.row == altered.row)
        return first.row == altered.row
    low, high = (int(number.replace(",", "")) for number in told.groups())
    ranged = kind in RANGED and low <= altered.row <= high <= verdict.rows
    tally.count("row named by a range", ranged)
    return ranged


def _count_second(tally: Tally, case: int, kind: str, code: int) -> None:
    tally.count("read by the second")
    if code == 0:
        tally.fail(case, f"{kind} went unnoticed by the second implementation", "unnoticed by the second")
    else:
        tally.count("found by the second")


def trusting_tiles(home: Path, outside: Outside, report: Report) -> Verdict:
    """Compare the tiles with the checkpoint kept outside, and never look at a row: a broken verifier."""
    (note,) = outside.notes.values()
    wanted = Checkpoint.read(note)
    hashes = Hashes(ProofFolder(home).tiles, lambda start, stop: _tail(home, start, stop), wanted.size, wanted.size)
    try:
        same = Frontier.at(wanted.size, hashes.subtree).root() == wanted.root
    except ValueError:
        same = False
    return Verdict(rows=wanted.size, faults=[] if same else [Fault(None, "the tiles are not as the checkpoint says")])


def trusting_the_checkpoint(arguments: Sequence[str], say: Callable[[str], None]) -> int:
    """Compare the home's checkpoint with the one kept outside, and never look at a row: a broken second verifier."""
    home, *_, kept = map(Path, arguments)
    return int(ProofFolder(home).checkpoint() != kept.read_text())


def _tail(home: Path, start: int, stop: int) -> list[bytes]:
    data = ProofFolder(home).tiles.read(0, start // 256, stop - start) or b""
    return [data[at : at + 32] for at in range(0, len(data), 32)]


def _quiet(done: int, of: int | None) -> None:
    """Tell nobody."""


PROMISE = Promise(
    id="A1",
    says="Any tampering is found",
    asked="10,000 single alterations of 12 kinds (payload only, index only, metadata, reorder, insert, delete, tail "
    "cut, full rewrite, rollback to backup, key swap, checkpoint edit, tile edit): 100 % detected with public key and "
    "last outside checkpoint; the report names the first bad entry",
    unit="alterations",
    full=10_000,
    sample=len(KINDS),
    slow=240,
    control=len(KINDS),
    chunk=500,
    run=run,
    judge=judge,
    seen=seen,
    open="where somebody makes heads, tiles and checkpoints anew as well, the first bad row is named by the range "
    "between two checkpoints kept elsewhere, not exactly",
)
