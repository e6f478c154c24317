"""Whether the tree may be signed: it must extend what was committed, what was signed, and what the witness has.

It judges; it writes nothing. An empty answer means that nothing speaks against signing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from insource.errors import StoreError
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
    """Yield, in one line each, what speaks against signing the tree of `size` rows.

    Raises StoreError, after all others were looked at, where a note is no checkpoint.
    """
    if (key := None if known.key is None else str(known.key)) != known.announced:
        names = "no key" if known.announced is None else f"the key {known.announced}"
        yield f"the ledger names {names}, but " + ("there is no key" if key is None else f"the key here is {key}")
    unreadable: StoreError | None = None
    for where, note in known.notes.items():
        try:
            found = Checkpoint.read(note)
        except StoreError as error:
            unreadable = error
        else:
            yield from _against(where, found, known.key, size, root_at)
    if unreadable is not None:
        raise unreadable


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
