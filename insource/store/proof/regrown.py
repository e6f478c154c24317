"""The tree made anew while the rows go by, and where tiles differ from it.

It compares; whether the rows or a tile are wrong is settled by the roots, and said by `verify`.
"""

from __future__ import annotations

from insource.store.proof.tiles import HEIGHT, WIDTH, TileFolder, tile_path, tile_root
from insource.store.proof.tree import HASH_BYTES, Frontier


class Regrown:
    """A tree over the rows pushed so far. `published` is the size whose partial tiles are compared as well.

    `differences` are pairs of a tile's path and the last row under its first hash that differs, for the lowest level
    with that row exactly; `compared` and `missing` count tiles.
    """

    def __init__(self, tiles: TileFolder | None, published: int) -> None:
        self._tiles, self._published = tiles, published
        self._open: list[list[bytes]] = [[]]
        self._numbers = [0]
        self.frontier = Frontier()
        self.differences: list[tuple[str, int, int]] = []
        self.compared = self.missing = 0

    def push(self, leaf: bytes) -> None:
        """Append a leaf's hash; compare the tiles that it fills, and the partial ones at the published size."""
        self.frontier = self.frontier.extended((leaf,))
        level, hashed = 0, leaf
        while True:
            self._open[level].append(hashed)
            if len(self._open[level]) < WIDTH:
                break
            data = b"".join(self._open[level])
            self._compare(level, self._numbers[level], data)
            self._open[level] = []
            self._numbers[level] += 1
            level, hashed = level + 1, tile_root(data)
            if level == len(self._open):
                self._open.append([])
                self._numbers.append(0)
        if self.frontier.size == self._published:
            for level, waiting in enumerate(self._open):
                if waiting:
                    self._compare(level, self._numbers[level], b"".join(waiting))

    def _compare(self, level: int, number: int, made: bytes) -> None:
        if self._tiles is None:
            return
        width = len(made) // HASH_BYTES
        stored = self._tiles.read(level, number, width)
        if stored is None:
            self.missing += 1
            return
        self.compared += 1
        if stored != made:
            at = next(
                at
                for at in range(width)
                if stored[at * HASH_BYTES :][:HASH_BYTES] != made[at * HASH_BYTES :][:HASH_BYTES]
            )
            last = (number * WIDTH + at + 1) << HEIGHT * level
            self.differences.append((tile_path(level, number, width), level, last))
