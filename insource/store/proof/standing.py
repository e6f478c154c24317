"""Whether the tree may be signed: it must extend what was committed, what was signed, and what the witness has.

It judges; it writes nothing. An empty answer means that nothing speaks against signing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from insource.store.proof.note import Checkpoint, PublicKey

RootAt = Callable[[int], bytes]
"""From a size to the root of the tree over so many rows, as they are now."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the tree must extend: notes by where they lie, and the key that the ledger's acts name, if any."""

    notes: dict[str, str]
    key: PublicKey | None
    announced: str | None


def objections(known: Known, size: int, root_at: RootAt) -> Iterator[str]:
    """Yield, in one line each, what speaks against signing the tree of `size` rows."""
    if known.announced is not None and (known.key is None or str(known.key) != known.announced):
        has = "there is no key" if known.key is None else f"the key here is {known.key}"
        yield f"the ledger names the key {known.announced}, but {has}"
    for where, note in known.notes.items():
        yield from _against(where, Checkpoint.read(note), known.key, size, root_at)


def _against(where: str, found: Checkpoint, key: PublicKey | None, size: int, root_at: RootAt) -> Iterator[str]:
    if key is not None and found.origin != key.name:
        yield f"{where} belongs to another log ({found.origin})"
    elif found.size > size:
        yield (
            f"{where} covers {found.size:,} rows, but the ledger has {size:,}: rows are missing at its end, "
            "as after the restore of an older backup"
        )
    elif root_at(found.size) != found.root:
        yield f"{where} (of {found.size:,} rows) does not match the first {found.size:,} rows as they are now"
