"""A disk that can lose its power: a layer under SQLite that records every write, and what may be left of them.

SQLite runs on real files through APSW's file layer, shared memory included; nothing is really synced. What a power cut
leaves is worked out from the record: synced bytes stay, others stay, vanish, tear at 512 bytes or turn to noise, and
names follow the same rule. It knows files and bytes, no table.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from insource.store import database

SECTOR = 512
PRAGMA = 14  # SQLITE_FCNTL_PRAGMA
CHECKPOINT_PAGES = 60  # far more often than in service, so that cuts fall into checkpoints as well
BROKEN_PAGES = 320  # a broken build syncs at checkpoints alone: were they as frequent, it would lose too seldom
MODES = (*("drop", "some", "torn", "noise") * 2, "keep")

Event = tuple[Any, ...]
Fault = Callable[[str, str], Exception | None]
"""Called with ("write", "sync", "truncate" or "delete") and the file's name before each call."""


@dataclass
class Record:
    """Everything that was asked of the disk, in order, and between it what callers were told is durable."""

    events: list[Event] = field(default_factory=list)

    def acknowledge(self, what: object) -> None:
        """Note that a caller was told that `what` is durable."""
        self.events.append(("acknowledged", what))

    def moment(self, chance: random.Random) -> int:
        """Return a moment for a cut: mostly while callers were being told of their rows, else any."""
        told = [place for place, event in enumerate(self.events) if event[0] == "acknowledged"]
        if told and chance.random() < 0.8:
            return chance.randint(told[0] + 1, min(told[-1] + 5, len(self.events)))
        return chance.randint(1, len(self.events))

    def acknowledged(self, cut: int) -> list[Any]:
        """Return what was acknowledged before the cut, in order."""
        return [event[1] for event in self.events[:cut] if event[0] == "acknowledged"]


@contextmanager
def recording(folder: Path, *, broken: bool = False, fault: Fault | None = None) -> Iterator[Record]:
    """Record what SQLite does to the files in `folder`; every connection opened inside goes through the layer.

    `broken` makes each of them run with synchronous=NORMAL, whatever the store asks for.
    """
    record = Record()
    layer = _Layer(record, str(folder), broken, fault)

    def prepare(connection: apsw.Connection) -> None:
        if broken:
            connection.execute("PRAGMA synchronous = NORMAL")

    own, database.CHECKPOINT_PAGES = database.CHECKPOINT_PAGES, BROKEN_PAGES if broken else CHECKPOINT_PAGES
    apsw.connection_hooks.append(prepare)
    try:
        yield record
    finally:
        database.CHECKPOINT_PAGES = own
        apsw.connection_hooks.remove(prepare)
        layer.unregister()


class _Layer(apsw.VFS):
    def __init__(self, record: Record, folder: str, broken: bool, fault: Fault | None) -> None:
        self.record, self.folder, self.broken, self.fault = record, folder, broken, fault
        self.known: set[str] = set()
        self.below = apsw.vfs_names()[0]  # the system's own
        super().__init__("recorded", self.below, makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if path is None or not path.startswith(self.folder):
            return apsw.VFSFile(self.below, name, flags)
        if path not in self.known:
            self.known.add(path)
            self.record.events.append(("create", path, Path(path).read_bytes() if Path(path).exists() else b""))
        return _File(self, name, flags, path)

    def xDelete(self, path: str, synced: bool) -> None:  # noqa: N802
        self.check("delete", path)
        super().xDelete(path, synced)
        self.known.discard(path)
        self.record.events.append(("delete", path, synced))

    def check(self, call: str, path: str) -> None:
        """Fail where the fault says so; a failed sync leaves it open what was written, now and for ever."""
        error = self.fault(call, path) if self.fault else None
        if error is not None:
            if call == "sync":
                self.record.events.append(("failed", path))
            raise error


class _File(apsw.VFSFile):
    def __init__(self, layer: _Layer, name: Any, flags: list[int], path: str) -> None:
        super().__init__(layer.below, name, flags)
        self.layer, self.path = layer, path

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self.layer.check("write", self.path)
        super().xWrite(data, offset)
        self.layer.record.events.append(("write", self.path, offset, bytes(data)))

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self.layer.check("truncate", self.path)
        super().xTruncate(size)
        self.layer.record.events.append(("truncate", self.path, size))

    def xSync(self, flags: int) -> None:  # noqa: N802
        self.layer.check("sync", self.path)
        self.layer.record.events.append(("sync", self.path))

    def xFileControl(self, operation: int, pointer: int) -> bool:  # noqa: N802
        if operation == PRAGMA and self.layer.broken:
            asked = apsw.VFSFcntlPragma(pointer)
            if asked.name == "synchronous" and asked.value != "NORMAL":
                return True  # heard, and not done
        return super().xFileControl(operation, pointer)


@dataclass(eq=False)
class _Kept:
    """One file: what of it is safe, and what was written since."""

    safe: bytearray
    pending: list[Event] = field(default_factory=list)
    named: bool = False

    def settle(self, events: list[Event]) -> None:
        for event in events:
            _apply(self.safe, event)
        self.pending.clear()


def left_after(record: Record, cut: int, chance: random.Random) -> dict[str, bytes]:
    """Return the files, by name, that one possible power cut after `cut` events leaves."""
    names: dict[str, _Kept] = {}  # as the disk has them
    live: dict[str, _Kept] = {}  # as the process sees them
    waiting: list[tuple[str, _Kept | None]] = []

    def name_all(number: int) -> None:
        for name, kept in waiting[:number]:
            if kept is None:
                names.pop(name, None)
            else:
                names[name] = kept
        del waiting[:number]

    for event in record.events[:cut]:
        kind, name = event[0], event[1]
        if kind == "create":
            live[name] = _Kept(bytearray(event[2]))
            waiting.append((name, live[name]))
        elif kind == "delete":
            live.pop(name, None)
            waiting.append((name, None))
            name_all(len(waiting) if event[2] else 0)
        elif kind in ("write", "truncate"):
            live[name].pending.append(event)
        elif kind == "sync":
            live[name].settle(live[name].pending)
            if not live[name].named and name.endswith(("-wal", "-journal")):
                name_all(len(waiting))  # SQLite syncs the folder with the first sync of a journal
                live[name].named = True
        elif kind == "failed":
            live[name].settle([each for each in live[name].pending if chance.random() < 0.5])
    name_all(chance.randint(0, len(waiting)))
    mode = chance.choice(MODES)
    for kept in names.values():
        kept.settle(list(_survivors(kept.pending, mode, chance)))
    return {name: bytes(kept.safe) for name, kept in names.items()}


def write_files(files: dict[str, bytes], folder: Path) -> None:
    """Lay the files into a new folder under their last names."""
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / Path(name).name).write_bytes(data)


def _survivors(pending: list[Event], mode: str, chance: random.Random) -> Iterator[Event]:
    for event in pending:
        if mode == "keep":
            yield event
        elif mode == "some" or event[0] == "truncate":
            if mode != "drop" and chance.random() < 0.5:
                yield event
        elif mode in ("torn", "noise"):
            yield from _torn(event, mode == "noise", chance)


def _torn(event: Event, noise: bool, chance: random.Random) -> Iterator[Event]:
    """Yield those sectors of a write that came through, and noise for some that did not."""
    _, name, offset, data = event
    place = 0
    while place < len(data):
        size = min(SECTOR - (offset + place) % SECTOR, len(data) - place)
        if chance.random() < 0.5:
            yield "write", name, offset + place, data[place : place + size]
        elif noise and chance.random() < 0.3:
            yield "write", name, offset + place, chance.randbytes(size)
        place += size


def _apply(content: bytearray, event: Event) -> None:
    if event[0] == "truncate":
        del content[event[2] :]
        content.extend(bytes(event[2] - len(content)))
        return
    offset, data = event[2], event[3]
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data
