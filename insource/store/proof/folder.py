"""The folder of proofs in a home: keys, the last checkpoint, those kept, the tiles, and why signing is refused.

It knows files and their order of writing; it does not know rows, nor what may be signed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from insource.errors import StoreError
from insource.store.proof.note import Checkpoint, PrivateKey
from insource.store.proof.tiles import TileFolder
from insource.store.sync import make_folder, replacing, sync_folder, translated_files

FOLDER = "proof"
_CHECKPOINT, _KEPT, _KEY, _NEXT, _TILES = "checkpoint", "checkpoints", "key", "key.next", "tile"
_REFUSAL, _TROUBLE = "refusal", "trouble"


class ProofFolder:
    """The files below HOME/proof."""

    def __init__(self, home: Path) -> None:
        self.folder = home / FOLDER
        self.tiles = TileFolder(self.folder / _TILES)

    def key(self) -> PrivateKey | None:
        """Return the private key, None where there is none. Raises StoreError where the file cannot be read."""
        text = read_note(self.folder / _KEY)
        return None if text is None else PrivateKey.read(text)

    def next_key(self) -> PrivateKey | None:
        """Return the key that is to follow, None where there is none that can be read."""
        try:
            text = read_note(self.folder / _NEXT)
            return None if text is None else PrivateKey.read(text)
        except StoreError:
            return None

    def make_next(self, origin: str | None = None) -> PrivateKey:
        """Make a key that is to follow, of a new log unless `origin` names one. `take_next` puts it in force."""
        key = PrivateKey(origin or f"insource/ledger-{os.urandom(8).hex()}", os.urandom(32))
        write_note(self.folder / _NEXT, key.text())
        with translated_files(self.folder):
            sync_folder(self.folder)
        return key

    def take_next(self) -> None:
        """Put the key that is to follow, where there is one, in place of the one in force."""
        path = self.folder / _NEXT
        with translated_files(path):
            if path.exists():
                path.replace(self.folder / _KEY)
                sync_folder(self.folder)

    def drop_next(self) -> None:
        """Forget a key that was to follow, and that no act names."""
        with translated_files(self.folder / _NEXT):
            (self.folder / _NEXT).unlink(missing_ok=True)

    def checkpoint(self) -> str | None:
        """Return the note signed last, None where none was. Raises StoreError where it cannot be read."""
        return read_note(self.folder / _CHECKPOINT)

    def kept(self) -> Iterator[str]:
        """Yield the notes that were kept, the smallest first; drafts are none, and one may vanish meanwhile."""
        folder = self.folder / _KEPT
        with translated_files(folder):
            names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        for name in names:
            if name.isdigit() and (note := read_note(folder / name)) is not None:
                yield note

    def keep(self, note: str, *, for_good: bool) -> None:
        """Write the note that was signed last; `for_good` also among those kept."""
        write_note(self.folder / _CHECKPOINT, note)
        if for_good:
            path = self.folder / _KEPT / f"{Checkpoint.read(note).size:012d}"
            if not path.exists():
                write_note(path, note)

    @property
    def refusal(self) -> str | None:
        """Why the writer refuses to sign, None where it does not."""
        return self._said(_REFUSAL)

    @property
    def trouble(self) -> str | None:
        """What keeps proofs or the witness from being written for now, None where nothing does."""
        return self._said(_TROUBLE)

    def refuse(self, why: str | None) -> None:
        """Say for all to read why nothing is signed; None: it is signed again. Raises StoreError."""
        self._say(_REFUSAL, why)

    def tell_trouble(self, what: str | None) -> None:
        """Say for all to read what cannot be written for now; None: it can again. Raises StoreError."""
        self._say(_TROUBLE, what)

    def _said(self, name: str) -> str | None:
        try:
            return (self.folder / name).read_text("utf-8", "replace")
        except OSError:
            return None

    def _say(self, name: str, what: str | None) -> None:
        path = self.folder / name
        if what is not None:
            write_note(path, what)
        else:
            with translated_files(path):
                path.unlink(missing_ok=True)

    def put_aside(self, size: int) -> Path:
        """Move key, checkpoints and tiles into a folder named after the tree's size, and return it."""
        aside = self.folder / f"before-{size}"
        with translated_files(aside):
            make_folder(aside)
            for name in (_KEY, _NEXT, _CHECKPOINT, _KEPT, _TILES):
                path = self.folder / name
                if path.exists() and not (aside / name).exists():
                    path.replace(aside / name)
                elif path.is_dir():
                    shutil.rmtree(path)
            sync_folder(aside)
            sync_folder(self.folder)
        return aside


def write_note(path: Path, text: str) -> None:
    """Replace a file as a whole, synced, mode 0600. Raises StoreFull or StoreError."""
    with replacing(path) as file:
        file.write(text.encode())


def read_note(path: Path) -> str | None:
    """Return a file's text, None where there is no file. Raises StoreError."""
    with translated_files(path):
        try:
            return path.read_text("utf-8", "replace")
        except FileNotFoundError:
            return None
