"""The two-tier student: a linear model that answers what it is sure of, and the frozen encoder behind it.

Its two choices, the weight of the encoder and the exit, are read off the tiers' out-of-fold probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from insource.backends.encoder import NEVER, TwoTierEngine, pool
from insource.training.students.contract import Classes, Probabilities, Progress, Rows
from insource.training.students.encoder_frozen import EncoderFrozenStudent
from insource.training.students.heads import Heads
from insource.training.students.linear import Counts, LinearStudent

WEIGHTS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
FEWEST_EXITS = 100
NO_EXIT = 2.0


@dataclass(frozen=True, slots=True)
class Tiers:
    """Texts as both tiers learn from them."""

    counts: Counts
    embeddings: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.embeddings)


class TwoTierStudent:
    """`weight` in [0, 1] is the encoder's share of the pool; the linear answer stands from `exit_at` on."""

    family: ClassVar[str] = "two-tier"

    def __init__(
        self, linear: LinearStudent, encoder: EncoderFrozenStudent, *, weight: float = 0.5, exit_at: float = NO_EXIT
    ) -> None:
        self.linear, self.encoder, self.weight, self.exit_at = linear, encoder, weight, exit_at

    @property
    def heads(self) -> Heads | None:
        """The fields that both tiers learn by themselves."""
        return self.linear.heads

    @heads.setter
    def heads(self, heads: Heads | None) -> None:
        self.linear.heads = self.encoder.heads = heads

    def prepare(self, texts: Sequence[str], progress: Progress | None = None) -> Tiers:
        """Count the n-grams and embed the texts."""
        return Tiers(self.linear.prepare(texts), self.encoder.prepare(texts, progress))

    def fit(self, prepared: Tiers, rows: Rows, classes: Classes, n_classes: int, start: Self | None = None) -> Self:
        """Fit both tiers."""
        first, second = (start.linear, start.encoder) if start else (None, None)
        self.linear = self.linear.fresh().fit(prepared.counts, rows, classes, n_classes, first)
        self.encoder = self.encoder.fresh().fit(prepared.embeddings, rows, classes, n_classes, second)
        return self

    def probabilities(self, prepared: Tiers, rows: Rows) -> Probabilities:
        """Return float64 (len(rows), K)."""
        return pooled(
            self.linear.probabilities(prepared.counts, rows),
            self.encoder.probabilities(prepared.embeddings, rows),
            self.weight,
            self.exit_at,
        )

    def fresh(self) -> Self:
        """Return an unfitted student with the same choices."""
        return type(self)(self.linear.fresh(), self.encoder.fresh(), weight=self.weight, exit_at=self.exit_at)

    def tilted(self, shift: NDArray[np.float32]) -> Self:
        """Return a fitted student like this one, with `shift` (K,) added to the logits of both tiers."""
        tiers = self.linear.tilted(shift), self.encoder.tilted(shift)
        return type(self)(*tiers, weight=self.weight, exit_at=self.exit_at)

    def to_artifact(self, folder: Path) -> dict[str, Any]:
        """Write the files of both tiers and of their joint."""
        told = {"linear": self.linear.to_artifact(folder), "encoder": self.encoder.to_artifact(folder)}
        TwoTierEngine(self.linear.engine(), self.encoder.engine(), self.weight, self.exit_at).save(folder)
        return {**told, "weight": self.weight, "exit_at": self.exit_at}


def pooled(first: Probabilities, second: Probabilities, weight: float, exit_at: float) -> Probabilities:
    """Return what the two tiers say together, as `TwoTierEngine` serves it; float64 (n, K) each."""
    stays = first.max(axis=1, keepdims=True) >= exit_at
    return np.where(stays, first, pool(first, second, weight))


def choose_weight(first: Probabilities, second: Probabilities, classes: Classes) -> float:
    """Return the weight with the least mean log loss; probabilities float64 (n, K) must be out of fold."""
    rows = np.arange(len(classes))

    def loss(weight: float) -> float:
        return -float(np.log(np.maximum(pool(first, second, weight)[rows, classes], NEVER)).mean())

    return min(WEIGHTS, key=loss)


def choose_exit(first: Probabilities, classes: Classes, tolerated_risk: float) -> float:
    """Return the lowest top probability from which the linear tier errs in at most `tolerated_risk` of 100 or more.

    `first` float64 (n, K) must be out of fold; `NO_EXIT`, which nothing reaches, where there is none.
    """
    top = first.max(axis=1)
    order = np.argsort(-top, kind="stable")
    errors = np.cumsum(first.argmax(axis=1)[order] != classes[order])
    counts = np.arange(1, len(order) + 1)
    within = np.flatnonzero((errors <= tolerated_risk * counts) & (counts >= FEWEST_EXITS))
    return float(top[order[within[-1]]]) if within.size else NO_EXIT
