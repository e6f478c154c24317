"""The static student: an encoder's word vectors, and on top of them what the rows say of words, pairs and their parts.

It learns what `backends.static` serves; the encoder is asked once for each word of its vocabulary, never for a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from insource.backends.static import VERSION, StaticEngine, Table, pair_parts, units, word_parts
from insource.errors import DataError
from insource.training.students.contract import Classes, Probabilities, Progress, Rows
from insource.training.students.heads import Head, Heads, fit_heads, largest_head
from insource.training.students.logistic import Matrix, fit_logistic
from insource.training.students.static_features import FEWEST, Beside, Units, Weighed, most_frequent, weighed_parts
from insource.training.students.static_lexicon import Lexicon
from insource.training.students.turning import Turn

STRENGTH = 15.0
MOST_VALUES = 4_000_000
LENGTHS = (1.0, 0.8, 0.8, 0.6, 1.0)
"""How long the columns of words, their parts, pairs, theirs and the lexicon are: by cross-validation."""

Columns = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Read:
    """Texts with their words and pairs; after the texts' words come the lexicon's, whose columns are `known`."""

    texts: tuple[str, ...]
    words: Units
    pairs: Units
    known: Columns

    def __len__(self) -> int:
        return len(self.texts)


class StaticStudent:
    """`strength` is the inverse of the penalty; a table has at most `most_values` numbers, the most frequent units'.

    Fitted together are a vector for each word, for the pairs in two rows or more, for the parts of both, and a map of
    the lexicon's vectors (turned as `Turn` has it) to answers. All of it is linear, so one vector a unit remains; words
    of the lexicon have one though no row has them. `heads` learn the answers field by field.
    """

    family: ClassVar[str] = "static"

    def __init__(
        self, lexicon: Lexicon, *, strength: float = STRENGTH, most_values: int = MOST_VALUES,
        heads: Heads | None = None,
    ) -> None:  # fmt: skip
        self.lexicon, self.strength, self.most_values, self.heads = lexicon, strength, most_values, heads

    def prepare(self, texts: Sequence[str], progress: Progress | None = None) -> Read:
        """Cut the texts into words and pairs."""
        found = [units(text) for text in texts]
        words = Units.of([each for each, _ in found], self.lexicon.words, word_parts)
        pairs = Units.of([each for _, each in found], (), pair_parts)
        numbers = {name: column for column, name in enumerate(words.names)}
        if progress is not None:
            progress(len(texts), len(texts))
        return Read(tuple(texts), words, pairs, np.array([numbers[name] for name in self.lexicon.words], np.intp))

    def fit(self, prepared: Read, rows: Rows, classes: Classes, n_classes: int, start: Self | None = None) -> Self:
        """Weigh what the rows have, fit, and fold everything into one vector a unit; `start` is not needed."""
        most = self.most_values // n_classes
        words = Weighed.of(prepared.words, rows, 1, most)
        pairs = Weighed.of(prepared.pairs, rows, FEWEST, most)
        kept = most_frequent(pairs.counts, FEWEST, most)
        vectors = self._vectors(prepared.words, words.columns)
        per_value = len(rows) / largest_head(self.heads, n_classes)
        turn = Turn(np.asarray(words.rows @ vectors), self.lexicon.blocks, per_value)
        parts = (words.rows, words.rows @ words.parts, pairs.rows[:, kept], pairs.rows @ pairs.parts)
        scaled = [part * np.float32(length) for part, length in zip(parts, LENGTHS, strict=False)]
        sparse = scipy.sparse.hstack(scaled, format="csr", dtype=np.float32)
        both = Beside(sparse, turn.rows * np.float32(LENGTHS[-1]))

        def fit_head(own: Classes, count: int, _: Head | None) -> Head:
            return fit_logistic(both, own, count, strength=self.strength)

        learned, bias = fit_heads(self.heads, fit_head, classes, n_classes)
        own, of_parts, of_pairs, spans, turned = (
            part * np.float32(length)
            for part, length in zip(
                np.split(learned, np.cumsum([part.shape[1] for part in parts])), LENGTHS, strict=True
            )
        )
        meaning, bias = turn.back(turned, bias)
        found = own + words.parts @ of_parts + vectors @ meaning
        word_table = self._with_lexicon(prepared, words, found, of_parts, meaning, most)
        names = [prepared.pairs.names[int(column)] for column in pairs.columns[kept]]
        pair_table = _table(names, of_pairs + pairs.parts[kept] @ spans, pairs.weights[kept])
        names = [prepared.words.part_names[number] for number in words.kept]
        names += [prepared.pairs.part_names[number] for number in pairs.kept]
        part_weights = np.concatenate([words.part_weights, pairs.part_weights])
        part_table = _table(names, np.vstack([of_parts, spans]), part_weights)
        self.engine_ = StaticEngine(word_table, pair_table, part_table, (words.unknown, pairs.unknown), bias)
        return self

    def probabilities(self, prepared: Read, rows: Rows) -> Probabilities:
        """Return float64 (len(rows), K), computed by the engine that serves."""
        if not hasattr(self, "engine_"):
            raise DataError("This student has learned nothing yet; its `fit` was expected first. Call `fit`.")
        return self.engine_.probabilities_many([prepared.texts[int(row)] for row in rows])

    def fresh(self) -> Self:
        """Return an unfitted student with the same choices."""
        return type(self)(self.lexicon, strength=self.strength, most_values=self.most_values, heads=self.heads)

    def tilted(self, shift: NDArray[np.float32]) -> Self:
        """Return a fitted student like this one, with `shift` (K,) added to the logits."""
        found = copy(self)
        found.engine_ = self.engine_.tilted(shift)
        return found

    def to_artifact(self, folder: Path) -> dict[str, Any]:
        """Write `static.safetensors`."""
        self.engine_.save(folder)
        return {"units": VERSION, "strength": self.strength, **self.engine_.sizes}

    def _vectors(self, words: Units, columns: Columns) -> Matrix:
        return self.lexicon.vectors_of([words.names[int(column)] for column in columns])

    def _with_lexicon(
        self, prepared: Read, words: Weighed, found: Matrix, of_parts: Matrix, meaning: Matrix, most: int
    ) -> Table:
        """Return the table of the words that the rows have, and of as many others of the lexicon as there is room."""
        units = prepared.words
        seen = most_frequent(words.counts, 1, most)
        others = prepared.known[~np.isin(prepared.known, words.columns)][: most - len(seen)]
        folded = weighed_parts(units, others, words.kept, words.part_weights) @ of_parts
        folded += self._vectors(units, others) @ meaning
        vectors = np.vstack([found[seen], folded])
        weights = np.append(words.weights[seen], np.full(len(others), words.unknown, np.float32))
        names = [units.names[int(column)] for column in np.append(words.columns[seen], others)]
        return _table(names, vectors, weights)


def _table(names: Sequence[str], vectors: Matrix, weights: Matrix) -> Table:
    """Return the table of units or parts, each vector times its weight."""
    return Table.rounded(names, np.asarray(vectors * weights[:, None], np.float32), weights)
