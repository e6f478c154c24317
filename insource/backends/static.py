"""The static engine: words and pairs of neighbouring words, each with one stored vector, summed; in numpy alone.

It reads 8-bit tables from safetensors and knows nothing of how they were learned, nor of any encoder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from insource.backends.arrays import write_arrays
from insource.backends.engine import Evidence, Probabilities, softmax
from insource.backends.model_files import read_arrays
from insource.errors import ArtifactDamaged

FILE = "static.safetensors"
VERSION = 1
"""Raised whenever `units` or the parts of a unit would come out differently; a stored model names its own."""

SHOWN = 12
PART_ORDERS = (2, 3, 4, 5)
MOST_CHARACTERS = 40
SPANS = ((1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (3, 1))
LIMIT = 127
TINY = 1e-30

_WORDS = re.compile(r"\w+|[^\w\s]")
_SEPARATOR = "\n"  # stands in no name: white space separates words, and a pair is joined by a blank


def units(text: str) -> tuple[list[str], list[str]]:
    """Return the words of a text and its pairs of neighbouring words ("my card"), lower case, each once, in order."""
    words = _WORDS.findall(text.lower())
    pairs = map(" ".join, zip(words, words[1:], strict=False))
    return list(dict.fromkeys(words)), list(dict.fromkeys(pairs))


def word_parts(word: str) -> list[str]:
    """Return the character n-grams (orders 2 to 5) in <word>, but for the whole, once; 40 characters at most."""
    marked = f"<{word[:MOST_CHARACTERS]}>"
    length = len(marked)
    orders = PART_ORDERS[: length - PART_ORDERS[0]]
    return list(dict.fromkeys([marked[at : at + order] for order in orders for at in range(length - order + 1)]))


def pair_parts(pair: str) -> list[str]:
    """Return what stands around the blank of a pair, each once: up to 3 characters on a side, 4 in all."""
    first, _, second = pair.partition(" ")
    before, after = len(first), len(second)
    return [f"{first[-i:]} {second[:j]}" for i, j in SPANS if i <= before and j <= after]


@dataclass(frozen=True, slots=True)
class Table:
    """Named vectors: `values` int8 (V, K) times `scales` float32 (V,), and the `weights` float32 (V,) of the names."""

    names: tuple[str, ...]
    values: NDArray[np.int8]
    scales: NDArray[np.float32]
    weights: NDArray[np.float32]

    @classmethod
    def rounded(cls, names: Sequence[str], vectors: NDArray[np.float32], weights: NDArray[np.float32]) -> Self:
        """Return the table of float32 (V, K), each vector rounded to 8 bits with a scale of its own."""
        largest = np.abs(vectors).max(axis=1, initial=0.0)
        scales = (np.maximum(largest, TINY) / LIMIT).astype(np.float32)
        values = np.clip(np.rint(vectors / scales[:, None]), -LIMIT, LIMIT).astype(np.int8)
        return cls(tuple(names), values, scales, weights.astype(np.float32))


class Block:
    """One kind of unit: the units that have a vector of their own, and the parts that stand in for all others.

    A weight, of a unit or a part, is its inverse document frequency, and in its vector already; `unknown` is that of
    all other units. What a text says is the sum of its units' vectors over the square root of the sum of their squared
    weights. `rows` and `part_rows` number both in one table; `squares` are the squared weights of its rows.
    """

    def __init__(
        self,
        rows: Mapping[str, int],
        part_rows: Mapping[str, int],
        parts_of: Callable[[str], list[str]],
        unknown: float,
        squares: list[float],
    ) -> None:
        self._rows, self._part_rows, self._parts_of = rows, part_rows, parts_of
        self._unknown, self._squares = unknown, squares

    def read(self, names: list[str]) -> tuple[list[int], list[float]]:
        """Return the rows whose sum is what the units say, and the share of each."""
        known = [row for row in map(self._rows.get, names) if row is not None]
        missing = len(names) - len(known)
        share = 1.0 / sqrt(sum(map(self._squares.__getitem__, known)) + missing * self._unknown**2 or 1.0)
        shares = [share] * len(known)
        if missing:
            for name in names:
                if name not in self._rows:
                    parts, times = self._made_of(name)
                    known += parts
                    shares += [share * times] * len(parts)
        return known, shares

    def each(self, names: list[str]) -> Iterator[tuple[str, list[int], list[float]]]:
        """Yield each unit with the rows that make up its part of what `read` returns, and their shares."""
        squares = [self._squares[self._rows[name]] if name in self._rows else self._unknown**2 for name in names]
        share = 1.0 / sqrt(sum(squares) or 1.0)
        for name in names:
            row = self._rows.get(name)
            rows, times = self._made_of(name) if row is None else ([row], 1.0)
            yield name, rows, [share * times] * len(rows)

    def _made_of(self, name: str) -> tuple[list[int], float]:
        """Return the known parts that stand in for a unit, and what each is to be multiplied by to weigh as much."""
        rows = [row for row in map(self._part_rows.get, self._parts_of(name)) if row is not None]
        return rows, self._unknown / sqrt(sum(map(self._squares.__getitem__, rows)) or 1.0)


class StaticEngine:
    """softmax(bias + what the words say + what the pairs say); see `Block`."""

    inline = True

    def __init__(
        self, words: Table, pairs: Table, parts: Table, unknown: tuple[float, float], bias: NDArray[np.float32]
    ) -> None:
        self._tables, self._unknown = {"words": words, "pairs": pairs, "parts": parts}, unknown
        tables, starts = (words, pairs, parts), (0, len(words.names), len(words.names) + len(pairs.names))
        self._values = np.concatenate([table.values for table in tables])
        self._scales = np.concatenate([table.scales for table in tables])
        squares = np.concatenate([np.square(table.weights) for table in tables]).tolist()
        word_rows, pair_rows, part_rows = (
            {name: row for row, name in enumerate(table.names, start)}
            for table, start in zip(tables, starts, strict=True)
        )
        self._words = Block(word_rows, part_rows, word_parts, unknown[0], squares)
        self._pairs = Block(pair_rows, part_rows, pair_parts, unknown[1], squares)
        self._bias = np.ascontiguousarray(bias, dtype=np.float32)

    def tilted(self, shift: NDArray[np.float32]) -> StaticEngine:
        """Return an engine like this one, with `shift` (K,) added to the logits."""
        found = copy(self)
        found._bias = self._bias + shift
        return found

    @property
    def sizes(self) -> dict[str, int]:
        """How many words, pairs and parts have a vector."""
        return {name: len(table.names) for name, table in self._tables.items()}

    def probabilities(self, text: str) -> Probabilities:
        """Return the probability of each answer, float64 (K,)."""
        words, pairs = units(text)
        rows, shares = self._words.read(words)
        more_rows, more_shares = self._pairs.read(pairs)
        return softmax(self._bias + self._sum(rows + more_rows, shares + more_shares))

    def probabilities_many(self, texts: Sequence[str]) -> Probabilities:
        """Return float64 (n, K), each row computed by itself."""
        result = np.empty((len(texts), len(self._bias)))
        for row, text in enumerate(texts):
            result[row] = self.probabilities(text)
        return result

    def explain(self, text: str, first: int, second: int) -> list[Evidence]:
        """Return the words and pairs that moved the log-odds of `first` over `second` most, in either direction."""
        moved: list[tuple[float, str]] = []
        for block, names in zip((self._words, self._pairs), units(text), strict=True):
            for name, rows, shares in block.each(names):
                said = self._sum(rows, shares)
                moved.append((float(said[first] - said[second]), name))
        moved = [each for each in moved if each[0] != 0.0]
        moved.sort(key=lambda each: -abs(each[0]))
        return [Evidence("n-gram", weight, name) for weight, name in moved[:SHOWN]]

    def _sum(self, rows: list[int], shares: list[float]) -> NDArray[np.float32]:
        chosen = np.array(rows, np.intp)
        factors = self._scales.take(chosen) * np.array(shares, np.float32)
        found: NDArray[np.float32] = factors @ self._values.take(chosen, axis=0).astype(np.float32)
        return found

    def save(self, folder: Path) -> None:
        """Write `static.safetensors`: for words, pairs and parts their names as UTF-8 bytes and their tables."""
        arrays: dict[str, NDArray[Any]] = {"bias": self._bias, "unknown": np.array(self._unknown)}
        for kind, table in self._tables.items():
            arrays[kind] = np.frombuffer(_SEPARATOR.join(table.names).encode(), np.uint8)
            arrays |= {f"{kind}.values": table.values, f"{kind}.scales": table.scales, f"{kind}.weights": table.weights}
        write_arrays(folder / FILE, arrays, metadata={"units": str(VERSION)})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; raise ArtifactDamaged where the arrays do not fit each other."""
        try:
            arrays = read_arrays(folder / FILE)
            first, second = (float(value) for value in arrays["unknown"])
            words, pairs, parts = (_read_table(arrays, kind) for kind in ("words", "pairs", "parts"))
            engine = cls(words, pairs, parts, (first, second), arrays["bias"])
            engine._check()
        except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
            raise ArtifactDamaged(
                f"{folder / FILE} cannot be used ({type(error).__name__}: {error}); the tables of one static model "
                "were expected. Train the version again."
            ) from error
        return engine

    def _check(self) -> None:
        if self._bias.ndim != 1 or len(self._bias) < 2:
            raise ValueError(f"bias {self._bias.shape}; one number for each of two answers or more was expected")
        if not (np.isfinite(self._bias).all() and all(0.0 < value < np.inf for value in self._unknown)):
            raise ValueError("a bias is not finite, or a weight of unknown units not above 0")
        for kind, table in self._tables.items():
            _check_table(kind, table, len(self._bias))


def _read_table(arrays: Mapping[str, NDArray[Any]], kind: str) -> Table:
    text = arrays[kind].astype(np.uint8).tobytes().decode()
    names = tuple(text.split(_SEPARATOR)) if text else ()
    return Table(names, arrays[f"{kind}.values"], arrays[f"{kind}.scales"], arrays[f"{kind}.weights"])


def _check_table(kind: str, table: Table, answers: int) -> None:
    rows = len(table.names)
    if table.values.shape != (rows, answers) or table.scales.shape != (rows,) or table.weights.shape != (rows,):
        shapes = f"values {table.values.shape}, scales {table.scales.shape}, weights {table.weights.shape}"
        raise ValueError(f"{kind}: {rows} names, {shapes}, {answers} answers")
    kinds = (str(table.values.dtype), str(table.scales.dtype), str(table.weights.dtype))
    if kinds != ("int8", "float32", "float32"):
        raise ValueError(f"{kind}: values, scales and weights are {', '.join(kinds)}; int8, float32, float32 expected")
    if len(set(table.names)) != rows:
        raise ValueError(f"{kind}: a name stands twice")
    if not (np.isfinite(table.scales).all() and np.isfinite(table.weights).all() and (table.weights > 0.0).all()):
        raise ValueError(f"{kind}: a scale or weight is not finite, or a weight not above 0")
