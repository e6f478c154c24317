"""The keys under which texts are sealed: one a subject, one a day of expiry; a key that is destroyed erases its texts.

A text is readable while every key of its seal is there, wherever its sealed bytes lie: ledger, review queue, snapshots,
backups. The keys lie in a file of their own, which no backup of insource's holds.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import apsw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from insource.errors import ArtifactDamaged, StoreError
from insource.store import columns, content_keys_schema
from insource.store.database import BUSY_MILLISECONDS, open_database, transaction
from insource.store.translate import translated

FILE = "content_keys.db"
ID_BYTES = 16
KEY_BYTES = 32
NONCE_BYTES = 12
DAY = 86_400_000_000
"""Microseconds."""
AFTERMATH = 600_000_000
"""For how many microseconds after an erasure nothing of its subject is kept: answers and audits come late."""
MOST_KNOWN = 4_096

Asked = TypeVar("Asked")
Found = TypeVar("Found")
Seal = tuple[bytes, ...]
"""The ids of the keys that a text is sealed under, 16 bytes each, in the order of their use; never empty."""

IDS = "SELECT id FROM subjects WHERE name = ? ORDER BY erased"
LIVING = "SELECT id FROM subjects WHERE name = ? AND erased IS NULL"


class ContentKeys:
    """The keys of one home; use as a context manager. One thread at a time; other processes may work beside it."""

    def __init__(self, path: Path, connection: apsw.Connection) -> None:
        self.path = path
        self._connection = connection
        self._secret = bytes(connection.execute("SELECT names FROM secrets").get)
        self._seen = -1
        self._ciphers: dict[Seal, AESGCM] = {}
        self._subjects: dict[str, tuple[bytes | None, int | None]] = {}
        self._days: dict[int, bytes] = {}

    @classmethod
    def open(cls, home: Path, *, read_only: bool = False, busy_milliseconds: int = BUSY_MILLISECONDS) -> Self:
        """Open the keys of `home`, made where they are missing. Raises StoreError, StoreFull, StoreTooNew, StoreBusy.

        Another process that writes is waited for up to `busy_milliseconds`.
        With `read_only` nothing is made, and StoreError is raised where there are none; see `keys_to_read`.
        """
        path = home / FILE
        connection = open_database(path, migrations=content_keys_schema.STEPS, read_only=read_only)
        connection.set_busy_timeout(busy_milliseconds)
        try:
            with translated(path, connection):
                return cls(path, connection)
        except BaseException:
            connection.close()
            raise

    def look(self) -> None:
        """Take notice of keys that another process has destroyed or made; call it before a piece of work."""
        with translated(self.path, self._connection):
            seen = self._connection.pragma("data_version")
        if seen != self._seen:
            self._seen = seen
            self._forget()

    def seal_of(self, *, subject: str | None, time: datetime, expires: datetime | None) -> Seal | None:
        """Return the seal of a text of `time`, with keys made where they are missing; durable on return.

        It has a subject's key where one is named, and a day's where the text expires. None where the subject was erased
        since `time`, or up to ten minutes before, as what comes then may be of an earlier request: nothing is kept.
        Raises StoreError, StoreFull; ValueError where neither is given.
        """
        ids = []
        if subject is not None:
            living, erased = self._subject(subject)
            if erased is not None and columns.micros(time) <= erased + AFTERMATH:
                return None
            ids.append(living or self.ensure([subject])[0])
        if expires is not None:
            ids.append(self._day(columns.micros(expires) // DAY))
        if not ids:
            raise ValueError("a seal is of a subject, of a day of expiry, or of both")
        return tuple(ids)

    def ensure(self, subjects: Iterable[str]) -> list[bytes]:
        """Make the keys of subjects that have none, all durable on return in one step; return their ids."""
        wanted = list(subjects)
        missing = [subject for subject in dict.fromkeys(wanted) if self._subject(subject)[0] is None]
        if missing:
            with transaction(self._connection, self.path) as connection:
                for subject in missing:
                    name = self._name(subject)
                    values = (os.urandom(ID_BYTES), name)
                    connection.execute("INSERT OR IGNORE INTO subjects (id, name) VALUES (?, ?)", values)
                    living: Any = connection.execute(LIVING, (name,)).get
                    _insert(connection, bytes(living))  # another process may have been quicker: then it is there
            for subject in missing:
                self._subjects.pop(subject, None)
        return [self._subject(subject)[0] or b"" for subject in wanted]

    def fresh(self) -> bytes:
        """Make a key of its own for one text, and return its id; durable on return."""
        made = os.urandom(ID_BYTES)
        with transaction(self._connection, self.path) as connection:
            _insert(connection, made)
        return made

    def seal(self, seal: Seal, place: bytes, data: bytes) -> bytes | None:
        """Return `data` sealed for one place, which must be told again to open it: AES-256-GCM, nonce first.

        None where a key was destroyed, perhaps meanwhile: then nothing may be kept.
        """
        cipher = self._cipher(seal)
        if cipher is None:
            return None
        nonce = os.urandom(NONCE_BYTES)
        return nonce + cipher.encrypt(nonce, data, place)

    def opened(self, seal: Seal, place: bytes, data: bytes) -> bytes | None:
        """Return what was sealed; None where a key of it was destroyed. Raises ArtifactDamaged for altered bytes."""
        cipher = self._cipher(seal)
        if cipher is None:
            return None
        try:
            return cipher.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], place)
        except (InvalidTag, ValueError) as error:
            raise ArtifactDamaged("A sealed text is not as it was written; its bytes were altered.") from error

    def erase(self, subject: str, time: datetime) -> tuple[bytes, ...]:
        """Destroy a subject's key and remember when, so that no earlier text is kept later; return its keys' ids.

        Those of earlier erasures are among them. It is durable, and gone from file and log, on return.
        """
        name = self._name(subject)
        with transaction(self._connection, self.path) as connection:
            living: Any = connection.execute(LIVING, (name,)).get
            made = os.urandom(ID_BYTES) if living is None else bytes(living)
            insert = "INSERT OR REPLACE INTO subjects (id, name, erased) VALUES (?, ?, ?)"
            connection.execute(insert, (made, name, columns.micros(time)))
            connection.execute("DELETE FROM keys WHERE id = ?", (made,))
            found: list[Any] = connection.execute(IDS, (name,)).fetchall()
        self._empty_log()
        return tuple(bytes(row[0]) for row in found)

    def ids_of(self, subject: str) -> tuple[bytes, ...]:
        """Return the ids of a subject's keys, living and destroyed ones."""
        with translated(self.path, self._connection):
            rows: list[Any] = self._connection.execute(IDS, (self._name(subject),)).fetchall()
            return tuple(bytes(row[0]) for row in rows)

    def destroy(self, ids: Iterable[bytes]) -> None:
        """Destroy keys that `fresh` made."""
        with transaction(self._connection, self.path) as connection:
            connection.executemany("DELETE FROM keys WHERE id = ?", [(each,) for each in ids])
        self._empty_log()

    def expire(self, now: datetime) -> int:
        """Destroy the keys of days on which all has expired by `now`, and return how many."""
        today = columns.micros(now) // DAY
        with transaction(self._connection, self.path) as connection:
            connection.execute("DELETE FROM keys WHERE id IN (SELECT id FROM days WHERE day < ?)", (today,))
            connection.execute("DELETE FROM days WHERE day < ?", (today,))
            gone = int(connection.changes())
        if gone:
            self._empty_log()
        return gone

    def destroyed(self, ids: Iterable[bytes]) -> set[bytes]:
        """Return those of some ids whose keys are not there."""
        wanted = set(ids)
        with translated(self.path, self._connection):
            select = "SELECT count(*) FROM keys WHERE id = ?"
            return {each for each in wanted if not self._connection.execute(select, (each,)).get}

    def erased(self) -> tuple[bytes, ...]:
        """Return the ids of all subjects' keys that were destroyed."""
        with translated(self.path, self._connection):
            return tuple(bytes(row[0]) for row in self._connection.execute(
                "SELECT id FROM subjects WHERE erased IS NOT NULL"))  # fmt: skip

    def bound(self, seals: Iterable[Seal], data: bytes) -> bytes:
        """Return 32 bytes that stand for `data`, the same each time, and checked by nobody once a key is destroyed."""
        ids = sorted({each for seal in seals for each in seal})
        with translated(self.path, self._connection):
            keys = [self._connection.execute("SELECT key FROM keys WHERE id = ?", (each,)).get for each in ids]
        if None in keys:
            return os.urandom(KEY_BYTES)
        secret = hashlib.blake2b(b"".join(map(bytes, keys)), digest_size=KEY_BYTES, person=b"insource-bound").digest()
        return hashlib.blake2b(data, key=secret, digest_size=KEY_BYTES).digest()

    def pseudonym(self, text: str) -> str:
        """Return 32 hexadecimal digits that stand for a text here, and that nobody can guess without this file."""
        return hashlib.blake2b(_bytes(text), key=self._secret, digest_size=16, person=b"insource-text").hexdigest()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _name(self, subject: str) -> bytes:
        data = _bytes(subject)
        return hashlib.blake2b(data, key=self._secret, digest_size=32, person=b"insource-subject").digest()

    def _subject(self, subject: str) -> tuple[bytes | None, int | None]:
        """Return the id of a subject's living key (None: none), and when it was last erased (None: never)."""
        if (known := self._subjects.get(subject)) is not None:
            return known
        living: bytes | None = None
        last: int | None = None
        with translated(self.path, self._connection):
            rows = self._connection.execute("SELECT id, erased FROM subjects WHERE name = ?", (self._name(subject),))
            for key, erased in rows:
                if erased is None:
                    living = bytes(key)
                else:
                    last = max(erased, last or erased)
        return _keep(self._subjects, subject, (living, last))

    def _day(self, day: int) -> bytes:
        if (known := self._days.get(day)) is not None:
            return known
        with transaction(self._connection, self.path) as connection:
            connection.execute("INSERT OR IGNORE INTO days (day, id) VALUES (?, ?)", (day, os.urandom(ID_BYTES)))
            there: Any = connection.execute("SELECT id FROM days WHERE day = ?", (day,)).get
            _insert(connection, bytes(there))
        return _keep(self._days, day, bytes(there))

    def _cipher(self, seal: Seal) -> AESGCM | None:
        if (known := self._ciphers.get(seal)) is not None:
            return known
        secret = b""
        with translated(self.path, self._connection):
            for each in seal:
                key = self._connection.execute("SELECT key FROM keys WHERE id = ?", (each,)).get
                if key is None:
                    return None
                made = hashlib.blake2b(bytes(key), key=secret, digest_size=KEY_BYTES, person=b"insource-content")
                secret = made.digest()
        return _keep(self._ciphers, seal, AESGCM(secret)) if seal else None

    def _forget(self) -> None:
        self._ciphers.clear()
        self._subjects.clear()
        self._days.clear()

    def _empty_log(self) -> None:
        """Have what was destroyed leave the log as well; readers hold it for microseconds, so it is waited for."""
        self._forget()
        with translated(self.path, self._connection):
            busy = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0][0]
        if busy:
            raise StoreError(f"Another process keeps reading {self.path}, so what was destroyed may still stand in its "
                             "log. Run the command again.")  # fmt: skip


@contextmanager
def keys_to_read(home: Path) -> Iterator[ContentKeys | None]:
    """Yield the keys of `home` to open texts with; None where their file is not there, as beside a backup."""
    if not (home / FILE).is_file():
        yield None
        return
    with ContentKeys.open(home, read_only=True) as keys:
        yield keys


def _keep(known: dict[Asked, Found], asked: Asked, found: Found) -> Found:
    if len(known) >= MOST_KNOWN:
        known.clear()
    known[asked] = found
    return found


def read_seal(data: bytes) -> Seal:
    """Return the seal whose ids were written one after another."""
    return tuple(bytes(data[start : start + ID_BYTES]) for start in range(0, len(data), ID_BYTES))


def _insert(connection: apsw.Connection, key: bytes) -> None:
    connection.execute("INSERT OR IGNORE INTO keys (id, key) VALUES (?, ?)", (key, os.urandom(KEY_BYTES)))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
