"""The linear student: n-grams, tf-idf, multinomial logistic regression.

It learns what `backends.linear` serves and knows no task.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from insource.backends.engine import softmax
from insource.backends.linear import LinearEngine
from insource.backends.ngrams import VERSION, ngrams
from insource.errors import DataError
from insource.training.students.contract import Classes, Probabilities, Progress, Rows
from insource.training.students.heads import Head, Heads, fit_heads
from insource.training.students.logistic import Matrix, fit_logistic

STRENGTH = 15.0
MOST_WEIGHTS = 4_000_000
PROGRESS_EVERY = 500


@dataclass(frozen=True, slots=True)
class Block:
    """The counts of one kind of n-gram: `counts` CSR float32 (n, V), and the name of each column."""

    counts: Any
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Counts:
    """Texts as counted n-grams."""

    words: Block
    characters: Block

    def __len__(self) -> int:
        return int(self.words.counts.shape[0])


@dataclass(frozen=True, slots=True)
class _Fitted:
    """The columns of one block that are used, and their inverse document frequencies."""

    columns: NDArray[np.intp]
    idf: NDArray[np.float32]


class LinearStudent:
    """`strength` is the inverse of the penalty.

    Every n-gram of the training rows counts where that makes at most `most_weights` weights; else those in two rows or
    more (a rare n-gram helps a little, and costs as much as a frequent one). `heads` learn the answers field by field.
    """

    family: ClassVar[str] = "linear"

    def __init__(
        self, *, strength: float = STRENGTH, most_weights: int = MOST_WEIGHTS, heads: Heads | None = None
    ) -> None:
        self.strength = strength
        self.most_weights = most_weights
        self.heads = heads

    def prepare(self, texts: Sequence[str], progress: Progress | None = None) -> Counts:
        """Count the n-grams of each text."""
        words, characters = _Counter(), _Counter()
        for number, text in enumerate(texts):
            first, second = ngrams(text)
            words.add(first)
            characters.add(second)
            if progress is not None and number % PROGRESS_EVERY == 0:
                progress(number, len(texts))
        if progress is not None:
            progress(len(texts), len(texts))
        return Counts(words.block(), characters.block())

    def fit(self, prepared: Counts, rows: Rows, classes: Classes, n_classes: int, start: Self | None = None) -> Self:
        """Choose the n-grams, weigh them by the training rows, and fit the regression."""
        seen = [np.bincount(block.counts[rows].indices, minlength=len(block.names)) for block in _blocks(prepared)]
        every = sum(np.count_nonzero(counts) for counts in seen) * n_classes
        fewest = 1 if every <= self.most_weights else min(2, len(rows))
        self._words_, self._characters_ = (_choose(counts, fewest, len(rows)) for counts in seen)
        self._names_ = (prepared.words.names, prepared.characters.names)
        begin = None if start is None else (self._weights_of(start), start.bias_)
        vectors = self._vectors(prepared, rows)

        def fit(own: Classes, count: int, begin: Head | None) -> Head:
            return fit_logistic(vectors, own, count, strength=self.strength, start=begin)

        self.weights_: Matrix
        self.bias_: Matrix
        self.weights_, self.bias_ = fit_heads(self.heads, fit, classes, n_classes, begin)
        return self

    def probabilities(self, prepared: Counts, rows: Rows) -> Probabilities:
        """Return float64 (len(rows), K)."""
        if not hasattr(self, "weights_"):
            raise DataError("This student has learned nothing yet; its `fit` was expected first. Call `fit`.")
        return softmax(self._vectors(prepared, rows) @ self.weights_ + self.bias_)

    def fresh(self) -> Self:
        """Return an unfitted student with the same choices."""
        return type(self)(strength=self.strength, most_weights=self.most_weights, heads=self.heads)

    def tilted(self, shift: NDArray[np.float32]) -> Self:
        """Return a fitted student like this one, with `shift` (K,) added to the logits."""
        found = copy(self)
        found.bias_ = self.bias_ + shift
        return found

    def engine(self) -> LinearEngine:
        """Return the engine that serves what was learned."""
        words, characters = (
            [names[column] for column in fitted.columns]
            for names, fitted in zip(self._names_, (self._words_, self._characters_), strict=True)
        )
        idf = np.concatenate([self._words_.idf, self._characters_.idf])
        return LinearEngine(words, characters, idf, self.weights_, self.bias_)

    def to_artifact(self, folder: Path) -> dict[str, Any]:
        """Write `linear.safetensors`."""
        self.engine().save(folder)
        return {"ngrams": VERSION, "features": len(self.weights_), "strength": self.strength}

    def _weights_of(self, start: Self) -> NDArray[np.float32]:
        """Return the weights of `start` on this student's columns, 0 on those that it does not have."""
        known, parts = np.split(start.weights_, [len(start._words_.columns)]), []
        for ours, theirs, weights in zip(
            (self._words_, self._characters_), (start._words_, start._characters_), known, strict=True
        ):
            _, here, there = np.intersect1d(ours.columns, theirs.columns, assume_unique=True, return_indices=True)
            part = np.zeros((len(ours.columns), weights.shape[1]), np.float32)
            part[here] = weights[there]
            parts.append(part)
        return np.vstack(parts)

    def _vectors(self, prepared: Counts, rows: Rows) -> Any:
        blocks = [
            _weighted(block.counts[rows], fitted)
            for block, fitted in zip(_blocks(prepared), (self._words_, self._characters_), strict=True)
        ]
        return _of_length_one(scipy.sparse.hstack(blocks, format="csr"))


class _Counter:
    """Gathers n-grams row by row; columns are numbered in the order in which n-grams first appear."""

    def __init__(self) -> None:
        self._columns: dict[str, int] = {}
        self._found = array("i")
        self._ends = array("q", [0])

    def add(self, names: list[str]) -> None:
        """Add a row."""
        column = self._columns
        self._found.extend([column.setdefault(name, len(column)) for name in names])
        self._ends.append(len(self._found))

    def block(self) -> Block:
        """Return all rows as counts."""
        found, ends = np.frombuffer(self._found, np.int32), np.frombuffer(self._ends, np.int64)
        ones = np.ones(len(found), np.float32)
        counts = scipy.sparse.csr_matrix((ones, found, ends), shape=(len(ends) - 1, len(self._columns)))
        counts.sum_duplicates()
        return Block(counts, tuple(self._columns))


def _blocks(prepared: Counts) -> tuple[Block, Block]:
    return prepared.words, prepared.characters


def _choose(seen: NDArray[np.intp], fewest: int, rows: int) -> _Fitted:
    """Return the n-grams seen in at least `fewest` of `rows` rows, and their smoothed inverse document frequencies."""
    columns = np.flatnonzero(seen >= fewest)
    idf = np.log((1.0 + rows) / (1.0 + seen[columns])) + 1.0
    return _Fitted(columns, idf.astype(np.float32))


def _weighted(counts: Any, fitted: _Fitted) -> Any:
    chosen = counts[:, fitted.columns]
    chosen.data = (1.0 + np.log(chosen.data)) * fitted.idf[chosen.indices]
    return _of_length_one(chosen)


def _of_length_one(rows: Any) -> Any:
    squares = scipy.sparse.csr_matrix((np.square(rows.data), rows.indices, rows.indptr), shape=rows.shape)
    lengths = np.sqrt(squares @ np.ones(rows.shape[1], np.float32))
    scale = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0).astype(np.float32)
    rows.data *= np.repeat(scale, np.diff(rows.indptr))
    return rows
