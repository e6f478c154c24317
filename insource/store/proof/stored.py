"""The ledger's rows as leaves in the order of their numbers, and the leaves' hashes, from an open connection.

It reads; what the hashes should be is for others to say.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path

import apsw

from insource.store.columns import Values
from insource.store.insert import COLUMNS
from insource.store.proof.leaf import TABLES, kind_of, leaf
from insource.store.proof.tiles import Leaves
from insource.store.proof.tree import leaf_hash
from insource.store.translate import translated

PAGE = 8_192
MISSING = leaf_hash(b"")
"""What stands for a row that is no longer there, or cannot be read: the hash of no bytes, which no row has."""
_SELECTS = {table: f"SELECT {COLUMNS[table]} FROM {table} WHERE seq BETWEEN ? AND ?" for table in TABLES}
_KINDS = {table: [(kind_of(table, name), type(None)) for name in COLUMNS[table].split(", ")] for table in TABLES}
_SHAPES: dict[str, set[tuple[type, ...]]] = {table: set() for table in TABLES}
"""The types of rows that were found to be those of their columns; STRICT tables hold no others, altered bytes may."""

Stored = tuple[int, str, bytes | None]
"""A row's number, its table, and its leaf; None where it holds no UTF-8, or a value that is not its column's."""


def stored_leaves(connection: apsw.Connection, path: Path, first: int, last: int) -> Iterator[Stored]:
    """Yield the rows numbered `first` to `last` in their order, in pages that hold no snapshot in between."""
    for start in range(first, last + 1, PAGE):
        stop = min(start + PAGE - 1, last)
        page: list[Stored] = []
        with translated(path, connection):
            for table in TABLES:
                page += _page(connection, table, start, stop)
        page.sort(key=itemgetter(0))
        yield from page


def leaves_of(connection: apsw.Connection, path: Path) -> Leaves:
    """Return a function from a range of leaves to their hashes; what is missing or unreadable counts as MISSING."""

    def leaves(start: int, stop: int) -> list[bytes]:
        found = [MISSING] * (stop - start)
        for seq, _, told in stored_leaves(connection, path, start + 1, stop):
            if told is not None:
                found[seq - 1 - start] = leaf_hash(told)
        return found

    return leaves


def _page(connection: apsw.Connection, table: str, start: int, stop: int) -> list[Stored]:
    """Return a table's rows; where one cannot be read, each by itself."""
    try:
        return [(row[0], table, _leaf(table, row)) for row in connection.execute(_SELECTS[table], (start, stop))]
    except UnicodeDecodeError:
        select = f"SELECT seq FROM {table} WHERE seq BETWEEN ? AND ?"
        numbers = [int(row[0] or 0) for row in connection.execute(select, (start, stop)).fetchall()]
        return [(seq, table, _alone(connection, table, seq)) for seq in numbers]


def _alone(connection: apsw.Connection, table: str, seq: int) -> bytes | None:
    try:
        row = connection.execute(_SELECTS[table], (seq, seq)).fetchone()
    except UnicodeDecodeError:
        return None
    return None if row is None else _leaf(table, row)


def _leaf(table: str, row: Values) -> bytes | None:
    shape = tuple(map(type, row))
    if shape not in _SHAPES[table]:
        if not all(each in kinds for each, kinds in zip(shape, _KINDS[table], strict=True)):
            return None
        _SHAPES[table].add(shape)
    return leaf(table, row)
