"""The rows that specialists were trained on, a file each: those with an owner or an end sealed, those of a file plain.

It knows rows and seals; what a row teaches is `training`'s business.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from insource.errors import ArtifactDamaged
from insource.store.content_keys import ContentKeys, Seal, keys_to_read, read_seal
from insource.store.sync import replacing, translated_files

FOLDER = "snapshots"
_SEAL = re.compile(rb'"seal":"((?:[0-9a-f]{32})+)"')
LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Row(msgspec.Struct, omit_defaults=True):
    """One row, as its line has it: text and answer, or both sealed under the keys whose ids `seal` has (hexadecimal).

    `seal` is empty where the row was erased before it was written. `group` is given for all rows of a file or for none.
    """

    text: str = ""
    answer: str = ""
    group: int | None = None
    seal: str | None = None
    sealed: str = ""


def write_snapshot(
    home: Path, digest: str, rows: Iterable[tuple[str, str]], groups: Iterable[int | None], seals: Iterable[Seal | None]
) -> Path:
    """Write (text, answer) rows to `home`/snapshots/DIGEST.jsonl, unless they are there, and return the path.

    A row with a seal is written sealed, one without plain. Raises StoreFull or StoreError.
    """
    path = _path(home, digest)
    if path.exists():
        return path
    wanted = list(seals)
    if not any(seal is not None for seal in wanted):
        _write(path, (Row(text, answer, group) for (text, answer), group in zip(rows, groups, strict=True)))
        return path
    with ContentKeys.open(home) as keys:
        given = enumerate(zip(rows, groups, wanted, strict=True))
        _write(path, (_row(keys, digest, number, *each) for number, each in given))
    return path


def read_snapshot(home: Path, digest: str) -> list[Row | None] | None:
    """Return the rows of a file, opened, None for each that was erased or has expired; None where there is no file.

    Raises ArtifactDamaged where a sealed row was altered, StoreError.
    """
    path = _path(home, digest)
    if not path.is_file():
        return None
    with keys_to_read(home) as keys:
        return [_opened(keys, digest, number, row) for number, row in enumerate(_rows(path))]


def snapshots_with(home: Path, ids: Iterable[bytes]) -> dict[str, int]:
    """Return the digests of the files with rows sealed under one of some keys, each with the number of such rows."""
    wanted = {each.hex() for each in ids}
    found: dict[str, int] = {}
    folder = home / FOLDER
    for path in sorted(folder.glob("*.jsonl")) if folder.is_dir() else ():
        if count := sum(any(each.hex() in wanted for each in seal) for seal in _seals(path)):
            found[path.stem] = count
    return found


def texts_of(home: Path, digests: Iterable[str], ids: Iterable[bytes]) -> list[str]:
    """Return the texts of rows of some files that are sealed under one of some keys, as far as they can be opened."""
    wanted = {each.hex() for each in ids}
    found = []
    with keys_to_read(home) as keys:
        for digest in digests:
            with suppress(ArtifactDamaged):  # what cannot be opened has no text to look for
                for number, row in enumerate(_rows(_path(home, digest))):
                    if row.seal and any(each.hex() in wanted for each in read_seal(bytes.fromhex(row.seal))):
                        with suppress(ArtifactDamaged):
                            opened = _opened(keys, digest, number, row)
                            found += [] if opened is None else [opened.text]
    return found


def seals_of(home: Path, named: Sequence[tuple[str | None, datetime | None]]) -> list[Seal | None]:
    """Return the seals of rows by the subject that a file names for each, and the row's time.

    None where no subject is named; empty where it was erased, which for a row without a time it is forever.
    """
    if not any(subject is not None for subject, _ in named):
        return [None] * len(named)
    with ContentKeys.open(home) as keys:
        keys.ensure(subject for subject, _ in named if subject is not None)
        return [None if subject is None else keys.seal_of(subject=subject, time=time or LONG_AGO, expires=None) or ()
                for subject, time in named]  # fmt: skip


def _row(
    keys: ContentKeys, digest: str, number: int, row: tuple[str, str], group: int | None, seal: Seal | None
) -> Row:
    if seal is None:
        return Row(*row, group)
    sealed = keys.seal(seal, _place(digest, number), msgspec.json.encode(row))
    if sealed is None:
        return Row(group=group, seal="")
    return Row(group=group, seal=b"".join(seal).hex(), sealed=b64encode(sealed).decode())


def _opened(keys: ContentKeys | None, digest: str, number: int, row: Row) -> Row | None:
    if row.seal is None:
        return row
    if keys is None or not row.seal:
        return None
    try:
        data = keys.opened(read_seal(bytes.fromhex(row.seal)), _place(digest, number), b64decode(row.sealed))
    except ValueError as error:
        raise ArtifactDamaged(f"Row {number + 1} of snapshot {digest[:16]} is not as it was written.") from error
    if data is None:
        return None
    text, answer = msgspec.json.decode(data, type=tuple[str, str])
    return Row(text, answer, row.group, row.seal)


def _write(path: Path, rows: Iterable[Row]) -> None:
    with replacing(path) as file:
        for row in rows:
            file.write(msgspec.json.encode(row) + b"\n")


def _rows(path: Path) -> Iterator[Row]:
    decode = msgspec.json.Decoder(Row).decode
    with translated_files(path), path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield decode(line)
            except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
                raise ArtifactDamaged(f"Row {number} of snapshot {path.stem[:16]} is not as it was written.") from error


def _seals(path: Path) -> Iterator[Seal]:
    """Yield the seals of a file's rows, those that can be told: a damaged line keeps nobody from being erased."""
    with translated_files(path), path.open("rb") as lines:
        for line in lines:
            if found := _SEAL.search(line):
                yield read_seal(bytes.fromhex(found[1].decode()))


def _place(digest: str, number: int) -> bytes:
    return f"snapshots {digest} {number}".encode()


def _path(home: Path, digest: str) -> Path:
    return home / FOLDER / f"{digest}.jsonl"
