"""One ledger that is killed and put back: its home, its copy, and every checkpoint that a file of it ever held.

It knows files, and whether one checkpoint extends another by the rows of its time; it starts no process.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from insource.governance.verifier import verify_ledger as second
from insource.store import migrations
from insource.store.database import open_database
from insource.store.ledger import FILE, LAST_SEQ
from insource.store.proof.folder import ProofFolder, read_note
from insource.store.proof.note import Checkpoint
from insource.store.proof.stored import leaves_of
from insource.store.proof.tiles import Hashes
from insource.store.proof.tree import consistency_proof


@dataclass(frozen=True)
class Noted:
    """A checkpoint that a file held: the case in which it was, and the rows' hashes at the time."""

    case: int
    found: Checkpoint
    leaves: list[bytes]


@dataclass
class Life:
    """One ledger: its home and witness, the copy, and the checkpoints seen, by note."""

    folder: Path
    witness: Path | None
    seen: dict[str, int] = field(default_factory=dict)
    signed: int = 0
    died: str | None = None
    noted: list[Noted] = field(default_factory=list)

    @property
    def home(self) -> Path:
        """The ledger's home."""
        return self.folder / "home"

    def look(self, case: int) -> None:
        """Take what a process told, and what lies in the files: a note may have been written and not told."""
        self.died, told = None, self.folder / "told"
        for line in told.read_text("utf-8").splitlines() if told.exists() else ():
            what, note = json.loads(line)
            self.signed += what == "signed"
            self.died = note if what == "died" else self.died
            if what == "stored":
                self.seen.setdefault(note, case)
        told.unlink(missing_ok=True)
        proof = ProofFolder(self.home)
        for found in (proof.checkpoint(), *proof.kept(), None if self.witness is None else read_note(self.witness)):
            if found is not None:
                self.seen.setdefault(found, case)

    def end_era(self) -> None:
        """Keep the checkpoints of these rows together with the rows' hashes, before the rows are replaced."""
        path = self.home / FILE
        connection = open_database(path, migrations=migrations.LEDGER, read_only=True)
        try:
            leaves = leaves_of(connection, path)(0, connection.execute(LAST_SEQ).get)
        finally:
            connection.close()
        done = len(self.noted)
        self.noted += [Noted(case, Checkpoint.read(note), leaves) for note, case in list(self.seen.items())[done:]]

    def largest(self) -> str:
        """Return the checkpoint that covers the most rows."""
        return max(self.seen, key=lambda note: Checkpoint.read(note).size)

    def origins(self) -> set[str]:
        """Return the names of the logs that checkpoints were signed for."""
        return {Checkpoint.read(note).origin for note in self.seen}


def extends(one: Noted, other: Noted) -> bool:
    """Say whether the larger tree, over the rows of its time, extends the smaller; by the second implementation."""
    hashes = Hashes(None, lambda start, stop: other.leaves[start:stop], len(other.leaves))
    try:
        path = consistency_proof(one.found.size, other.found.size, hashes.subtree)
        second.check_consistency(one.found.size, one.found.root, other.found.size, other.found.root, path)
    except (second.Wrong, ValueError):
        return False
    return True


def put_back(copy: Path, home: Path, what: str) -> int:
    """Replace all of the home, its ledger or its proofs by the copy's; return how many rows there are then."""
    if what.startswith("all"):
        shutil.rmtree(home)
        shutil.copytree(copy, home)
    elif what == "proofs":
        shutil.rmtree(home / "proof")
        shutil.copytree(copy / "proof", home / "proof")
    else:
        for path in home.glob(f"{FILE}*"):
            path.unlink()
        for path in copy.glob(f"{FILE}*"):
            shutil.copy(path, home)
    connection = open_database(home / FILE, migrations=migrations.LEDGER, read_only=True)
    try:
        return int(connection.execute(LAST_SEQ).get)
    finally:
        connection.close()
