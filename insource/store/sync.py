"""Files and folders written so that they outlast a power cut, and their errors in insource's words.

It knows the operating system's calls; it does not know what is written.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from insource.errors import StoreError, StoreFull
from insource.store.translate import NO_ROOM


def write_synced(path: Path, data: bytes) -> None:
    """Create `path` with mode 0600 and sync its bytes; FileExistsError where it exists."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that becomes `path` as a whole, mode 0600, when all went well, and vanishes otherwise.

    The folder is made where it is missing. Several processes may write the same path at once: the last one stays.
    Raises StoreFull or StoreError, after which what `path` held is there still.
    """
    with translated_files(path):
        make_folder(path.parent)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".draft")
        draft = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(descriptor)
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise


def make_folder(folder: Path) -> None:
    """Create a folder with mode 0700, and those above it that are missing; their names are synced before it returns."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for each in missing:
        with suppress(PermissionError):  # a folder above that this user may enter and write, but not list
            sync_folder(each.parent)


def sync_folder(folder: Path) -> None:
    """Sync the folder's own entries: names that were added, renamed or removed."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def translated_files(path: Path) -> Iterator[None]:
    """Turn every OSError raised inside into a StoreError that names the file, and a full disk into StoreFull."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        if error.errno in NO_ROOM:
            raise StoreFull(
                f"No room left to write {where}. Nothing stored earlier is lost. Free some space."
            ) from error
        raise StoreError(
            f"{where} cannot be read or written ({error.strerror}). A folder of this user was expected. "
            "Check its owner and mode, or set INSOURCE_HOME to one that can be written."
        ) from error
