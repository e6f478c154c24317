"""The traces of a running gateway in its home: who it is, and what became of the last reload.

It knows two small files, readable by the owner only. A process id is believed only while that process holds the
ledger's lock, so that no stale file ever names a stranger.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from insource.store.ledger import LOCK
from insource.store.lock import owner_of
from insource.store.sync import replacing

PID_FILE = "gateway.pid"
STATUS_FILE = "gateway.json"


class Reloaded(msgspec.Struct, frozen=True):
    """What became of the `number`th reload since the start: "loaded" or "refused", why, and when."""

    number: int = 0
    result: str = ""
    message: str = ""
    time: datetime | None = None


class Status(msgspec.Struct, frozen=True):
    """What a running gateway says of itself."""

    pid: int
    url: str
    workers: int
    reload: Reloaded = Reloaded()


class Running:
    """Writes the two files while it is entered, and removes them when it is left. Raises StoreError."""

    def __init__(self, home: Path, url: str, workers: int) -> None:
        self._home = home
        self._status = Status(os.getpid(), url, workers)

    def __enter__(self) -> Self:
        self._write()
        with replacing(self._home / PID_FILE) as file:
            file.write(f"{os.getpid()}\n".encode())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in (PID_FILE, STATUS_FILE):
            (self._home / name).unlink(missing_ok=True)

    def reloaded(self, result: str, message: str, time: datetime) -> None:
        """Tell what became of a reload."""
        number = self._status.reload.number + 1
        self._status = msgspec.structs.replace(self._status, reload=Reloaded(number, result, message, time))
        self._write()

    def _write(self) -> None:
        with replacing(self._home / STATUS_FILE) as file:
            file.write(msgspec.json.encode(self._status))


def find_running(home: Path) -> int | None:
    """Return the process id of the gateway that serves this home, None where none does."""
    try:
        told = int((home / PID_FILE).read_text("ascii"))
    except (OSError, ValueError):
        return None
    return told if owner_of(home / LOCK) == told else None


def read_status(home: Path) -> Status | None:
    """Return what the gateway of this home last said, None where it said nothing that can be read."""
    try:
        return msgspec.json.decode((home / STATUS_FILE).read_bytes(), type=Status)
    except (OSError, msgspec.MsgspecError):
        return None
