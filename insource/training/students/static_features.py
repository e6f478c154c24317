"""Words and pairs of texts as matrices, and two kinds of columns side by side.

It counts and weighs; what is learned of the columns is the static student's business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from insource.training.students.logistic import Matrix

FEWEST = 2
TINY = 1e-30


@dataclass(frozen=True, slots=True)
class Units:
    """`has` CSR (n, V): 1 where a text has a unit; `parts` CSR (V, P): 1 where a unit has a part; and their names."""

    has: Any
    parts: Any
    names: tuple[str, ...]
    part_names: tuple[str, ...]

    @classmethod
    def of(cls, rows: Sequence[Sequence[str]], more: Sequence[str], parts_of: Callable[[str], list[str]]) -> Units:
        """Number the units of texts in the order in which they first appear, `more` after them, and their parts."""
        columns: dict[str, int] = {}
        has = _indicators(rows, columns)
        for name in more:
            columns.setdefault(name, len(columns))
        has.resize(len(rows), len(columns))
        numbers: dict[str, int] = {}
        parts = _indicators([parts_of(name) for name in columns], numbers)
        return cls(has, parts, tuple(columns), tuple(numbers))


@dataclass(frozen=True, slots=True)
class Weighed:
    """The units that some rows have: `rows` CSR (n, U), weighed and of length one; `parts` CSR (U, P), likewise.

    `columns` are the units' numbers, `weights` their inverse document frequencies and `unknown` that of all others;
    `counts` says in how many rows each is. `kept` and `part_weights` are the same of the parts.
    """

    rows: Any
    columns: NDArray[np.intp]
    counts: NDArray[np.intp]
    weights: Matrix
    unknown: float
    parts: Any
    kept: NDArray[np.intp]
    part_weights: Matrix

    @classmethod
    def of(cls, units: Units, rows: NDArray[np.intp], fewest: int, most: int) -> Weighed:
        """Weigh the units of the given rows; those in less than `fewest` of them weigh as much as unknown ones.

        At most the `most` most frequent parts, in at least two units (or in one, where there is but one), are kept.
        """
        has = units.has[rows]
        seen = np.bincount(has.indices, minlength=has.shape[1])
        columns = np.flatnonzero(seen)
        counts = seen[columns]
        unknown = float(np.log1p(len(rows)) + 1.0)
        weights = np.where(counts >= fewest, np.log((1.0 + len(rows)) / (1.0 + counts)) + 1.0, unknown)
        chosen = has[:, columns]
        chosen.data = weights.astype(np.float32)[chosen.indices]
        own = units.parts[columns]
        part_counts = np.bincount(own.indices, minlength=own.shape[1])
        kept = most_frequent(part_counts, min(FEWEST, len(columns)), most)
        part_weights = (np.log((1.0 + len(columns)) / (1.0 + part_counts[kept])) + 1.0).astype(np.float32)
        parts = weighed_parts(units, columns, kept, part_weights)
        return cls(
            of_length_one(chosen), columns, counts, weights.astype(np.float32), unknown, parts, kept, part_weights
        )


def weighed_parts(units: Units, columns: NDArray[np.intp], kept: NDArray[np.intp], weights: Matrix) -> Any:
    """Return the kept parts of some units, weighed and of length one, CSR (len(columns), len(kept))."""
    found = units.parts[columns][:, kept]
    found.data = weights[found.indices]
    return of_length_one(found)


def most_frequent(counts: NDArray[np.intp], fewest: int, most: int) -> NDArray[np.intp]:
    """Return, in order, the numbers of the at most `most` highest counts that are at least `fewest` and not 0."""
    found = np.argsort(-counts, kind="stable")[:most]
    return np.sort(found[counts[found] >= max(fewest, 1)])


def of_length_one(rows: Any) -> Any:
    """Return CSR rows divided by their lengths; empty ones stay empty."""
    squares = np.add.reduceat(np.append(np.square(rows.data), 0.0), np.minimum(rows.indptr[:-1], rows.nnz))
    scale = 1.0 / np.sqrt(np.maximum(squares, TINY))
    rows.data = (rows.data * np.repeat(scale, np.diff(rows.indptr))).astype(np.float32)
    return rows


class Beside:
    """Sparse columns float32 CSR (n, S), then dense ones float32 (n, D), in as much as `fit_logistic` asks of rows.

    That is: products, `T`, `shape`, and entries (`indices`, `data`), here one for each column with its root sum square.
    """

    def __init__(self, sparse: Any, dense: Matrix) -> None:
        self._sparse, self._dense = sparse, np.ascontiguousarray(dense)
        self.shape = (sparse.shape[0], sparse.shape[1] + dense.shape[1])
        squares = np.bincount(sparse.indices, weights=np.square(sparse.data), minlength=sparse.shape[1])
        self.indices = np.arange(self.shape[1])
        self.data = np.sqrt(np.append(squares, np.square(dense).sum(axis=0, dtype=np.float64)))

    @property
    def T(self) -> _Above:  # noqa: N802 - as numpy calls it
        """The transpose."""
        return _Above(self._sparse.T.tocsr(), np.ascontiguousarray(self._dense.T))

    def tocsr(self) -> Beside:
        """Return itself."""
        return self

    def __matmul__(self, weights: Matrix) -> Matrix:
        split = self._sparse.shape[1]
        found: Matrix = self._sparse @ weights[:split]
        found += self._dense @ weights[split:]
        return found


class _Above:
    """The transpose of `Beside`."""

    def __init__(self, sparse: Any, dense: Matrix) -> None:
        self._sparse, self._dense = sparse, dense

    def tocsr(self) -> _Above:
        return self

    def __matmul__(self, rows: Matrix) -> Matrix:
        return np.concatenate([self._sparse @ rows, self._dense @ rows])


def _indicators(rows: Sequence[Sequence[str]], columns: dict[str, int]) -> Any:
    """Return CSR float32 (len(rows), len(columns)) of ones, numbering new names into `columns`; no name twice a row."""
    found = [columns.setdefault(name, len(columns)) for row in rows for name in row]
    ends = np.cumsum([0, *(len(row) for row in rows)])
    ones = np.ones(len(found), np.float32)
    return scipy.sparse.csr_matrix((ones, np.array(found, np.intp), ends), shape=(len(rows), len(columns)))
