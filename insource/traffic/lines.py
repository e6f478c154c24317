"""The lines of a file, plain or gzip (told by its first bytes), one at a time, with their numbers and offsets.

It knows bytes and files; neither JSON nor requests.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self, cast

from insource.errors import TrafficError

MAX_LINE_BYTES = 64 * 2**20
"""A longer line is a bad line, and is passed over without being held in memory."""

_GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_REPORT_EVERY = 1_000


class Line(NamedTuple):
    """One line that is not blank; `data` is None where it is longer than MAX_LINE_BYTES. `offset` is in bytes."""

    number: int
    offset: int
    data: bytes | None


class LineFile:
    """A traffic file being read: iterate it for its lines.

    After the last line `damage` says why a gzip file ended early, or is None. `progress` gets the bytes read so far
    and the bytes in all, as they lie on disk. Raises TrafficError where the path cannot be read as lines of text.
    """

    def __init__(self, path: Path, progress: Callable[[int, int], None] | None = None) -> None:
        self._path = path
        self._progress = progress
        self._file = _opened(path)
        self.damage: str | None = None
        try:
            self._size = os.fstat(self._file.fileno()).st_size
            first = self._file.read(3)
            self._file.seek(0)
        except OSError as error:
            self._file.close()
            raise _unreadable(path, error) from error
        if first[:2] in _UTF16:
            self._file.close()
            raise TrafficError(f"{path} is UTF-16; UTF-8 was expected. Convert it, for instance with iconv.")
        zipped = first[:2] == _GZIP
        self._lines = cast(BinaryIO, gzip.GzipFile(fileobj=self._file)) if zipped else self._file

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[Line]:
        try:
            yield from self._each()
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            self.damage = str(error)
        except OSError as error:
            raise _unreadable(self._path, error) from error
        self._report()

    def _each(self) -> Iterator[Line]:
        number = offset = 0
        readline = self._lines.readline
        while data := readline(MAX_LINE_BYTES + 1):
            number += 1
            start, offset = offset, offset + len(data)
            if number == 1 and data.startswith(_BOM):
                data, start = data[3:], 3
            if len(data) > MAX_LINE_BYTES and not data.endswith(b"\n"):
                offset += self._pass_over()
                yield Line(number, start, None)
            elif not data.isspace() and data:
                yield Line(number, start, data)
            if number % _REPORT_EVERY == 0:
                self._report()

    def _pass_over(self) -> int:
        passed = 0
        while data := self._lines.readline(2**20):
            passed += len(data)
            if data.endswith(b"\n"):
                break
        return passed

    def _report(self) -> None:
        if self._progress is not None:
            self._progress(min(self._file.tell(), self._size), self._size)


def _opened(path: Path) -> BinaryIO:
    if path.is_dir():
        raise TrafficError(f"{path} is a folder; a file of JSON lines was expected. Name one file in it.")
    try:
        return open(path, "rb")
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> TrafficError:
    if isinstance(error, FileNotFoundError):
        return TrafficError(f"{path} does not exist; a file of JSON lines was expected. Check the path.")
    what = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return TrafficError(f"{path} cannot be read: {what}. A readable file of JSON lines was expected. "
                        "Check the path and its permissions.")  # fmt: skip
