"""The folder of proofs in a home: the key, the last checkpoint, those kept, the tiles, and why signing is refused.

It knows files and their order of writing; it does not know rows, nor what may be signed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from insource.store.proof.note import Checkpoint, PrivateKey
from insource.store.proof.tiles import TileFolder
from insource.store.sync import make_folder, replacing, sync_folder, translated_files, write_synced

FOLDER = "proof"
_CHECKPOINT, _KEPT, _KEY, _REFUSAL, _TILES = "checkpoint", "checkpoints", "key", "refusal", "tile"


class ProofFolder:
    """The files below HOME/proof."""

    def __init__(self, home: Path) -> None:
        self.folder = home / FOLDER
        self.tiles = TileFolder(self.folder / _TILES)

    def key(self) -> PrivateKey | None:
        """Return the private key, None where there is none. Raises StoreError where the file cannot be read."""
        path = self.folder / _KEY
        with translated_files(path):
            return PrivateKey.read(path.read_text("utf-8", "replace")) if path.exists() else None

    def make_key(self, origin: str | None = None) -> PrivateKey:
        """Make a new key, of a new log unless `origin` names one, in place of the one that was there."""
        key = PrivateKey(origin or f"insource/ledger-{os.urandom(8).hex()}", os.urandom(32))
        path = self.folder / _KEY
        draft = path.with_name(f".{_KEY}.draft")
        with translated_files(path):
            make_folder(self.folder)
            draft.unlink(missing_ok=True)
            write_synced(draft, key.text().encode())
            draft.replace(path)
            sync_folder(self.folder)
        return key

    def checkpoint(self) -> str | None:
        """Return the note signed last, None where none was. Raises StoreError where it cannot be read."""
        path = self.folder / _CHECKPOINT
        with translated_files(path):
            return path.read_text("utf-8", "replace") if path.exists() else None

    def kept(self) -> Iterator[str]:
        """Yield the notes that were kept, the smallest first."""
        folder = self.folder / _KEPT
        with translated_files(folder):
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                yield path.read_text("utf-8", "replace")

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
        try:
            return (self.folder / _REFUSAL).read_text("utf-8", "replace")
        except OSError:
            return None

    def refuse(self, why: str | None) -> None:
        """Say for all to read why nothing is signed; None: it is signed again. Raises StoreError."""
        path = self.folder / _REFUSAL
        if why is not None:
            write_note(path, why)
        else:
            with translated_files(path):
                path.unlink(missing_ok=True)

    def put_aside(self, size: int) -> Path:
        """Move key, checkpoints and tiles into a folder named after the tree's size, and return it."""
        aside = self.folder / f"before-{size}"
        with translated_files(aside):
            make_folder(aside)
            for name in (_KEY, _CHECKPOINT, _KEPT, _TILES):
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
        return path.read_text("utf-8", "replace") if path.exists() else None
