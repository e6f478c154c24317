"""Groups of near-duplicate texts, so that none straddles two splits.

MinHash signatures propose pairs, the exact Jaccard similarity of word 3-grams decides; it knows only texts.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SIMILAR = 0.8
BANDS = 16
ROWS_PER_BAND = 4
WORDS_PER_SHINGLE = 3


def near_duplicate_groups(texts: Sequence[str], given: Sequence[str | None] | None = None) -> NDArray[np.intp]:
    """Return a group number for each text, int (n,): the number of the group's first text.

    Texts whose sets of word 3-grams have a Jaccard similarity of at least 0.8 share a group, and so do texts that
    `given` puts into one. Each text is compared with the first of its bucket, in each of 16 bands of 4 hashes, which
    proposes a pair at similarity 0.8 with probability 0.9998.
    Source: Broder, On the resemblance and containment of documents (1997); banding: Leskovec, Rajaraman and Ullman,
    Mining of Massive Datasets (2014), section 3.4; hashes: multiply-shift (Dietzfelbinger et al., 1997).
    """
    sets = [_shingles(text) for text in texts]
    groups = _Groups(len(texts))
    if sets:
        for band in _bands(sets):
            firsts: dict[bytes, int] = {}
            for number, key in enumerate(band):
                first = firsts.setdefault(key, number)
                if first != number and groups.of(first) != groups.of(number) and _similar(sets[first], sets[number]):
                    groups.join(first, number)
    named: dict[str, int] = {}
    for number, name in enumerate(given or ()):
        if name is not None:
            groups.join(named.setdefault(name, number), number)
    return np.array([groups.of(number) for number in range(len(texts))], dtype=np.intp)


def _shingles(text: str) -> frozenset[int]:
    words = text.lower().split()
    if len(words) <= WORDS_PER_SHINGLE:
        return frozenset((zlib.crc32(" ".join(words).encode("utf-8", "replace")),))
    return frozenset(
        zlib.crc32(" ".join(words[i : i + WORDS_PER_SHINGLE]).encode("utf-8", "replace"))
        for i in range(len(words) - WORDS_PER_SHINGLE + 1)
    )


def _bands(sets: Sequence[frozenset[int]]) -> list[list[bytes]]:
    """Return, for each band, the bucket of every text."""
    starts = np.cumsum([0, *(len(shingles) for shingles in sets[:-1])])
    flat = np.fromiter((shingle for shingles in sets for shingle in shingles), np.uint64)
    generator = np.random.default_rng(0)
    bands: list[list[bytes]] = []
    for _ in range(BANDS):
        columns = []
        for _ in range(ROWS_PER_BAND):
            factor, shift = generator.integers(0, 1 << 63, size=2, dtype=np.uint64)
            hashed = (flat * (factor | np.uint64(1)) + shift) >> np.uint64(32)
            columns.append(np.minimum.reduceat(hashed, starts))
        bands.append([row.tobytes() for row in np.stack(columns, axis=1)])
    return bands


def _similar(first: frozenset[int], second: frozenset[int]) -> bool:
    shared = len(first & second)
    return shared >= SIMILAR * (len(first) + len(second) - shared)


class _Groups:
    """Disjoint sets of row numbers, each named by its lowest."""

    def __init__(self, rows: int) -> None:
        self._parent = list(range(rows))

    def of(self, row: int) -> int:
        """Return the lowest row of the group that `row` belongs to."""
        parent = self._parent
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    def join(self, first: int, second: int) -> None:
        """Make one group of two."""
        low, high = sorted((self.of(first), self.of(second)))
        self._parent[high] = low
