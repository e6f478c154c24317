"""The canonical bytes of a ledger's row: what the tree of proofs is made of. The form is fixed; docs/reference has it.

It knows the tables' columns. The same bytes come from values about to be inserted and from a row read back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import msgspec

from insource.store.insert import COLUMNS

VERSION = 1
TABLES = tuple(table for table in COLUMNS if table != "contents")
"""The tables whose rows are leaves."""
REALS = frozenset({"score", "threshold", "audit_rate", "seconds", "upstream_seconds", "joules"})
INTEGERS = frozenset(
    "seq time version audited answer status prompt_tokens completion_tokens agrees reference accepted accepts".split()
)
BLOBS = frozenset({"content_digest"})

_TEXT_ANSWERS = frozenset({"feedback"})
"""Tables whose `answer` is text, not a number of the closed set."""


def kind_of(table: str, name: str) -> type:
    """Return what SQLite gives for a column where it is not NULL: float, int, bytes or str."""
    if name == "answer" and table in _TEXT_ANSWERS:
        return str
    kinds = ((float, REALS), (int, INTEGERS), (bytes, BLOBS))
    return next((kind for kind, names in kinds if name in names), str)


@dataclass(frozen=True, slots=True)
class _Form:
    """How a table's values become a leaf: the order of the columns' names, and the places in it to be converted."""

    pick: Callable[[Sequence[Any]], tuple[Any, ...]]
    row: Callable[..., msgspec.Struct]
    start: bytes
    integers: tuple[int, ...]
    reals: tuple[int, ...]
    blobs: tuple[int, ...]


def _form(table: str) -> _Form:
    named = sorted((name, place) for place, name in enumerate(COLUMNS[table].split(", ")))
    row = msgspec.defstruct(table, [(name, Any, None) for name, _ in named], omit_defaults=True)
    kinds = [kind_of(table, name) for name, _ in named]
    places = [tuple(at for at, each in enumerate(kinds) if each is kind) for kind in (int, float, bytes)]
    start = b'{"kind":"%s","leaf":%d,"row":' % (table.encode(), VERSION)
    return _Form(itemgetter(*(place for _, place in named)), row, start, *places)


_FORMS = {table: _form(table) for table in TABLES}
_encode = msgspec.json.Encoder().encode


def leaf(table: str, values: Sequence[Any]) -> bytes:
    """Return the leaf of a row whose `values` follow COLUMNS[table], its number first.

    UTF-8 JSON without spaces: {"kind":TABLE,"leaf":1,"row":{...}}, the row's columns in alphabetical order. What is
    NULL is left out, so that a column added later changes no leaf; real numbers are texts (the shortest digits that
    read back as the same number, Python's repr), bytes are hexadecimal digits. Raises UnicodeEncodeError for text that
    UTF-8 cannot carry.
    """
    form = _FORMS[table]
    row = list(form.pick(values))
    for place in form.integers:
        if row[place].__class__ is bool:
            row[place] = int(row[place])
    for place in form.reals:
        if (value := row[place]) is not None:  # SQLite stores NULL for NaN, and knows no negative zero
            row[place] = repr(float(value) + 0.0) if value == value else None
    for place in form.blobs:
        if (value := row[place]) is not None:
            row[place] = value.hex()
    return form.start + _encode(form.row(*row)) + b"}"
