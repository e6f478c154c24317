"""What a smaller vocabulary does to rows held out: words that only their own fold uses are read as the nearest others.

A row that was there when the vocabulary was chosen reads better than a request to come will, and its out-of-fold answer
would promise too much. It knows rows, folds and a smaller trunk; not what is certified.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from insource.backends.encoder import FEWER_NEIGHBOURS
from insource.backends.onnx import INFO_FILE, MODEL_FILE, TOKENIZER_FILE, Trunk
from insource.training.compression.checkpoint import Checkpoint, Matrix
from insource.training.compression.prune_vocabulary import TABLE, nearest, special_words
from insource.training.compression.smaller import Smaller
from insource.training.compression.sources import Source
from insource.training.families import Material
from insource.training.run import Workshop
from insource.training.splits import folds
from insource.training.students.contract import Classes, Probabilities, Rows
from insource.training.students.encoder_frozen import EncoderFrozenStudent

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Apart:
    """Embeddings float32 (n, D): `seen` to learn from, `held_out` to be answered for; most rows are alike."""

    seen: Vectors
    held_out: Vectors

    def __len__(self) -> int:
        return len(self.seen)


class ApartStudent(EncoderFrozenStudent):
    """Learns from rows as they are and answers for them as if they were new."""

    def fit(self, prepared: Any, rows: Rows, classes: Classes, n_classes: int, start: Self | None = None) -> Self:
        """Fit the head, and remember fewer rows."""
        super().fit(prepared.seen, rows, classes, n_classes, start)
        sentences, numbers, answers = self.neighbours_
        kept = np.linspace(0, len(numbers) - 1, min(len(numbers), FEWER_NEIGHBOURS)).astype(np.intp)
        self.neighbours_ = sentences[kept], numbers[kept], answers[kept]
        return self

    def probabilities(self, prepared: Any, rows: Rows) -> Probabilities:
        """Return float64 (len(rows), K)."""
        return super().probabilities(prepared.held_out, rows)


class ApartMaterial(Material):
    """The rows of a source, embedded by a smaller encoder."""

    def __init__(self, source: Source, shop: Workshop, smaller: Smaller) -> None:
        super().__init__(source.snapshot.texts, lambda: shop.room, shop.say, source.recipe.base)
        self._source, self._shop, self._smaller = source, shop, smaller

    def encoder(self, labels: Sequence[str] = ()) -> tuple[Any, Any]:
        """Return an unfitted student and the embeddings, as they are and as held out."""
        room = self._shop.room
        self.precision, self.trunk_digest = self._smaller.precision, self._smaller.trunk
        student = ApartStudent(room.get(self.trunk_digest), room.embedder(self.trunk_digest), labels=labels)
        if self._embeddings is None:
            seen = student.prepare(self.texts)
            self._embeddings = Apart(seen, self._held_out(student.trunk, seen))
        return student, self._embeddings

    def _held_out(self, trunk: Trunk, seen: Vectors) -> Vectors:
        """Return the embeddings with those rows changed that use words which only their own fold uses."""
        if not self._smaller.lacks_words:
            return seen
        learn, recipe = self._source.split.learn, self._source.recipe
        placed = folds(self._source.snapshot.groups[learn], recipe.seed)
        words = [frozenset(trunk.tokens(self.texts[i]).ids) for i in learn]
        table = Checkpoint.read(self._smaller.base).tensors[TABLE]
        known = {word for text in self._source.words for word in trunk.tokens(text).ids}
        folder, found = self._shop.artifacts.open(self._smaller.trunk).folder, seen.copy()
        for fold, own in _own_words(words, placed).items():
            own -= known
            rows = learn[[row for row in np.flatnonzero(placed == fold) if words[row] & own]]
            if len(rows):
                found[rows] = _without(folder, own, table).embed([self.texts[i] for i in rows])
        return found


def _own_words(words: Sequence[frozenset[int]], placed: NDArray[np.intp]) -> dict[int, set[int]]:
    """Return, by fold, the words that rows of no other fold use."""
    where: dict[int, set[int]] = {}
    for row, fold in zip(words, placed.tolist(), strict=True):
        for word in row:
            where.setdefault(word, set()).add(fold)
    own: dict[int, set[int]] = {}
    for word, used in where.items():
        if len(used) == 1:
            own.setdefault(min(used), set()).add(word)
    return own


def _without(folder: Path, words: set[int], table: Matrix) -> Trunk:
    """Return the trunk that lies in `folder`, but these words, special ones aside, read as the nearest others."""
    tokenizer = json.loads((folder / TOKENIZER_FILE).read_text("utf-8"))
    known: dict[str, int] = tokenizer["model"]["vocab"]
    others = np.setdiff1d(np.arange(len(table)), list(words - {known[word] for word in special_words(tokenizer)}))
    moved = others[nearest(table, others)].tolist()
    tokenizer["model"]["vocab"] = {word: moved[number] for word, number in known.items()}
    with tempfile.TemporaryDirectory(prefix="insource-") as scratch:
        for name in (MODEL_FILE, INFO_FILE):
            shutil.copyfile(folder / name, Path(scratch) / name)
        (Path(scratch) / TOKENIZER_FILE).write_text(json.dumps(tokenizer), "utf-8")
        return Trunk.load(Path(scratch))
