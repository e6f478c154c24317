"""Tiles (C2SP tlog-tiles): the tree's hashes in files of 256, which are written once and never changed.

It knows files and hashes; it does not know rows. All of it can be made anew from the rows: a missing or half tile is.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from insource.store.proof.tree import HASH_BYTES, node_hash
from insource.store.sync import make_folder

WIDTH = 256
HEIGHT = 8
KEPT_TILES = 512

Leaves = Callable[[int, int], list[bytes]]
"""From a first leaf and the one behind the last to the hashes of these leaves, computed from their rows."""


def tile_path(level: int, number: int, width: int = WIDTH) -> str:
    """Return the path of a tile below the folder of tiles, such as "0/x001/234" or "1/000.p/17"."""
    digits = f"{number:03d}"
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    parts = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    name = "/".join([*(f"x{part}" for part in parts[:-1]), parts[-1]])
    return f"{level}/{name}" if width == WIDTH else f"{level}/{name}.p/{width}"


def whole_tiles(size: int) -> Iterator[tuple[int, int]]:
    """Yield level and number of every whole tile of a tree of `size` leaves, lowest level first."""
    level = 0
    while count := size >> HEIGHT * (level + 1):
        yield from ((level, number) for number in range(count))
        level += 1


def tile_root(data: bytes) -> bytes:
    """Return the root over a tile's hashes, whose number must be a power of two."""
    hashes = [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]
    while len(hashes) > 1:
        hashes = [node_hash(hashes[at], hashes[at + 1]) for at in range(0, len(hashes), 2)]
    return hashes[0]


class TileFolder:
    """The files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, level: int, number: int, width: int = WIDTH) -> bytes | None:
        """Return a tile's bytes, None where it is missing or half."""
        try:
            data = (self.folder / tile_path(level, number, width)).read_bytes()
        except OSError:
            return None
        return data if len(data) == width * HASH_BYTES else None

    def whole(self, level: int, number: int) -> bool:
        """Say whether a full tile is there in its full length."""
        try:
            return (self.folder / tile_path(level, number)).stat().st_size == WIDTH * HASH_BYTES
        except OSError:
            return False

    def write(self, level: int, number: int, data: bytes) -> None:
        """Write a tile as a whole: a full one is synced, a partial one need not outlast a power cut."""
        width = len(data) // HASH_BYTES
        path = self.folder / tile_path(level, number, width)
        make_folder(path.parent)
        descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".draft")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                if width == WIDTH:
                    os.fsync(descriptor)
            os.replace(draft, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(draft)
            raise
        if width == WIDTH:
            shutil.rmtree(path.with_name(path.name + ".p"), ignore_errors=True)
        else:
            for older in path.parent.iterdir():
                if older.name != path.name:
                    older.unlink(missing_ok=True)


class Hashes:
    """Subtree roots of the first `size` leaves: from tiles where there are any, else from the rows.

    `published` is the size for which partial tiles were written. Nothing read is trusted: whoever asks compares a root.
    """

    def __init__(self, tiles: TileFolder | None, leaves: Leaves, size: int, published: int = 0) -> None:
        self._tiles, self._leaves, self._size, self._published = tiles, leaves, size, min(published, size)
        self._kept: dict[tuple[int, int], bytes] = {}

    def subtree(self, level: int, index: int) -> bytes:
        """Return the root of the complete subtree over leaves index * 2**level to (index + 1) * 2**level."""
        tile_level, inner = divmod(level, HEIGHT)
        number, offset = divmod(index << inner, WIDTH)
        part = self.tile(tile_level, number)[offset * HASH_BYTES : (offset + (1 << inner)) * HASH_BYTES]
        if len(part) == HASH_BYTES << inner:
            return tile_root(part)
        if level == 0:
            raise ValueError(f"leaf {index} is not in a tree of {self._size}")
        return node_hash(self.subtree(level - 1, 2 * index), self.subtree(level - 1, 2 * index + 1))

    def tile(self, level: int, number: int) -> bytes:
        """Return a tile as the files have it, or of the lowest level as the rows make it; empty where neither does."""
        found = self._kept.get((level, number))
        if found is None:
            if len(self._kept) >= KEPT_TILES:
                self._kept.clear()
            found = self._kept[level, number] = self._read(level, number)
        return found

    def made(self, level: int, number: int) -> bytes:
        """Return a whole tile computed from the level below, or the rows."""
        first = number * WIDTH
        if level == 0:
            return b"".join(self._leaves(first, first + WIDTH))
        return b"".join(tile_root(self.tile(level - 1, first + each)) for each in range(WIDTH))

    def _read(self, level: int, number: int) -> bytes:
        first = number * WIDTH
        if self._tiles is not None:
            width = min((self._published >> HEIGHT * level) - first, WIDTH)
            whole = (self._size >> HEIGHT * level) - first >= WIDTH
            found = self._tiles.read(level, number) if whole else None
            if found is None and level and 0 < width < WIDTH:
                found = self._tiles.read(level, number, width)
            if found is not None:
                return found
        return b"".join(self._leaves(first, min(first + WIDTH, self._size))) if level == 0 else b""


class TileWriter:
    """Appends leaf hashes and writes the tiles that they fill; `partial` writes what is not full yet."""

    def __init__(self, tiles: TileFolder, size: int, hashes: Hashes) -> None:
        self._tiles = tiles
        self._open: list[list[bytes]] = []
        self._numbers: list[int] = []
        level = 0
        while level == 0 or size >> HEIGHT * level:
            count = size >> HEIGHT * level
            number = count // WIDTH
            self._numbers.append(number)
            self._open.append([hashes.subtree(HEIGHT * level, each) for each in range(number * WIDTH, count)])
            level += 1

    def push(self, hashes: list[bytes], level: int = 0) -> None:
        """Take further leaf hashes (or roots of full tiles, on higher levels), and write the tiles that become full."""
        if level == len(self._open):
            self._open.append([])
            self._numbers.append(0)
        waiting = self._open[level]
        waiting += hashes
        while len(waiting) >= WIDTH:
            data = b"".join(waiting[:WIDTH])
            self._tiles.write(level, self._numbers[level], data)
            del waiting[:WIDTH]
            self._numbers[level] += 1
            self.push([tile_root(data)], level + 1)

    def partial(self) -> None:
        """Write the partial tiles of the size reached."""
        for level, waiting in enumerate(self._open):
            if waiting:
                self._tiles.write(level, self._numbers[level], b"".join(waiting))
