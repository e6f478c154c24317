"""Writing a traffic file whole or not at all: beside its place first, then renamed.

It knows mappings and bytes; not what the records mean.
"""

from __future__ import annotations

import gzip
import os
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from insource.errors import TrafficError


def write(path: str | Path, records: Iterable[Mapping[str, Any]]) -> int:
    """Write records as JSON lines, gzip where the name ends in .gz, and return how many.

    The file appears complete or stays as it was, even where `records` raises half-way. Equal records give equal bytes.
    Times become ISO 8601, Decimals text. Raises TrafficError where the folder cannot be written.
    """
    path = Path(path)
    try:
        handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.", suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                count = _write_lines(file, records, zipped=path.suffix == ".gz")
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(beside)
            raise
    except OSError as error:
        raise TrafficError(
            f"{path} cannot be written: {error.strerror or error}; a folder with room and permission was expected. "
            "Nothing was changed; choose another path."
        ) from error
    return count


def _write_lines(file: BinaryIO, records: Iterable[Mapping[str, Any]], *, zipped: bool) -> int:
    encoder = msgspec.json.Encoder()
    out: Any = gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) if zipped else file
    count = 0
    for record in records:
        out.write(encoder.encode(record) + b"\n")
        count += 1
    if zipped:
        out.close()
    return count
