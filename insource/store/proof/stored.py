"""The ledger's rows in the order of their numbers, and the hashes of their leaves, from an open connection.

It reads; what the hashes should be is for others to say.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path

import apsw

from insource.store.columns import Values
from insource.store.insert import COLUMNS
from insource.store.proof.leaf import TABLES, leaf
from insource.store.proof.tiles import Leaves
from insource.store.proof.tree import leaf_hash
from insource.store.translate import translated

PAGE = 8_192
MISSING = leaf_hash(b"")
"""What stands for a row that is no longer there: the hash of no bytes, which no row has."""
_SELECTS = [(table, f"SELECT {COLUMNS[table]} FROM {table} WHERE seq BETWEEN ? AND ?") for table in TABLES]

Stored = tuple[int, str, Values]
"""A row's number, its table, and its values in the order of COLUMNS, the number first."""


def stored_rows(connection: apsw.Connection, path: Path, first: int, last: int) -> Iterator[Stored]:
    """Yield the rows numbered `first` to `last` in their order, in pages that hold no snapshot in between."""
    for start in range(first, last + 1, PAGE):
        stop = min(start + PAGE - 1, last)
        page: list[Stored] = []
        with translated(path, connection):
            for table, select in _SELECTS:
                page += [(row[0], table, row) for row in connection.execute(select, (start, stop))]
        page.sort(key=itemgetter(0))
        yield from page


def leaves_of(connection: apsw.Connection, path: Path) -> Leaves:
    """Return a function from a range of leaves to their hashes; a row that is missing counts as MISSING."""

    def leaves(start: int, stop: int) -> list[bytes]:
        found = [MISSING] * (stop - start)
        for seq, table, values in stored_rows(connection, path, start + 1, stop):
            found[seq - 1 - start] = leaf_hash(leaf(table, values))
        return found

    return leaves
