"""What the tests of proofs share: ledgers with some rows, and a way to look at what became of them."""

import shutil

import pytest

from insource.store.ledger import Ledger
from insource.store.proof.folder import ProofFolder
from insource.store.proof.note import Checkpoint
from insource.store.proof.verify import Outside, verify

NOTHING = Outside()


class House:
    """A home with a ledger in it, and a witness beside it."""

    def __init__(self, folder, make, noon):
        self.home, self.witness = folder / "home", folder / "witness"
        self.folder = ProofFolder(self.home)
        self._make, self._noon, self._next = make, noon, 0

    def open(self, witness=True):
        return Ledger.open(self.home, clock=lambda: self._noon, witness=self.witness if witness else None)

    def fill(self, requests=20, witness=True, *, one_by_one=False):
        """Open the ledger, write so many decisions with texts and settlements; return its refusal."""
        with self.open(witness) as ledger:
            write = ledger.append_now if one_by_one else ledger.note
            for number in range(self._next, self._next + requests):
                content = self._make.content(number)
                write(self._make.decision(number), content, keep_text=True)
                ledger.settle(self._make.settlement(number))
            refusal = ledger.keeper.refusal
        self._next += requests
        return refusal

    def size(self):
        """How many rows the last checkpoint covers."""
        return Checkpoint.read(self.folder.checkpoint()).size

    def verify(self, outside=NOTHING, **choices):
        return verify(self.home, outside, lambda done, of: None, **choices)

    def back_up(self):
        """Copy the home; return what puts the copy back."""
        copy = self.home.with_name("backup")
        shutil.copytree(self.home, copy)

        def restore(*, only=None):
            if only is None:
                shutil.rmtree(self.home)
                shutil.copytree(copy, self.home)
            else:
                shutil.copy(copy / only, self.home / only)

        return restore


@pytest.fixture
def house(tmp_path, make, noon):
    return House(tmp_path, make, noon)
