"""Opening one SQLite file safely: engine version, mode, durability, schema version.

It knows APSW and files; it knows no table. What a schema consists of stands in `migrations`.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import apsw

from insource.errors import StoreError, StoreTooNew
from insource.store.sync import make_folder
from insource.store.translate import translated

Migration = Callable[[apsw.Connection], None]

OLDEST_SAFE_SQLITE = (3, 51, 3)
MENDED_SERIES = {(3, 44): 6, (3, 50): 7}
"""Older series into which the mend was taken, and the first release of each that has it."""
BUSY_MILLISECONDS = 10_000
RETRY_SECONDS = 0.01
WAL_BYTES_KEPT = 64 * 1024 * 1024
CHECKPOINT_PAGES = 1_000
"""Pages of the write-ahead log from which on a commit moves it into the file; SQLite's own figure."""
LOG = logging.getLogger("insource.store")


def open_database(
    path: Path,
    *,
    migrations: Sequence[Migration],
    read_only: bool = False,
    sqlite_version: str | None = None,
) -> apsw.Connection:
    """Open the file at `path` with WAL and synchronous=FULL, and bring its schema up to `migrations`.

    A new file has mode 0600 (SQLite gives -wal and -shm the same), a new folder 0700. A commit returns when it is
    synced. Readers never migrate. `sqlite_version` stands in for the engine's own in tests.

    Raises StoreTooNew where a newer insource wrote the file; StoreError for an unsafe SQLite, a missing file to read,
    a damaged file, or another program's database; StoreBusy where it stays locked for 10 s.
    """
    check_sqlite(sqlite_version or apsw.sqlite_lib_version())
    if read_only:
        if not path.is_file():
            raise StoreError(f"{path} does not exist. It is made by the first `insource serve` or `insource train`.")
    else:
        make_private(path)
    flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE
    with translated(path):
        connection = apsw.Connection(str(path), flags=flags)
        try:
            _configure(connection, read_only)
            _migrate(connection, path, migrations, read_only)
        except BaseException:
            connection.close()
            raise
    return connection


def check_sqlite(version: str) -> None:
    """Raise StoreError where `version` has the WAL-reset bug (3.7.0 to 3.51.2), which loses committed writes.

    3.44.6 and 3.50.7 and what follows in their series are mended; what cannot be read as a version is not trusted.
    """
    numbers = tuple(int(part) if part.isdecimal() else -1 for part in version.split("."))
    mended = MENDED_SERIES.get((numbers[0], numbers[1] if len(numbers) > 1 else 0))
    if numbers >= OLDEST_SAFE_SQLITE or (mended is not None and numbers[2:] >= (mended,)):
        return
    raise StoreError(
        f"SQLite {version} can lose committed writes (the WAL-reset bug). 3.51.3 or newer is needed. "
        "Run `pip install --upgrade apsw`; its wheel brings a fixed SQLite."
    )


def make_private(path: Path) -> None:
    """Create the file at `path` with mode 0600, and its folder with 0700 where it is missing."""
    try:
        make_folder(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be created or written ({error.strerror}). A file in a folder of this user was expected. "
            "Check the folder, or set INSOURCE_HOME to one that can be written."
        ) from error


@contextmanager
def transaction(connection: apsw.Connection, path: Path) -> Iterator[apsw.Connection]:
    """Hold the write lock from the first statement on; commit at the end, roll back on any exception."""
    with translated(path, connection):
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException as error:
            _roll_back(connection, error)
            raise


def _roll_back(connection: apsw.Connection, cause: BaseException) -> None:
    if connection.in_transaction:  # SQLite rolls back by itself on a full disk and on input/output errors
        try:
            connection.execute("ROLLBACK")
        except apsw.Error as error:
            cause.add_note(f"and the rollback failed: {error}")


def _configure(connection: apsw.Connection, read_only: bool) -> None:
    connection.set_busy_timeout(BUSY_MILLISECONDS)
    connection.execute("PRAGMA foreign_keys = ON")
    if read_only:
        connection.execute("PRAGMA query_only = ON")
        return
    if (mode := _enter_wal(connection)) != "wal":  # SQLite says so, and raises nothing
        raise StoreError(
            f"{connection.filename} stays in journal mode {mode!r}; it must be WAL, else a power cut undoes what was "
            "acknowledged. Check the disk and its free space, and keep the file off network folders."
        )
    connection.execute("PRAGMA synchronous = FULL")
    connection.set_wal_hook(_Checkpoints().after)
    connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT}")
    connection.execute("PRAGMA secure_delete = ON")  # what is erased is overwritten, not only unlinked
    connection.execute("PRAGMA recursive_triggers = ON")  # else REPLACE deletes rows without their triggers


class _Checkpoints:
    """Moves a write-ahead log into its file behind a commit, as SQLite does; a fault there is not the commit's.

    SQLite's own would have COMMIT fail for a transaction that stands, synced and for everybody to see.
    """

    def __init__(self) -> None:
        self._failing = False

    def after(self, connection: apsw.Connection, schema: str, pages: int) -> int:
        """Run behind a commit, with the pages that the log has then."""
        if pages >= CHECKPOINT_PAGES:
            try:
                connection.wal_checkpoint(schema)
                self._failing = False
            except apsw.Error as error:
                if not self._failing:
                    LOG.error(
                        "what was committed to %s is safe in its write-ahead log, but could not be moved into the file "
                        "(%s); every commit tries again, and the log grows. Check the disk and its free space.",
                        connection.filename, f"{type(error).__name__}: {error}",
                    )  # fmt: skip
                self._failing = True
        return int(apsw.SQLITE_OK)


def _enter_wal(connection: apsw.Connection) -> str:
    """Return the journal mode once it is set: where others open the same new file, SQLite refuses without waiting."""
    until = time.monotonic() + BUSY_MILLISECONDS / 1000
    while True:
        try:
            return str(connection.execute("PRAGMA journal_mode = WAL").get)
        except apsw.BusyError:
            if time.monotonic() >= until:
                raise
            time.sleep(RETRY_SECONDS)


def _migrate(connection: apsw.Connection, path: Path, migrations: Sequence[Migration], read_only: bool) -> None:
    version = _version(connection)
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").get
    if version == 0 and tables:
        version = _version(connection)  # another process may have made them since the first look
    if version > len(migrations):
        raise StoreTooNew(
            f"{path} has schema {version}; this insource knows schemas up to {len(migrations)}. "
            "Install the insource that wrote it, or restore a backup made by this one."
        )
    if version == 0 and tables:
        raise StoreError(
            f"{path} is a database of another program. A file written by insource, or none, was expected. "
            "Move it away, or set INSOURCE_HOME to another folder."
        )
    if read_only and version < len(migrations):
        raise StoreError(
            f"{path} has schema {version}; this insource reads schema {len(migrations)}. "
            "Run `insource serve` once; it brings the file up to date."
        )
    behind = 0 < version < len(migrations)
    while version < len(migrations):
        with transaction(connection, path):
            version = _version(connection)  # another process may have been quicker
            if version < len(migrations):
                migrations[version](connection)
                version += 1
                connection.execute(f"PRAGMA user_version = {version}")
    if behind:  # what a step has overwritten leaves the log and the file, unless a reader is in the way
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _version(connection: apsw.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").get)
