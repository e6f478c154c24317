"""A folder that appears whole or not at all: written hidden beside its place, checked, and renamed into it.

It knows bytes and names, not what they are. A draft is locked while its process lives; the next draft that is made
beside one whose process was killed sweeps that away.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import TypeVar

from insource.errors import UserError
from insource.store.sync import sync_folder

DRAFT = ".insource-draft"
"""How the names of drafts end; they begin with a dot."""

Found = TypeVar("Found")


def check_free(folder: Path) -> None:
    """Raise UserError unless `folder` does not exist yet, or is empty."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()) or (folder.is_dir() and any(folder.iterdir())):
        raise UserError(
            f"--to {folder} is taken; a folder that does not exist yet, or an empty one, was expected. Name another."
        )


def write_folder(folder: Path, files: Mapping[str, bytes], check: Callable[[Path], Found]) -> Found:
    """Write files in their order into a draft of `folder`; once `check` returned, that becomes the folder.

    Returns what `check` did. Raises UserError where the folder cannot be written, and what `check` raises.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _draft(folder) as draft:
            for name, data in files.items():
                _write_synced(draft / name, data)
            sync_folder(draft)
            found = check(draft)
            draft.rename(folder)
            sync_folder(folder.parent)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror or error}); a folder of this user with room in it was "
            "expected. Nothing was exported; name another."
        ) from error
    return found


@contextmanager
def _draft(folder: Path) -> Iterator[Path]:
    """Yield a locked draft, which is gone at the end; what dead processes left beside it is swept away first."""
    draft = folder.parent / f".{folder.name}.{token_hex(4)}{DRAFT}"
    with ExitStack() as held:
        with _locked(folder.parent):  # so that nobody sweeps away what is made but not locked yet
            for left in folder.parent.glob(f".*{DRAFT}"):
                _sweep(left)
            draft.mkdir()
            held.callback(shutil.rmtree, draft, ignore_errors=True)
            held.enter_context(_locked(draft))
        yield draft


def _sweep(left: Path) -> None:
    """Remove a draft, unless a living process holds it or nobody can say."""
    with suppress(OSError), _opened(left, os.O_NOFOLLOW) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock on a folder; on a file system without locks, where nobody sweeps either, go on without."""
    with _opened(folder) as descriptor:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


@contextmanager
def _opened(folder: Path, how: int = 0) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | how)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
