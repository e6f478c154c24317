"""The one place where what SQLite raises becomes what insource raises.

It knows APSW's exceptions and the errno behind them; it does not know which tables exist.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from insource.errors import StoreBusy, StoreError, StoreFull

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
BUSY = (apsw.BusyError, apsw.LockedError)
UNREADABLE = (apsw.CorruptError, apsw.NotADBError, apsw.FormatError)
FORBIDDEN = (apsw.ReadOnlyError, apsw.PermissionsError, apsw.AuthError)


@contextmanager
def translated(path: Path, connection: apsw.Connection | None = None) -> Iterator[None]:
    """Turn every apsw.Error raised inside into a StoreError that names the file.

    `connection` tells a full disk from other input/output errors where SQLite itself does not (a quota).
    Raises StoreFull, StoreBusy or StoreError; the SQLite error stays as the cause.
    """
    try:
        yield
    except apsw.Error as error:
        raise translate(error, path, connection) from error


def translate(error: apsw.Error, path: Path, connection: apsw.Connection | None = None) -> StoreError:
    """Return the StoreError that says what `error` means for the file at `path`."""
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, apsw.FullError) or (isinstance(error, apsw.IOError) and _no_room(connection)):
        return StoreFull(
            f"No room left to write {path} ({said}). The rows of this write were not stored, all earlier ones are. "
            "Free some space on its device; writing goes on by itself."
        )
    if isinstance(error, BUSY):
        return StoreBusy(
            f"{path} stayed locked by another process ({said}). A write should take milliseconds. "
            "Look for a stopped or hanging process that holds it, then try again."
        )
    if isinstance(error, UNREADABLE):
        return StoreError(
            f"{path} is damaged or is not a database ({said}). A file written by insource was expected. "
            "Move it aside, together with its -wal and -shm files, and restore a backup."
        )
    if isinstance(error, apsw.CantOpenError):
        return StoreError(
            f"{path} cannot be opened ({said}). A file in a folder that this user may read and write was expected. "
            "Check that the folder exists, who owns it, and that no folder bears the file's name."
        )
    if isinstance(error, FORBIDDEN):
        return StoreError(
            f"{path} cannot be written ({said}). This user needs the right to write the file and its folder. "
            "Check their owner and mode."
        )
    if isinstance(error, apsw.IOError):
        return StoreError(
            f"The device failed while {path} was read or written ({said}). "
            "Nothing of this write was acknowledged. Check the disk and the system's log before going on."
        )
    if isinstance(error, apsw.ConstraintError):
        return StoreError(
            f"{path} refused a row ({said}). A row is written once, with a new identifier, and never changed. "
            "Use a new identifier, or write a further row instead of changing one."
        )
    return StoreError(f"SQLite failed on {path} ({said}). This was not expected; please report it.")


def _no_room(connection: apsw.Connection | None) -> bool:
    return connection is not None and connection.system_errno in NO_ROOM
