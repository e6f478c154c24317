"""Batches of texts of about the same length, one after the other without padding; numpy only.

An epoch is shuffled, cut into a few long stretches, each stretch sorted by length and cut into batches, and the
batches shuffled: little is wasted on attention over empty places, and what a batch holds still changes every epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from insource.training.students.contract import Rows

STRETCH = 50
"""Batches that are sorted by length together."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Texts as tokens: `ids` int64 of all, one text after the other; `lengths` int64 (texts,); `rows` their numbers."""

    ids: NDArray[np.int64]
    lengths: NDArray[np.int64]
    rows: Rows


class Tokenised:
    """Texts as token ids, text i `ids[starts[i]:starts[i + 1]]`."""

    def __init__(self, texts: Sequence[Sequence[int]]) -> None:
        self.lengths = np.array([len(text) for text in texts], np.int64)
        self.starts = np.concatenate([[0], np.cumsum(self.lengths)])
        self.ids = np.fromiter((token for text in texts for token in text), np.int64, int(self.starts[-1]))

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, rows: Rows) -> Batch:
        """Return these rows as one batch."""
        ids = np.concatenate([self.ids[self.starts[row] : self.starts[row + 1]] for row in rows])
        return Batch(ids, self.lengths[rows], rows)

    def epoch(self, rows: Rows, size: int, generator: np.random.Generator) -> list[Rows]:
        """Return the rows of each batch of an epoch, every row in one of them."""
        order = generator.permutation(rows)
        batches = []
        for start in range(0, len(order), size * STRETCH):
            stretch = order[start : start + size * STRETCH]
            by_length = stretch[np.argsort(self.lengths[stretch], kind="stable")]
            batches += [by_length[i : i + size] for i in range(0, len(by_length), size)]
        return [batches[i] for i in generator.permutation(len(batches))]

    def in_order(self, rows: Rows, size: int) -> list[Rows]:
        """Return rows in batches of about the same length, to be looked at once."""
        by_length = rows[np.argsort(self.lengths[rows], kind="stable")]
        return [by_length[i : i + size] for i in range(0, len(by_length), size)]
