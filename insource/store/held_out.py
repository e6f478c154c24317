"""What a version's student said of its own rows when it had not learned from them: kept beside the snapshots.

A tier is certified on the rows that the specialist escalates, and asked about rows that it learned from the specialist
would be surer than it will ever be again. It knows texts only by this home's names; nothing here serves a request.
"""

from __future__ import annotations

import hashlib
import logging
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from insource.errors import ArtifactDamaged, DataError, StoreError
from insource.store.content_keys import FILE as KEYS_FILE
from insource.store.content_keys import ContentKeys
from insource.store.sync import replacing, translated_files

LOG = logging.getLogger("insource.store")
FOLDER = "held-out"


class _Row(msgspec.Struct, array_like=True):
    text: str
    label: str
    score: float


class _File(msgspec.Struct):
    """A file as it lies there: its rows sealed under a key of its own, whose id is `key` (hexadecimal)."""

    key: str
    sealed: str


_ROW = msgspec.json.Decoder(_Row)


def keep(home: Path, digest: str, texts: Sequence[str], labels: Iterable[str], scores: Iterable[float]) -> None:
    """Keep the out-of-fold label and score of each text under the artifact's digest; raise StoreFull or StoreError."""
    with ContentKeys.open(home) as keys:
        given = zip(texts, labels, scores, strict=True)
        rows = [_Row(keys.pseudonym(text), label, float(score)) for text, label, score in given]
        _write(keys, _path(home, digest), rows)


def recall(home: Path, digest: str, texts: Sequence[str]) -> list[tuple[str, float] | None]:
    """Return label and score for each text that the version learned from, None for any other.

    Raises StoreError, ArtifactDamaged; DataError where the file's key is not in this home, as in a restored backup:
    then nobody can tell what it learned from.
    """
    path, earlier = _path(home, digest), home / FOLDER / f"{digest}.jsonl"
    if not path.is_file():
        rows = _rows(earlier.read_bytes(), earlier) if earlier.is_file() else []
        known = {row.text: (row.label, row.score) for row in rows}
        return [known.get(_digest(text)) for text in texts]
    with ContentKeys.open(home) as keys:
        found = _read(keys, path)
        if found is None:
            raise DataError(
                f"What version {digest[:16]} said of its own rows cannot be read any more: it was sealed under a key "
                f"that is not in {KEYS_FILE} of {home}. Train the specialist again."
            )
        known = {row.text: (row.label, row.score) for row in found}
        return [known.get(keys.pseudonym(text)) for text in texts]


def forget(home: Path, texts: Iterable[str]) -> int:
    """Erase what any version said of these texts, and return how many rows went; raise StoreError.

    A file that had some is sealed anew, after the key before was destroyed: its copies in backups are read by nobody.
    One that cannot be read, or not be written anew, goes as a whole.
    """
    with ContentKeys.open(home) as keys:
        names = {name for text in texts for name in (keys.pseudonym(text), _digest(text))}
        gone = 0
        for path in sorted((home / FOLDER).glob("*.sealed")) if names else ():
            try:
                rows = _read(keys, path) or []
                kept = [row for row in rows if row.text not in names]
                gone += len(rows) - len(kept)
                if len(kept) < len(rows):
                    _write(keys, path, kept)
            except StoreError as error:
                _drop(path, error)
    return gone + _forget_earlier(home, names)


def _forget_earlier(home: Path, names: set[str]) -> int:
    """Do so in the files of earlier versions of insource, which lie in the clear."""
    gone = 0
    for path in sorted((home / FOLDER).glob("*.jsonl")) if names else ():
        with translated_files(path):
            lines = path.read_bytes().splitlines(keepends=True)
        try:
            kept = [line for line in lines if _ROW.decode(line).text not in names]
        except msgspec.DecodeError as error:
            _drop(path, error)
            continue
        if len(kept) < len(lines):
            with replacing(path) as file:
                file.writelines(kept)
            gone += len(lines) - len(kept)
    return gone


def _drop(path: Path, error: Exception) -> None:
    """Remove a file that cannot be read, so that it keeps nobody from being forgotten."""
    LOG.error(
        "%s goes as a whole: %s. Train the specialist again to certify tiers behind it", path, str(error).rstrip(".")
    )
    with translated_files(path):
        path.unlink(missing_ok=True)


def _write(keys: ContentKeys, path: Path, rows: Iterable[_Row]) -> None:
    """Seal rows under a new key, once the one that the file had before is destroyed: what is cut off leaves neither."""
    before = _file(path)
    if before is not None:
        keys.destroy([bytes.fromhex(before.key)])
    key = keys.fresh()
    sealed = keys.seal((key,), _place(path), b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    with replacing(path) as file:
        file.write(msgspec.json.encode(_File(key.hex(), b64encode(sealed or b"").decode())))


def _read(keys: ContentKeys, path: Path) -> list[_Row] | None:
    """Return the rows of a file; None where its key is not there."""
    if (file := _file(path)) is None:
        return None
    data = keys.opened((bytes.fromhex(file.key),), _place(path), b64decode(file.sealed))
    return None if data is None else _rows(data, path)


def _file(path: Path) -> _File | None:
    with translated_files(path):
        data = path.read_bytes() if path.is_file() else None
    try:
        return None if data is None else msgspec.json.decode(data, type=_File)
    except msgspec.DecodeError as error:
        raise ArtifactDamaged(f"{path} is not as it was written. Train the specialist again.") from error


def _rows(data: bytes, path: Path) -> list[_Row]:
    try:
        return [_ROW.decode(line) for line in data.splitlines()]
    except msgspec.DecodeError as error:
        raise ArtifactDamaged(f"{path} is not as it was written. Train the specialist again.") from error


def _place(path: Path) -> bytes:
    return f"held-out {path.stem}".encode()


def _path(home: Path, digest: str) -> Path:
    return home / FOLDER / f"{digest}.sealed"


def _digest(text: str) -> str:
    """Return the name of a text in files of earlier versions of insource."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]
