"""The lock that makes one process the ledger's writer; the system frees it when that process ends, however it ends.

It knows one file that holds the owner's process id; it does not know what is protected.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from insource.errors import StoreBusy, StoreError
from insource.store.database import make_private


class WriterLock:
    """An exclusive lock on a file, held from `take` until `release` or the end of the process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def take(self) -> None:
        """Take the lock at once or raise StoreBusy naming the process that holds it."""
        make_private(self.path)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        except BlockingIOError as error:
            owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise StoreBusy(
                f"The ledger beside {self.path} is being written by process {owner}. It takes one writer. "
                "Stop that process, or give this one its own INSOURCE_HOME."
            ) from error
        except OSError as error:
            os.close(descriptor)
            raise StoreError(
                f"{self.path} cannot be locked ({error.strerror}). A local disk that supports locks is needed. "
                "Move INSOURCE_HOME off a network folder, or free some space."
            ) from error
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back; the file stays."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def owner_of(path: Path) -> int | None:
    """Return the id of the process that holds the lock at `path` now, None where none does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        return int(owner) if owner.isdigit() else None
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return None
