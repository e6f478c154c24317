"""The canonical bytes of a ledger's row: what the tree of proofs is made of. The form is fixed; docs/reference has it.

It knows the tables' columns. The same bytes come from values about to be inserted and from a row read back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


def _kind(table: str, name: str) -> str:
    if name == "answer" and table in _TEXT_ANSWERS:
        return "text"
    kinds = (("real", REALS), ("integer", INTEGERS), ("blob", BLOBS))
    return next((kind for kind, names in kinds if name in names), "text")


def _real(value: float) -> str:
    return repr(float(value) + 0.0)  # SQLite knows no negative zero


_FORMS: dict[str, Callable[[Any], object]] = {"real": _real, "integer": int, "blob": bytes.hex, "text": str}


def _order(table: str) -> tuple[Callable[[Sequence[Any]], tuple[Any, ...]], list[tuple[str, Callable[[Any], object]]]]:
    """Return what picks a row's values in the order of its columns' names, and these names with their forms."""
    named = sorted((name, place) for place, name in enumerate(COLUMNS[table].split(", ")))
    return itemgetter(*(place for _, place in named)), [(name, _FORMS[_kind(table, name)]) for name, _ in named]


_ORDERS = {table: _order(table) for table in TABLES}
_encode = msgspec.json.Encoder().encode


def leaf(table: str, values: Sequence[Any]) -> bytes:
    """Return the leaf of a row whose `values` follow COLUMNS[table], its number first.

    UTF-8 JSON without spaces: {"kind":TABLE,"leaf":1,"row":{...}}, the row's columns in alphabetical order. What is
    NULL is left out, so that a column added later changes no leaf; real numbers are texts (the shortest digits that
    read back as the same number, Python's repr), bytes are hexadecimal digits. Raises UnicodeEncodeError for text that
    UTF-8 cannot carry.
    """
    pick, columns = _ORDERS[table]
    row = {
        name: form(value)
        for (name, form), value in zip(columns, pick(values), strict=True)
        if value is not None and value == value  # SQLite stores NULL for NaN
    }
    return _encode({"kind": table, "leaf": VERSION, "row": row})
