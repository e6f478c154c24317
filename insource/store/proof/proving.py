"""What is handed to a stranger: the rows of a request with their proofs, or a span of rows as one file.

It reads the home and checks what it made before handing it over. The forms stand in docs/reference/proofs.md.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from insource.errors import ArtifactDamaged, StoreError, UserError
from insource.store import migrations
from insource.store.columns import micros
from insource.store.content_keys import keys_to_read
from insource.store.contents import opened_row, parts_digest
from insource.store.database import open_database
from insource.store.ledger import FILE
from insource.store.proof.checking import WITH_TEXTS
from insource.store.proof.folder import ProofFolder
from insource.store.proof.leaf import TABLES
from insource.store.proof.note import Checkpoint, PublicKey
from insource.store.proof.stored import PAGE, leaves_of, stored_leaves
from insource.store.proof.succession import named_keys
from insource.store.proof.tiles import Hashes
from insource.store.proof.tree import (
    around,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    proves_consistency,
    proves_inclusion,
    root_around,
)
from insource.store.translate import translated

PROOF, EXPORT = "insource.proof/1", "insource.export/1"
REQUEST = " UNION ALL ".join(
    f"SELECT seq FROM {table} WHERE {'subject' if table == 'acts' else 'request_id'} = ?1" for table in TABLES
)
DIGEST = ", ".join(f"(SELECT content_digest FROM {table} WHERE seq = c.seq)" for table in WITH_TEXTS)
CONTENTS = f"""
SELECT seq, coalesce({DIGEST}), subject, day, salt, text, answer, reference
FROM contents c WHERE seq BETWEEN ? AND ? ORDER BY seq
"""

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
        return {
            "format": PROOF,
            "request": request_id,
            "key": str(self._signer()),
            "checkpoint": self.note,
            "rows": rows,
        }

    def key(self) -> str | None:
        """Return the public key that the ledger names last."""
        return next(reversed(self._named()), None)

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
        """Yield an export's lines: a head, the leaves as they are, and the texts where `contents` asks for them.

        Raises StoreError, at the latest with the last line, where rows or texts are not those that were signed.
        """
        size, hashes = self.checkpoint.size, list[bytes]()
        sides = around(span.first - 1, span.last, size, self._hashes.subtree)
        head = {
            "format": EXPORT,
            "first": span.first,
            "last": span.last,
            "key": str(self._signer()),
            "checkpoint": self.note,
            "around": _texts(sides),
            "earlier": list(self._earlier(span)),
            "contents": contents,
        }
        yield json.dumps(head).encode() + b"\n"
        for line in self._leaves(span):
            hashes.append(leaf_hash(line))
            yield line + b"\n"
            if len(hashes) % PAGE == 0:
                report(len(hashes), span.last - span.first + 1)
        if root_around(span.first - 1, hashes, size, sides) != self.checkpoint.root:
            raise StoreError(f"Rows {span.first:,} to {span.last:,} cannot be proved: rows, tiles and checkpoint do "
                             "not agree. `insource audit verify` says where.")  # fmt: skip
        if contents:
            yield from self._contents(span)

    def close(self) -> None:
        """Close the file."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _named(self) -> list[str]:
        with translated(self.path, self._connection):
            return [key for _, key in named_keys(self._connection)]

    def _signer(self) -> PublicKey:
        """Return the latest key of the ledger that signed the checkpoint."""
        for text in dict.fromkeys(reversed(self._named())):
            with suppress(StoreError):
                if (key := PublicKey.read(text)).signed(self.note):
                    return key
        raise StoreError("The last checkpoint is not signed by a key that the ledger names, so nothing can be proved "
                         "by it. `insource audit verify` says more.")  # fmt: skip

    def _row(self, number: int) -> dict[str, Any]:
        (line,), size = self._leaves(Span(number, number)), self.checkpoint.size
        path = inclusion_proof(number - 1, size, self._hashes.subtree)
        if not proves_inclusion(leaf_hash(line), number - 1, size, path, self.checkpoint.root):
            raise StoreError(f"Row {number:,} cannot be proved: rows, tiles and checkpoint do not agree. "
                             "`insource audit verify` says where.")  # fmt: skip
        return {"index": number - 1, "leaf": line.decode(), "path": _texts(path)}

    def _leaves(self, span: Span) -> Iterator[bytes]:
        expected = span.first
        for number, _, line in stored_leaves(self._connection, self.path, span.first, span.last):
            if number != expected or line is None:
                raise StoreError(f"Row {expected:,} is missing or cannot be read, so the span is not whole. "
                                 "Run `insource audit verify`.")  # fmt: skip
            expected += 1
            yield line
        if expected <= span.last:
            raise StoreError(f"Row {expected:,} is missing, so the span is not whole. Run `insource audit verify`.")

    def _earlier(self, span: Span) -> Iterator[dict[str, Any]]:
        """Yield the kept checkpoints within the span, with what shows that the last one extends them.

        Only those of the key that signed the last one: a stranger knows no other, and kept ones need no handing over.
        """
        signer, size = self._signer(), self.checkpoint.size
        for note in self._folder.kept():
            if not signer.signed(note):
                continue
            found = Checkpoint.read(note)
            if not span.first <= found.size <= min(span.last, size):
                continue
            path = consistency_proof(found.size, size, self._hashes.subtree)
            if not proves_consistency(found.size, size, path, found.root, self.checkpoint.root):
                raise StoreError(f"The last checkpoint does not extend the one of {found.size:,} rows. "
                                 "Run `insource audit verify`.")  # fmt: skip
            yield {"checkpoint": note, "path": _texts(path)}

    def _contents(self, span: Span) -> Iterator[bytes]:
        with keys_to_read(self.path.parent) as keys, translated(self.path, self._connection):
            for seq, digest, subject, day, *sealed in self._connection.execute(CONTENTS, (span.first, span.last)):
                try:
                    salt, *parts = opened_row(keys, seq, sealed, subject, day)
                except ArtifactDamaged:
                    salt, parts = b"", [b""]
                if salt is None or not any(part is not None for part in parts):
                    continue
                if parts_digest(salt, parts) != digest:
                    raise StoreError(f"The text of row {seq:,} is not the one that was recorded. "
                                     "`insource audit verify` says more.")  # fmt: skip
                texts = [None if part is None else part.decode("utf-8", "surrogatepass") for part in parts]
                yield json.dumps({"row": seq, "salt": salt.hex(), "parts": texts}).encode() + b"\n"


def _texts(hashes: list[bytes]) -> list[str]:
    return [b64encode(each).decode() for each in hashes]
