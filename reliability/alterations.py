"""Twelve ways in which somebody with every right on the machine may alter a ledger, each leaving it readable.

It goes around the store: triggers are taken off and put back. It knows where the bad entry is; it verifies nothing.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import apsw

from insource.store.frames import TABLES
from insource.store.proof.folder import ProofFolder
from insource.store.proof.note import Checkpoint, PrivateKey
from insource.store.proof.stored import leaves_of
from insource.store.proof.tiles import Hashes, TileWriter
from insource.store.proof.tree import Frontier
from reliability.mutants import flip_bit

ROWS = tuple(table for table in TABLES if table != "contents")


@dataclass(frozen=True)
class Altered:
    """What was done: the first row that is bad (None: no row is), and words that must be named then."""

    row: int | None
    words: tuple[str, ...] = ()


@contextmanager
def opened(home: Path) -> Iterator[apsw.Connection]:
    """Open the ledger without its triggers; the schema is as before afterwards, and all in one file."""
    connection = apsw.Connection(str(home / "ledger.db"))
    triggers = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
    for name, _ in triggers:
        connection.execute(f"DROP TRIGGER {name}")
    try:
        yield connection
    finally:
        for _, sql in triggers:
            connection.execute(sql)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.close()


def rows_of(connection: apsw.Connection, table: str) -> list[int]:
    """The numbers of a table's rows."""
    return [row[0] for row in connection.execute(f"SELECT seq FROM {table} ORDER BY seq")]


def payload(home: Path, backup: Path, chance: random.Random) -> Altered:
    """Change a kept text."""
    with opened(home) as connection:
        seq = chance.choice([row[0] for row in connection.execute("SELECT seq FROM contents WHERE text IS NOT NULL")])
        connection.execute("UPDATE contents SET text = CAST(text || '!' AS BLOB) WHERE seq = ?", (seq,))
    return Altered(seq)


def index(home: Path, backup: Path, chance: random.Random) -> Altered:
    """Change an entry of an index, and leave the table's row as it was."""
    with opened(home) as connection:
        seq = chance.choice(rows_of(connection, "decisions"))
        connection.execute("UPDATE decisions SET task = 'other' WHERE seq = ?", (seq,))
        connection.execute("PRAGMA writable_schema = ON")
        row = connection.execute("SELECT * FROM sqlite_schema WHERE name = 'decisions_by_task'").fetchone()
        connection.execute("DELETE FROM sqlite_schema WHERE name = 'decisions_by_task'")
        connection.execute("PRAGMA writable_schema = RESET")
    with opened(home) as connection:
        connection.execute("UPDATE decisions SET task = 'triage' WHERE seq = ?", (seq,))
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", row)
        connection.execute("PRAGMA writable_schema = RESET")
    return Altered(None, ("decisions_by_task",))


def metadata(home: Path, backup: Path, chance: random.Random) -> Altered:
    """Change one column of one row."""
    change = chance.choice((
        ("decisions", "outcome = 'kept'"), ("decisions", "score = score + 1e-9"), ("decisions", "time = time - 1"),
        ("decisions", "version = NULL"), ("decisions", "detail = 'mended'"),
        ("decisions", "content_digest = zeroblob(32)"),
        ("settlements", "status = 201"), ("settlements", "cost = '0.1'"), ("acts", "who = 'nobody'"),
    ))  # fmt: skip
    with opened(home) as connection:
        seq = chance.choice(rows_of(connection, change[0])[1:] or rows_of(connection, change[0]))
        connection.execute(f"UPDATE {change[0]} SET {change[1]} WHERE seq = ?", (seq,))
    return Altered(seq)


def reorder(home: Path, backup: Path, chance: random.Random) -> Altered:
    """Let two rows change places."""
    with opened(home) as connection:
        one, other = sorted(chance.sample(rows_of(connection, "settlements"), 2))
        for old, new in ((one, -1), (other, one), (-1, other)):
            connection.execute("UPDATE settlements SET seq = ? WHERE seq = ?", (new, old))
    return Altered(one)


def insert(home: Path, backup: Path, chance: random.Random) -> Altered:
    """Add an act in between: all rows after it move on, or it bears a number that is taken."""
    with opened(home) as connection:
        seq = chance.choice(rows_of(connection, "decisions"))
        if chance.random() < 0.5:
            _shift(connection, seq, 1)
        connection.execute(
            "INSERT INTO acts (seq, time, who, what, subject) VALUES (?, 0, 'ada', 'approve', 'x')", (seq,)
        )
    return Altered(seq)


def delete(home: Path, backup: Path, chance: random.Random) -> Altered:
    """Take a row away; the ones after it stay, or close up."""
    with opened(home) as connection:
        seq = chance.choice(rows_of(connection, "settlements"))
        for table in ("settlements", "contents"):
            connection.execute(f"DELETE FROM {table} WHERE seq = ?", (seq,))
        if chance.random() < 0.5:
            _shift(connection, seq + 1, -1)
    return Altered(seq)


def cut_tail(home: Path, backup: Path, chance: random.Random) -> Altered:
    """Cut off the last rows, with their heads, all tiles and all checkpoints in the home."""
    with opened(home) as connection:
        last = max(max(rows_of(connection, table), default=0) for table in ROWS)
        heads = [row[0] for row in connection.execute("SELECT size FROM heads WHERE size < ?", (last,))]
        keep = chance.choice(heads)
        for table in TABLES:
            connection.execute(f"DELETE FROM {table} WHERE seq > ?", (keep,))
        connection.execute("DELETE FROM heads WHERE size > ?", (keep,))
    for name in ("tile", "checkpoints"):
        shutil.rmtree(home / "proof" / name, ignore_errors=True)
    (home / "proof" / "checkpoint").unlink()
    return Altered(keep + 1)


def rewrite(home: Path, backup: Path, chance: random.Random) -> Altered:
    """Change a row and make heads, tiles and checkpoint anew, signed with the ledger's own key."""
    altered = metadata(home, backup, chance)
    _make_anew(home, _key(home))
    return Altered(altered.row)


def rollback(home: Path, backup: Path, chance: random.Random) -> Altered:
    """Put back an older backup of the whole home."""
    shutil.rmtree(home)
    shutil.copytree(backup, home)
    connection = apsw.Connection(str(home / "ledger.db"))
    last = max(max(rows_of(connection, table), default=0) for table in ROWS)
    connection.close()
    return Altered(last + 1)


def swap_key(home: Path, backup: Path, chance: random.Random) -> Altered:
    """Put another key in place of the ledger's, and sign everything with it."""
    key = PrivateKey(_key(home).name, chance.randbytes(32))
    (home / "proof" / "key").write_text(key.text())
    _make_anew(home, key)
    return Altered(None, ("key",))


def edit_checkpoint(home: Path, backup: Path, chance: random.Random) -> Altered:
    """Change one character of the last checkpoint, or of one that was kept."""
    path = chance.choice([home / "proof" / "checkpoint", *sorted((home / "proof" / "checkpoints").iterdir())])
    text = path.read_text()
    at = chance.randrange(len(text) - 2)
    path.write_text(text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :])
    return Altered(None, ("checkpoint",))


def edit_tile(home: Path, backup: Path, chance: random.Random) -> Altered:
    """Turn a bit in a tile."""
    path = chance.choice(sorted(path for path in (home / "proof" / "tile").rglob("*") if path.is_file()))
    data = bytearray(path.read_bytes())
    flip_bit(data, chance)
    path.write_bytes(data)
    return Altered(None, (str(path.relative_to(home / "proof" / "tile")),))


KINDS: tuple[Callable[[Path, Path, random.Random], Altered], ...] = (
    payload, index, metadata, reorder, insert, delete, cut_tail, rewrite, rollback, swap_key, edit_checkpoint,
    edit_tile,
)  # fmt: skip


def _shift(connection: apsw.Connection, first: int, by: int) -> None:
    for table in TABLES:
        order = "DESC" if by > 0 else "ASC"
        for (seq,) in connection.execute(
            f"SELECT seq FROM {table} WHERE seq >= ? ORDER BY seq {order}", (first,)
        ).fetchall():
            connection.execute(f"UPDATE {table} SET seq = ? WHERE seq = ?", (seq + by, seq))


def _key(home: Path) -> PrivateKey:
    key = ProofFolder(home).key()
    assert key is not None
    return key


def _make_anew(home: Path, key: PrivateKey) -> None:
    """Make heads, tiles and checkpoint from the rows as they are."""
    folder = ProofFolder(home)
    for name in ("tile", "checkpoints"):
        shutil.rmtree(home / "proof" / name, ignore_errors=True)
    with opened(home) as connection:
        sizes = [row[0] for row in connection.execute("SELECT size FROM heads ORDER BY size")]
        hashes = leaves_of(connection, home / "ledger.db")(0, sizes[-1])
        for size in sizes:
            root = Frontier().extended(hashes[:size]).root()
            connection.execute("UPDATE heads SET root = ? WHERE size = ?", (root, size))
    writer = TileWriter(folder.tiles, 0, Hashes(None, lambda start, stop: hashes[start:stop], 0))
    writer.push(list(hashes))
    writer.partial()
    folder.keep(key.sign(Checkpoint(key.name, sizes[-1], root).body()), for_good=True)
