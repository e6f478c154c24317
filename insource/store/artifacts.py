"""Artifacts by digest: folders that are written once, verified byte by byte at every opening, and never changed.

It does not know what the files mean and never runs or unpickles them; a backend does the loading.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from insource.errors import ArtifactDamaged, StoreError
from insource.store import manifest as manifests
from insource.store.sync import make_folder, sync_folder, translated_files, write_synced

FOLDER = "artifacts"
DRAFTS = ".drafts"
STALE_SECONDS = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Artifact:
    """A verified artifact: its folder, its manifest as decoded, and the digest that names it."""

    folder: Path
    manifest: Mapping[str, Any]
    digest: str

    @property
    def size_bytes(self) -> int:
        """The length of all files but the manifest."""
        return sum(entry["bytes"] for entry in self.manifest["files"].values())


class ArtifactStore:
    """The artifacts folder of `home`; opening it sweeps away drafts that nobody touched for a day.

    `clock` returns seconds since 1970, as the file system counts them. Raises StoreFull or StoreError where the
    folder cannot be read or written.
    """

    def __init__(self, home: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.folder = home / FOLDER
        self._drafts = self.folder / DRAFTS
        with translated_files(self.folder):
            for each in (home, self.folder, self._drafts):
                make_folder(each)
            self._sweep(clock() - STALE_SECONDS)

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """Yield a new folder to write files into; what is not committed by the end is thrown away.

        An OSError raised inside becomes a StoreError, and a full disk StoreFull.
        """
        with translated_files(self._drafts):
            folder = Path(tempfile.mkdtemp(dir=self._drafts))
        try:
            with translated_files(folder):
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def commit(self, folder: Path, manifest: Mapping[str, Any]) -> str:
        """Turn a draft into an artifact and return its digest; the manifest is written last, everything synced.

        `manifest` needs `kind` and may say anything else in JSON; `format` and `files` are filled in. The same files
        and manifest give the same digest, and an artifact that exists and is sound is left alone. Raises StoreError
        where the draft holds a folder, a link, a hidden file or a manifest of its own.
        """
        if not isinstance(manifest.get("kind"), str):
            raise ValueError(f"a manifest needs a kind (a string), got {manifest.get('kind')!r}")
        with translated_files(folder):
            files = {path.name: _seal(path) for path in sorted(folder.iterdir())}
            data = manifests.encode({**manifest, "format": manifests.FORMAT, "files": files})
            digest = manifests.digest_of(data)
            write_synced(folder / manifests.NAME, data)
            folder.chmod(0o700)
            sync_folder(folder)
            self._move_in(folder, digest)
        return digest

    def open(self, digest: str) -> Artifact:
        """Verify every byte and return the artifact; raises ArtifactDamaged naming file, expected and found digest."""
        folder = self.folder / digest
        if not manifests.is_digest(digest) or not folder.is_dir() or folder.is_symlink():
            raise ArtifactDamaged(
                f"There is no artifact {digest!r} in {self.folder}. A folder of that name was expected. {_ADVICE}"
            )
        with translated_files(folder):
            data = _read_manifest(folder, digest)
            try:
                manifest, listing = manifests.decode(data)
            except ValueError as error:
                raise ArtifactDamaged(
                    f"The manifest of artifact {digest} cannot be used: {error}. {_ADVICE}"
                ) from error
            for name in sorted({entry.name for entry in os.scandir(folder)} - {manifests.NAME} - listing.files.keys()):
                raise ArtifactDamaged(f"Artifact {digest} holds {name!r}, which its manifest does not list. {_ADVICE}")
            for name, entry in listing.files.items():
                _verify(folder / name, entry.sha256, entry.bytes)
        return Artifact(folder, manifest, digest)

    def remove(self, digest: str) -> None:
        """Delete an artifact; nothing happens where it does not exist."""
        folder = self.folder / digest
        if manifests.is_digest(digest) and folder.exists():
            with translated_files(folder):
                self._set_aside(folder)

    def _move_in(self, folder: Path, digest: str) -> None:
        target = self.folder / digest
        if target.exists():
            try:
                self.open(digest)
                return
            except ArtifactDamaged:
                self._set_aside(target)  # the same bytes made again repair it
        try:
            folder.rename(target)
        except OSError:
            if not target.is_dir():  # else another process has just committed the same bytes
                raise
        sync_folder(self.folder)

    def _set_aside(self, folder: Path) -> None:
        grave = Path(tempfile.mkdtemp(dir=self._drafts))
        folder.rename(grave / folder.name)
        sync_folder(self.folder)
        shutil.rmtree(grave)

    def _sweep(self, before: float) -> None:
        for draft in self._drafts.iterdir():
            touched = [path.lstat().st_mtime for path in (draft, *draft.rglob("*"))]
            if max(touched) < before:
                shutil.rmtree(draft, ignore_errors=True)


_ADVICE = "Train the version again, or restore the folder from a backup."


def _seal(path: Path) -> dict[str, Any]:
    if path.is_symlink() or not path.is_file() or not manifests.is_plain_name(path.name):
        raise StoreError(
            f"The draft holds {path.name!r}, which cannot be part of an artifact. Plain visible files, directly in the "
            f"folder and not called {manifests.NAME}, were expected. Write the files flat, without links."
        )
    path.chmod(0o600)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
        return {"sha256": found, "bytes": os.fstat(file.fileno()).st_size}


def _read_manifest(folder: Path, digest: str) -> bytes:
    with _open_plain(folder / manifests.NAME) as file:
        data: bytes = file.read(manifests.LARGEST + 1)
    found = manifests.digest_of(data)
    if found != digest:
        raise ArtifactDamaged(
            f"{folder / manifests.NAME} does not match its digest: expected {digest}, found {found}. {_ADVICE}"
        )
    return data


def _verify(path: Path, expected: str, size: int) -> None:
    with _open_plain(path) as file:
        found_size = os.fstat(file.fileno()).st_size
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if (found, found_size) != (expected, size):
        raise ArtifactDamaged(
            f"{path} does not match its digest: expected {expected} ({size:,} bytes), "
            f"found {found} ({found_size:,} bytes). {_ADVICE}"
        )


def _open_plain(path: Path) -> Any:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise ArtifactDamaged(
            f"{path} cannot be opened ({error.strerror}). A plain file, no link, was expected. {_ADVICE}"
        ) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ArtifactDamaged(f"{path} is not a plain file, as its manifest says it is. {_ADVICE}")
    return os.fdopen(descriptor, "rb")
