"""Checks a ledger from its stored bytes: rows to leaves to roots, against heads, tiles, checkpoints and the witness.

It trusts nothing that it can compute: what was signed outranks heads, and heads outrank tiles. It writes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import apsw

from insource.errors import StoreError
from insource.store import migrations
from insource.store.content_keys import keys_to_read
from insource.store.database import open_database
from insource.store.ledger import FILE, LAST_SEQ
from insource.store.proof.checking import Fault, file_faults, named, text_faults
from insource.store.proof.folder import ProofFolder
from insource.store.proof.note import Checkpoint, PublicKey
from insource.store.proof.regrown import Regrown
from insource.store.proof.stored import MISSING, stored_leaves
from insource.store.proof.succession import RECONCILE_ACT, Signed, accepted, in_force, named_keys, reconciled
from insource.store.proof.tree import leaf_hash
from insource.store.translate import translated

MOST_TOLD = 20
REPORT_EVERY = 4_096
LAST_CHECKPOINT = "the last checkpoint"
SIZES = f"SELECT ({LAST_SEQ}), (SELECT coalesce(max(size), 0) FROM heads)"  # one statement: one moment
RECONCILED = f"SELECT seq FROM acts WHERE what = '{RECONCILE_ACT}'"
HEADS = "SELECT size, CAST(root AS BLOB) FROM heads WHERE size > ? ORDER BY size LIMIT 4096"

Report = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class Outside:
    """What was kept elsewhere: a public key, and notes by where they come from."""

    key: PublicKey | None = None
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Verdict:
    """What verification found. `faults`: the first bad row first, faults of no row last; `more` were left out.

    `known` are breaks from before a person reconciled. `texts` counts those that are sound, erased, kept as digests.
    `signed` is the largest size that matches a checkpoint signed by a key of this ledger.
    """

    rows: int = 0
    root: bytes = b""
    faults: list[Fault] = field(default_factory=list)
    more: int = 0
    known: list[str] = field(default_factory=list)
    texts: Counter[str] = field(default_factory=Counter)
    heads: int = 0
    tiles: int = 0
    tiles_missing: int = 0
    checkpoints: int = 0
    signed: int = 0
    key: str | None = None
    refusal: str | None = None


def verify(home: Path, outside: Outside, report: Report, *, tiles: bool = True) -> Verdict:
    """Verify the ledger of `home`; raises StoreError where it cannot be read at all.

    `tiles` false leaves the tiles out: then a bad row is named by the range between two roots.
    """
    path = home / FILE
    connection = open_database(path, migrations=migrations.LEDGER, read_only=True)
    try:
        with translated(path, connection):
            return _Verification(ProofFolder(home), path, connection, outside, tiles).run(report)
    finally:
        connection.close()


class _Verification:
    """One verification of the rows that are there when it starts."""

    def __init__(
        self, folder: ProofFolder, path: Path, connection: apsw.Connection, outside: Outside, tiles: bool
    ) -> None:
        self.folder, self.path, self.connection, self.outside = folder, path, connection, outside
        self.verdict = Verdict(refusal=folder.refusal)
        self.faults: list[Fault] = []
        self.notes: list[tuple[str, Checkpoint]] = []
        self.reconciled = 0
        self.texts = {LAST_CHECKPOINT: folder.checkpoint()}  # read before the rows, which only grow
        self.texts |= {f"the kept checkpoint {number}": note for number, note in enumerate(folder.kept(), 1)}
        self.last, self.head = next(connection.execute(SIZES))
        self.size = max(self.last, self.head)
        self.tiles = folder.tiles if tiles else None

    def run(self, report: Report) -> Verdict:
        """Check everything."""
        self.faults += file_faults(self.connection)
        named, notes = self._named(), self._read_notes()
        roots = self._walk({found.size for found, _ in notes.values()}, notes.get(LAST_CHECKPOINT), report)
        self._take_signed(notes, named, roots)
        self._judge(roots)
        with keys_to_read(self.path.parent) as keys:
            self.faults += text_faults(self.connection, keys, self.verdict.texts)
        faults = []
        for fault in sorted(self.faults, key=lambda fault: (fault.row is None, fault.row or 0)):
            if self._is_known(fault):
                self.verdict.known.append(fault.what)
            else:
                faults.append(fault)
        self.verdict.faults, self.verdict.more = faults[:MOST_TOLD], max(0, len(faults) - MOST_TOLD)
        return self.verdict

    def _named(self) -> list[tuple[int, PublicKey]]:
        """Return the keys that the ledger's acts name; the private key here must be the last one's."""
        said = named_keys(self.connection)
        self.verdict.key = said[-1][1] if said else None
        keys = []
        for seq, text in said:
            try:
                keys.append((seq, PublicKey.read(text)))
            except StoreError as error:
                self.faults.append(Fault(None, f"an act names a key that is none: {error}"))
        try:
            here = [str(key.public()) for key in (self.folder.key(), self.folder.next_key()) if key is not None]
        except StoreError as error:
            self.faults.append(Fault(None, str(error)))
        else:
            if said and here and said[-1][1] not in here:  # a copy for others, or a backup, has none
                self.faults.append(Fault(None, f"the private key is not that of {said[-1][1]}, which the ledger names"))
        return keys

    def _read_notes(self) -> dict[str, tuple[Checkpoint, str]]:
        notes = {}
        for where, note in {**self.texts, **self.outside.notes}.items():
            if note is None:
                continue
            self.verdict.checkpoints += 1
            try:
                notes[where] = Checkpoint.read(note), note
            except StoreError as error:
                self.faults.append(Fault(None, f"{where}: {error}"))
        return notes

    def _take_signed(self, notes: Mapping[str, tuple[Checkpoint, str]], named: list[tuple[int, PublicKey]],
                     roots: Mapping[int, bytes]) -> None:  # fmt: skip
        """Take the notes that a key in force has signed, and what a person reconciled; say what others lack."""
        trusted = self.outside.key
        keys = dict.fromkeys(([] if trusted is None else [trusted]) + [key for _, key in named])
        signed = []
        for where, (found, note) in notes.items():
            signer = next((key for key in keys if key.name == found.origin and key.signed(note)), None)
            signed.append(Signed(where, found, signer, roots.get(found.size) == found.root))
        may = in_force(named, signed, trusted)
        if trusted is not None and not any(key == trusted for _, key in named):
            self.faults.append(Fault(None, f"the key kept outside, {trusted}, is none that the ledger names"))
        elif trusted is not None and not any(each.matches and accepted(each, may) for each in signed):
            self.faults.append(Fault(None, f"no checkpoint of these rows is signed by the key kept outside, {trusted}"))
        for each in signed:
            size, outside = each.found.size, each.where in self.outside.notes
            if not accepted(each, may):
                how = "is not signed by a key of this ledger" if each.key is None else (
                    f"is signed by the key {each.key}, which was not in force there: no checkpoint of another one "
                    "covers the act that names it, or it was followed by another one before")  # fmt: skip
                self.faults.append(Fault(None, f"{each.where} ({size:,} rows) {how}"))
            elif size > self.size:
                self.faults.append(Fault(self.last + 1, f"{each.where} covers {size:,} rows, the ledger ends at row "
                                         f"{self.last:,}: the rows after it are missing", outside))  # fmt: skip
            else:
                self.notes.append((each.where, each.found))
        acts = [int(row[0]) for row in self.connection.execute(RECONCILED)]
        self.reconciled = reconciled(acts, named, [each for each in signed if accepted(each, may)], may)

    def _walk(self, wanted: set[int], last: tuple[Checkpoint, str] | None, report: Report) -> dict[int, bytes]:
        """Make the tree anew from the rows; return its roots at checkpoints' sizes, and compare those of heads."""
        published = 0 if last is None else last[0].size
        tree = self.tree = Regrown(self.tiles, published)
        roots = {0: tree.frontier.root()}
        heads = self._heads()
        head = next(heads, None)
        self.wrong_heads: list[int] = []
        self.good_head = 0
        for hashed in self._leaves():
            tree.push(hashed)
            size = tree.frontier.size
            if size in wanted:
                roots[size] = tree.frontier.root()
            while head is not None and head[0] <= size:
                self.verdict.heads += 1
                if head == (size, tree.frontier.root()):
                    self.good_head = size
                else:
                    self.wrong_heads.append(head[0])
                head = next(heads, None)
            if size % REPORT_EVERY == 0:
                report(size, self.size)
        self.verdict.rows, self.verdict.root = self.last, tree.frontier.root()
        self.verdict.tiles, self.verdict.tiles_missing = tree.compared, tree.missing
        return roots

    def _leaves(self) -> Iterator[bytes]:
        """Yield the leaves' hashes; a number that is missing or given twice is a fault."""
        number = 0
        for seq, table, told in stored_leaves(self.connection, self.path, 1, self.last):
            if seq == number:
                self.faults.append(Fault(seq, f"two rows bear the number {seq:,}; one of them is in {table}"))
                continue
            yield from self._gap(number + 1, seq - 1)
            number = seq
            if told is None:
                which = named(self.connection, seq)
                self.faults.append(Fault(seq, f"{which} cannot be read: a value in it is no UTF-8, or of a wrong type"))
            yield MISSING if told is None else leaf_hash(told)
        yield from self._gap(number + 1, self.size)

    def _gap(self, first: int, last: int) -> Iterator[bytes]:
        if first <= last:
            which = f"row {first:,} is" if first == last else f"rows {first:,} to {last:,} are"
            self.faults.append(Fault(first, f"{which} missing"))
            yield from (MISSING for _ in range(first, last + 1))

    def _heads(self) -> Iterator[tuple[int, bytes]]:
        after = -1
        while page := [(int(size), bytes(root)) for size, root in self.connection.execute(HEADS, (after,))]:
            yield from page
            after = page[-1][0]

    def _judge(self, roots: dict[int, bytes]) -> None:
        """Say which rows, heads or tiles are wrong."""
        outside = [(where, found) for where, found in self.notes if where in self.outside.notes]
        good, broken = self._compare_notes(outside, 0, roots)
        if not broken:  # else what lies in the home may have been made to match
            good, _ = self._compare_notes([note for note in self.notes if note not in outside], good, roots)
        self.verdict.signed = good
        sound = max(good, self.good_head)
        for low, high in ((0, self.reconciled), (self.reconciled, sound)):
            if wrong := [size for size in self.wrong_heads if low < size <= min(high, sound)]:
                which = f"the head of {wrong[0]:,} rows is not the root of these rows"
                more = f", nor are {len(wrong) - 1:,} further ones up to {wrong[-1]:,} rows" if wrong[1:] else ""
                self.faults.append(Fault(wrong[0], which + more))
        if beyond := [size for size in self.wrong_heads if size > sound]:
            self._blame(sound, beyond[0], "the heads say")
        for path, level, row in self.tree.differences:
            if row <= sound and not self._blamed(0, row):
                self.faults.append(
                    Fault(None, f"tile {path} is wrong: its hash over row {row:,} is not that of the rows")
                )
            elif level == 0 and row > sound and not self._blamed(row - 1, row):
                self.faults.append(Fault(row, f"{named(self.connection, row)} is not what its tile says"))
        if self.last > self.head:
            self.faults.append(
                Fault(self.head + 1, f"rows {self.head + 1:,} to {self.last:,} were added without a head")
            )

    def _compare_notes(
        self, notes: list[tuple[str, Checkpoint]], good: int, roots: dict[int, bytes]
    ) -> tuple[int, bool]:
        """Return up to which row all is as it was signed, `good` at least, and whether something then is not."""
        for where, found in sorted(notes, key=lambda note: note[1].size):
            if roots[found.size] == found.root:
                good = max(good, found.size)
            elif found.size > good:
                self._blame(good, found.size, f"{where} signed", where in self.outside.notes)
                return good, True
            else:
                self.faults.append(Fault(None, f"{where} ({found.size:,} rows) was signed for another history"))
        return good, False

    def _blame(self, good: int, bad: int, who: str, outside: bool = False) -> None:
        """Note that a row after `good` and up to `bad` is not as `who` it was: the one its tile tells, or the range."""
        if any(not self._is_known(fault) for fault in self.faults if good < (fault.row or 0) <= bad):
            return
        rows = [row for _, level, row in self.tree.differences if level == 0 and good < row <= bad]
        if rows:
            what = f"{named(self.connection, rows[0])} is not as {who} it was"
            self.faults.append(Fault(rows[0], what, outside))
        else:
            start = good + 1
            which = named(self.connection, bad) if start == bad else f"one of rows {start:,} to {bad:,}"
            self.faults.append(Fault(start, f"{which} is not as {who} it was", outside))

    def _is_known(self, fault: Fault) -> bool:
        """Say whether a fault lies before what a person reconciled."""
        return fault.row is not None and fault.row <= self.reconciled and not fault.outside

    def _blamed(self, good: int, bad: int) -> bool:
        return any(fault.row is not None and good < fault.row <= bad for fault in self.faults)
