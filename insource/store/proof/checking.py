"""Checks of the ledger's file beside the tree: pages, indexes, schema, and texts against the digests in their rows.

It reads one open connection and yields what is wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import apsw

from insource.errors import ArtifactDamaged
from insource.store import migrations
from insource.store.content_keys import ContentKeys
from insource.store.contents import opened_row, parts_digest

WITH_TEXTS = ("decisions", "settlements", "audits")
BYTES = ", ".join(
    f"CAST({column} AS BLOB)"
    for column in ("t.content_digest", "c.subject", "c.day", "c.salt", "c.text", "c.answer", "c.reference")
)
"""A row's digest and what it is of, as bytes: of altered ones SQLite may say that they are text."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong: from which row on it may be (None: it is no row), and what.

    `outside`: something that was kept elsewhere says so, which no reconciling settles.
    """

    row: int | None
    what: str
    outside: bool = False


def file_faults(connection: apsw.Connection) -> Iterator[Fault]:
    """Yield what SQLite finds wrong with pages and indexes, and what of the schema is not as insource makes it."""
    for (found,) in connection.execute("PRAGMA integrity_check(5)"):
        if found != "ok":
            yield Fault(None, f"the file: {found}")
    fresh = apsw.Connection(":memory:")
    try:
        for step in migrations.LEDGER:
            step(fresh)
        wanted, there = _schema(fresh), _schema(connection)
    finally:
        fresh.close()
    for name in sorted(wanted.keys() | there.keys()):
        if wanted.get(name) != there.get(name):
            how = "is missing" if name not in there else "was added" if name not in wanted else "was changed"
            yield Fault(None, f"the schema: {name} {how}")


def text_faults(connection: apsw.Connection, keys: ContentKeys | None, counts: Counter[str]) -> Iterator[Fault]:
    """Yield the texts that do not match their row's digest; count them as sound, erased, or kept as digests."""
    for table in WITH_TEXTS:
        select = f"""
        SELECT t.seq, {BYTES} FROM {table} t LEFT JOIN contents c ON c.seq = t.seq
        WHERE t.content_digest IS NOT NULL
        """
        for seq, digest, subject, day, *sealed in connection.execute(select):
            try:
                salt, *parts = opened_row(keys, seq, sealed, subject, day)
            except ArtifactDamaged:
                yield Fault(seq, f"the text of row {seq:,} ({table}) was altered: its seal does not open")
                continue
            if salt is None:
                counts["erased"] += 1
            elif parts == [None, None, None]:
                counts["kept as digests"] += 1
            elif parts_digest(salt, parts) == digest:
                counts["sound"] += 1
            else:
                yield Fault(seq, f"the text of row {seq:,} ({table}) does not match the digest in the row")
    with_digest = " UNION ALL ".join(
        f"SELECT seq FROM {table} WHERE content_digest IS NOT NULL" for table in WITH_TEXTS
    )
    for (seq,) in connection.execute(f"SELECT seq FROM contents WHERE seq NOT IN ({with_digest})"):
        yield Fault(seq, f"a text lies beside row {seq:,}, which has no digest of one")


def named(connection: apsw.Connection, row: int) -> str:
    """Return how a person finds a row: its table, and the request that it is about."""
    for table, column in (("decisions", "request_id"), ("settlements", "request_id"), ("audits", "request_id"),
                          ("feedback", "request_id"), ("acts", "what")):  # fmt: skip
        found = connection.execute(f"SELECT CAST({column} AS BLOB) FROM {table} WHERE seq = ?", (row,)).get
        if found is not None:
            return f"row {row:,} ({table}, {_text(found)})"
    return f"row {row:,}"


def _schema(connection: apsw.Connection) -> dict[str, str]:
    select = "SELECT CAST(type || ' ' || name AS BLOB), CAST(sql AS BLOB) FROM sqlite_schema WHERE sql IS NOT NULL"
    rows = ((_text(name), _text(sql)) for name, sql in connection.execute(select))
    return {name: " ".join(sql.split()) for name, sql in rows if not name.startswith("table sqlite_")}


def _text(data: object) -> str:
    return bytes(data).decode("utf-8", "replace") if isinstance(data, bytes) else str(data)
