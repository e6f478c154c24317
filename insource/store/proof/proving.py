"""What is handed to a stranger: the rows of a request with their proofs, or a span of rows as one file.

It reads the home and checks what it made before handing it over. The forms stand in docs/reference/proof.md.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from insource.errors import StoreError, UserError
from insource.store import migrations
from insource.store.columns import micros
from insource.store.database import open_database
from insource.store.ledger import FILE
from insource.store.proof.folder import ProofFolder
from insource.store.proof.keeper import KEYS
from insource.store.proof.leaf import TABLES, leaf
from insource.store.proof.note import Checkpoint
from insource.store.proof.stored import PAGE, leaves_of, stored_rows
from insource.store.proof.tiles import Hashes
from insource.store.proof.tree import (
    around,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    proves_consistency,
    proves_inclusion,
)
from insource.store.translate import translated

PROOF, EXPORT = "insource.proof/1", "insource.export/1"
REQUEST = " UNION ALL ".join(
    f"SELECT seq FROM {table} WHERE {'subject' if table == 'acts' else 'request_id'} = ?1" for table in TABLES
)
CONTENTS = "SELECT seq, salt, text, answer, reference FROM contents WHERE seq BETWEEN ? AND ? ORDER BY seq"

Report = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class Span:
    """Rows by number, first and last included."""

    first: int
    last: int


class Prover:
    """Makes proofs against the checkpoint that was signed last; use as a context manager.

    Raises StoreError where there is no ledger, or nothing was signed yet.
    """

    def __init__(self, home: Path) -> None:
        self.path = home / FILE
        self._folder = ProofFolder(home)
        self._opened = ExitStack()
        self._connection = open_database(self.path, migrations=migrations.LEDGER, read_only=True)
        self._opened.callback(self._connection.close)
        try:
            note = self._folder.checkpoint()
            if note is None:
                raise StoreError(f"Nothing in {home} was signed yet. A second of `insource serve` signs what is there.")
            self.note, self.checkpoint = note, Checkpoint.read(note)
            size = self.checkpoint.size
            self._hashes = Hashes(self._folder.tiles, leaves_of(self._connection, self.path), size, size)
        except BaseException:
            self._opened.close()
            raise

    def prove(self, request_id: str) -> dict[str, Any]:
        """Return all rows of a request with their inclusion proofs, as JSON.

        Raises UserError for a request that no row is about, or whose rows are too new to be signed.
        """
        with translated(self.path, self._connection):
            numbers = sorted(row[0] for row in self._connection.execute(REQUEST, (request_id,)))
        if not numbers:
            raise UserError(f"No row of the ledger is about {request_id!r}; the id in the x-insource-request-id header "
                            "of a reply was expected.")  # fmt: skip
        if numbers[-1] > self.checkpoint.size:
            raise UserError(
                f"Row {numbers[-1]:,} of {request_id} is newer than the last checkpoint ({self.checkpoint.size:,} "
                "rows). A running gateway signs one each second: ask again in a moment."
            )
        rows = [self._row(number) for number in numbers]
        return {"format": PROOF, "request": request_id, "key": self.key(), "checkpoint": self.note, "rows": rows}

    def key(self) -> str | None:
        """Return the public key that the ledger names last."""
        with translated(self.path, self._connection):
            return next(reversed([str(row[0]) for row in self._connection.execute(KEYS)]), None)

    def span(self, since: datetime | None, until: datetime | None) -> Span:
        """Return the rows from the first at `since` or later to the last before `until`; UserError where there is none.

        What was written between them belongs to the span, whatever its own time.
        """
        low = -(2**63) if since is None else micros(since)
        high = 2**63 - 1 if until is None else micros(until)
        found = " UNION ALL ".join(f"SELECT seq FROM {table} WHERE time >= ?1 AND time < ?2" for table in TABLES)
        with translated(self.path, self._connection):
            first, last = next(self._connection.execute(f"SELECT min(seq), max(seq) FROM ({found})", (low, high)))
        last = min(last or 0, self.checkpoint.size)
        if first is None or first > last:
            raise UserError("No signed row of the ledger lies in that span of time. Choose another one.")
        return Span(first, last)

    def export(self, span: Span, *, contents: bool, report: Report) -> Iterator[bytes]:
        """Yield an export's lines: a head, the leaves as they are, and the texts where `contents` asks for them."""
        size = self.checkpoint.size
        sides = around(span.first - 1, span.last, size, self._hashes.subtree)
        head = {
            "format": EXPORT,
            "first": span.first,
            "last": span.last,
            "key": self.key(),
            "checkpoint": self.note,
            "around": _texts(sides),
            "earlier": list(self._earlier(span)),
            "contents": contents,
        }
        yield json.dumps(head).encode() + b"\n"
        for number, (_, table, values) in enumerate(self._rows(span), 1):
            yield leaf(table, values) + b"\n"
            if number % PAGE == 0:
                report(number, span.last - span.first + 1)
        if contents:
            yield from self._contents(span)

    def close(self) -> None:
        """Close the file."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _row(self, number: int) -> dict[str, Any]:
        ((_, table, values),) = stored_rows(self._connection, self.path, number, number)
        bytes_, size = leaf(table, values), self.checkpoint.size
        path = inclusion_proof(number - 1, size, self._hashes.subtree)
        if not proves_inclusion(leaf_hash(bytes_), number - 1, size, path, self.checkpoint.root):
            raise StoreError(f"Row {number:,} cannot be proved: rows, tiles and checkpoint do not agree. "
                             "`insource audit verify` says where.")  # fmt: skip
        return {"index": number - 1, "leaf": bytes_.decode(), "path": _texts(path)}

    def _rows(self, span: Span) -> Iterator[tuple[int, str, Any]]:
        expected = span.first
        for row in stored_rows(self._connection, self.path, span.first, span.last):
            if row[0] != expected:
                raise StoreError(f"Row {expected:,} is missing, so the span is not whole. Run `insource audit verify`.")
            expected += 1
            yield row

    def _earlier(self, span: Span) -> Iterator[dict[str, Any]]:
        """Yield the kept checkpoints within the span, with what shows that the last one extends them."""
        for note in self._folder.kept():
            found, size = Checkpoint.read(note), self.checkpoint.size
            if found.origin != self.checkpoint.origin or not span.first <= found.size <= min(span.last, size):
                continue
            path = consistency_proof(found.size, size, self._hashes.subtree)
            if not proves_consistency(found.size, size, path, found.root, self.checkpoint.root):
                raise StoreError(f"The last checkpoint does not extend the one of {found.size:,} rows. "
                                 "Run `insource audit verify`.")  # fmt: skip
            yield {"checkpoint": note, "path": _texts(path)}

    def _contents(self, span: Span) -> Iterator[bytes]:
        with translated(self.path, self._connection):
            for seq, salt, *parts in self._connection.execute(CONTENTS, (span.first, span.last)):
                texts = [None if part is None else part.decode("utf-8", "surrogatepass") for part in parts]
                if any(text is not None for text in texts):
                    line = {"row": seq, "salt": salt.hex(), "parts": texts}
                    yield json.dumps(line).encode() + b"\n"


def _texts(hashes: list[bytes]) -> list[str]:
    return [b64encode(each).decode() for each in hashes]
