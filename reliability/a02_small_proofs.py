"""A2: inclusion and consistency proofs from tiles: their bytes, the time to make them, and whether both checkers agree.

The leaves are made up; the tree, its tiles and the proofs are the shipped ones.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

from insource.governance.verifier import verify_ledger as second
from insource.store.proof.tiles import Hashes, TileFolder, TileWriter
from insource.store.proof.tree import (
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    proves_consistency,
    proves_inclusion,
)
from reliability.harness import Promise, Tally

ENTRIES, FEW_ENTRIES = 1_000_000, 70_000
CHUNK = 1_000
INCLUSION_BYTES, CONSISTENCY_BYTES = 700, 1_434
MAKE_MS, CHECK_MS = 50.0, 5.0


def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Prove a random leaf and a random earlier size for each case; `broken` hashes a node of the tiles wrongly.

    A chunk of a full run has a million entries, a sample fewer.
    """
    tally, size = Tally(), ENTRIES if len(cases) >= CHUNK else FEW_ENTRIES
    leaves = [leaf_hash(b"entry %d" % number) for number in range(size)]
    tiles = TileFolder(folder / "tile")
    writer = TileWriter(tiles, 0, Hashes(None, lambda start, stop: leaves[start:stop], 0))
    writer.push(list(leaves))
    writer.partial()
    root = Frontier().extended(leaves).root()
    for case in cases:
        chance = random.Random(case)
        _try(tally, case, size, chance.randrange(size), 1 + chance.randrange(size), leaves, tiles, root, broken)
    return tally


def judge(tally: Tally) -> list[str]:
    """Small, quick at the median, and taken by both checkers."""
    found = []
    limits = (("inclusion bytes", INCLUSION_BYTES), ("consistency bytes", CONSISTENCY_BYTES))
    for what, limit in limits:
        if tally.quantile(what, 1.0) > limit:
            found.append(f"{what}: {tally.quantile(what, 1.0):,.0f}, at most {limit:,} were asked")
    for what, most in (("make ms", MAKE_MS), ("check ms", CHECK_MS)):
        if tally.quantile(what, 0.5) > most:
            found.append(f"{what}: {tally.quantile(what, 0.5):.1f} at the median, at most {most:g} were asked")
    if tally.counts["refused"] or not tally.counts["proofs"]:
        found.append(f"{tally.counts['refused']:,} of {tally.counts['proofs']:,} proofs were not taken")
    return found


def seen(tally: Tally) -> str:
    """One line."""
    at = tally.quantile
    return (
        f"{tally.counts['proofs']:,} proofs, {tally.counts['refused']} not taken by one of both checkers; inclusion at "
        f"most {at('inclusion bytes', 1):,.0f} bytes, consistency {at('consistency bytes', 1):,.0f}; made in "
        f"{at('make ms', 0.5):.1f} ms (p99 {at('make ms', 0.99):.1f}), checked in {at('check ms', 0.5):.2f} ms"
    )


def _try(tally: Tally, case: int, size: int, index: int, first: int, leaves: list[bytes], tiles: TileFolder,
         root: bytes, broken: bool) -> None:  # fmt: skip
    hashes = Hashes(tiles, lambda start, stop: leaves[start:stop], size, size)  # nothing kept from the case before
    started = time.perf_counter()
    path = inclusion_proof(index, size, hashes.subtree)
    made = time.perf_counter()
    between = consistency_proof(first, size, hashes.subtree)
    tally.measure("make ms", 1_000 * (time.perf_counter() - made))
    if broken:
        path = [node_hash(path[0], path[0]), *path[1:]]
    old = Frontier.at(first, hashes.subtree).root()
    tally.measure("make ms", 1_000 * (made - started))
    tally.measure("inclusion bytes", 32 * len(path))
    tally.measure("consistency bytes", 32 * len(between))
    started = time.perf_counter()
    taken = proves_inclusion(leaves[index], index, size, path, root)
    tally.measure("check ms", 1_000 * (time.perf_counter() - started))
    taken = taken and proves_consistency(first, size, between, old, root)
    tally.count("proofs", 2)
    if not (taken and _second(leaves[index], index, first, size, path, between, old, root)):
        tally.fail(case, f"leaf {index} or size {first} of {size}", "refused")


def _second(leaf: bytes, index: int, first: int, size: int, path: list[bytes], between: list[bytes], old: bytes,
            root: bytes) -> bool:  # fmt: skip
    try:
        second.check_consistency(first, old, size, root, between)
        return second.root_by_path(leaf, index, size, path) == root
    except second.Wrong:
        return False


PROMISE = Promise(
    id="A2",
    says="Proofs are small and portable",
    asked="at 1 million entries: inclusion at most 700 bytes of hashes, consistency at most 1.4 KB; make at most 50 "
    "ms, check at most 5 ms (medians judged); 10,000 random pairs verified by a second implementation; published "
    "vectors pass",
    unit="pairs (a leaf and an earlier size)",
    full=10_000,
    sample=60,
    slow=600,
    control=10,
    chunk=CHUNK,
    run=run,
    judge=judge,
    seen=seen,
    open="published vectors are tests/store/proof/test_tree.py",
    timed=True,
)
"""Samples have 70,000 entries, full runs a million."""
