"""The frozen-encoder student: a shared trunk's embeddings and a logistic head.

It learns what `backends.encoder` serves; the trunk itself is never changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from insource.backends.encoder import KEPT_NEIGHBOURS, EncoderEngine
from insource.backends.engine import softmax
from insource.errors import DataError
from insource.training.students.contract import Classes, Probabilities, Progress, Rows
from insource.training.students.heads import Head, Heads, fit_heads, largest_head
from insource.training.students.logistic import fit_logistic
from insource.training.students.turning import Turn, Vectors
from insource.training.students.wording import worded

STRENGTH_TIMES_ROWS = 2_000.0
WEAKEST, STRONGEST = 5.0, 200.0
TOLERANCE, MOST_ITERATIONS = 3e-3, 300

Embed = Callable[[Sequence[str], Progress | None], NDArray[np.float32]]


class EncoderFrozenStudent:
    """`trunk` gives the engine its embeddings; `embed` embeds many texts, and may keep what it computed.

    `strength` is the inverse of the head's penalty; by default 2,000 over the mean number of rows of an answer, within
    5 and 200: found by cross-validation, few rows want little shrinkage. `heads` learn the answers field by field, with
    the strength of the largest field. The words of `labels` are examples of them where rows are
    few and answers have one field.
    """

    family: ClassVar[str] = "encoder-frozen"

    def __init__(
        self, trunk: Any, embed: Embed, *, strength: float | None = None, heads: Heads | None = None,
        labels: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.trunk, self.embed, self.strength, self.heads, self.labels = trunk, embed, strength, heads, labels

    def prepare(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """Return the embeddings, float32 (n, D)."""
        return self.embed(texts, progress)

    def fit(
        self, prepared: NDArray[np.float32], rows: Rows, classes: Classes, n_classes: int, start: Self | None = None
    ) -> Self:
        """Fit the head, and remember the rows that explanations may name."""
        most = largest_head(self.heads, n_classes)
        default = float(np.clip(STRENGTH_TIMES_ROWS * most / len(rows), WEAKEST, STRONGEST))
        self.strength_ = default if self.strength is None else self.strength
        words, meant = worded(self.labels if self.heads is None else (), len(rows))
        learned = np.vstack([prepared[rows], self.embed(words, None)]) if words else prepared[rows]
        turn = Turn(learned, self.trunk.blocks, len(rows) / most)

        def fit(own: Classes, count: int, begin: Head | None) -> Head:
            return fit_logistic(
                turn.rows,
                own,
                count,
                strength=self.strength_,
                tolerance=TOLERANCE,
                max_iterations=MOST_ITERATIONS,
                start=begin,
            )

        begin = turn.into(start.weights_, start.bias_) if start is not None else None
        weights, bias = fit_heads(self.heads, fit, np.concatenate([classes, meant]), n_classes, begin)
        return self.take(prepared, rows, classes, *turn.back(weights, bias))

    def take(self, prepared: Vectors, rows: Rows, classes: Classes, weights: Vectors, bias: Vectors) -> Self:
        """Take a head (D, K) and (K,) as learned from rows, and remember those that explanations may name."""
        self.weights_: Vectors
        self.bias_: Vectors
        self.weights_, self.bias_ = weights, bias
        kept = np.linspace(0, len(rows) - 1, min(len(rows), KEPT_NEIGHBOURS)).astype(np.intp)
        sentences = prepared[rows[kept], -(self.trunk.dimension // self.trunk.blocks) :]
        scaled = np.clip(np.rint(sentences * 127.0), -127, 127).astype(np.int8)
        self.neighbours_ = (scaled, rows[kept].astype(np.int32), classes[kept].astype(np.int32))
        return self

    def probabilities(self, prepared: NDArray[np.float32], rows: Rows) -> Probabilities:
        """Return float64 (len(rows), K)."""
        if not hasattr(self, "weights_"):
            raise DataError("This student has learned nothing yet; its `fit` was expected first. Call `fit`.")
        return softmax(prepared[rows] @ self.weights_ + self.bias_)

    def fresh(self) -> Self:
        """Return an unfitted student with the same choices."""
        return type(self)(self.trunk, self.embed, strength=self.strength, heads=self.heads, labels=self.labels)

    def tilted(self, shift: NDArray[np.float32]) -> Self:
        """Return a fitted student like this one, with `shift` (K,) added to the logits."""
        found = copy(self)
        found.bias_ = self.bias_ + shift
        return found

    def engine(self) -> EncoderEngine:
        """Return the engine that serves what was learned."""
        return EncoderEngine(self.trunk, self.weights_, self.bias_, *self.neighbours_)

    def to_artifact(self, folder: Path) -> dict[str, Any]:
        """Write `head.safetensors`."""
        self.engine().save(folder)
        told = {"base": self.trunk.info.base, "dimension": self.trunk.dimension}
        return told | ({"strength": self.strength_} if hasattr(self, "strength_") else {})
