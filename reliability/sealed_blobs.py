"""Every sealed text in the files of a home or a backup, and an attempt to open it by code of its own.

It reads keys and columns as the files have them, and uses nothing of insource that seals: a second implementation.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ID = 16


@dataclass(frozen=True, slots=True)
class KeysLeft:
    """What content_keys.db has: secrets by their ids, and the ids of those of days, by the day since 1970."""

    secrets: Mapping[bytes, bytes]
    days: Mapping[int, bytes]


@dataclass(frozen=True, slots=True)
class Blob:
    """Sealed bytes: in which part of which folder, under the keys of which ids, in which place."""

    where: str
    seal: tuple[bytes, ...]
    place: bytes
    data: bytes

    def opened(self, keys: KeysLeft) -> bytes | None:
        """Return the text where all its keys are there."""
        secrets = [keys.secrets[each] for each in self.seal if each in keys.secrets]
        return opened_by(self, secrets) if len(secrets) == len(self.seal) else None

    def forced(self, keys: KeysLeft) -> bytes | None:
        """Return what any key, or any two of which one is a day's, open it to, whatever ids it names."""
        days = [keys.secrets[each] for each in keys.days.values() if each in keys.secrets]
        for secret in keys.secrets.values():
            for tried in ([secret], *(pair for day in days for pair in ([secret, day], [day, secret]))):
                if (found := opened_by(self, tried)) is not None:
                    return found
        return None


def opened_by(blob: Blob, secrets: Iterable[bytes]) -> bytes | None:
    """Return what these secrets, in this order, open a blob to."""
    derived = b""
    for secret in secrets:
        derived = hashlib.blake2b(secret, key=derived, digest_size=32, person=b"insource-content").digest()
    try:
        return AESGCM(derived).decrypt(blob.data[:12], blob.data[12:], blob.place)
    except InvalidTag:
        return None


def keys_left(home: Path) -> KeysLeft:
    """Return what content_keys.db has."""
    path = home / "content_keys.db"
    return KeysLeft(
        {bytes(row[0]): bytes(row[1]) for row in read(path, "SELECT id, key FROM keys")},
        {row[0]: bytes(row[1]) for row in read(path, "SELECT day, id FROM days")},
    )


def blobs_of(folder: Path) -> Iterator[Blob]:
    """Yield every sealed text of ledger, review queue and snapshots of a folder."""
    yield from ledger_blobs(folder)
    queued = read(folder / "registry.db", "SELECT request_id, text, suggestion, seal FROM reviews")
    for request_id, *texts, seal in queued:
        for at, text in enumerate(texts):
            if text is not None:
                yield Blob("reviews", _split(seal), f"reviews {at} {request_id}".encode(), b64decode(text))
    for path in sorted((folder / "snapshots").glob("*.jsonl")):
        for number, line in enumerate(path.read_bytes().splitlines()):
            row = json.loads(line)
            if row.get("sealed"):
                place = f"snapshots {path.stem} {number}".encode()
                yield Blob("snapshots", _split(bytes.fromhex(row["seal"])), place, b64decode(row["sealed"]))


def ledger_blobs(folder: Path, where: str = "TRUE", values: tuple[Any, ...] = ()) -> Iterator[Blob]:
    """Yield the sealed parts of rows of the contents table."""
    select = f"SELECT seq, subject, day, salt, text, answer, reference FROM contents WHERE {where}"
    for seq, subject, day, *parts in read(folder / "ledger.db", select, values):
        seal = tuple(bytes(each) for each in (subject, day) if each is not None)
        for at, part in enumerate(parts):
            if part is not None:
                yield Blob("ledger", seal, b"contents" + seq.to_bytes(8, "big") + bytes([at]), bytes(part))


def read(path: Path, select: str, values: tuple[Any, ...] = ()) -> list[Any]:
    """Return rows of a database, read beside whoever writes it; none where there is no file."""
    if not path.is_file():
        return []
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        connection.set_busy_timeout(10_000)
        return connection.execute(select, values).fetchall()
    finally:
        connection.close()


def _split(seal: bytes) -> tuple[bytes, ...]:
    return tuple(bytes(seal[start : start + ID]) for start in range(0, len(seal), ID))
