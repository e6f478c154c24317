"""What the data of a task needs: answers and how even they are, repeats, learning curves and label noise.

The first of the five dimensions: it is the task's, and the same for every contender.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from insource.training.comparing.curve import Curve
from insource.training.snapshot import Snapshot
from insource.training.suspects import LabelNoise


@dataclass(frozen=True, slots=True)
class Complexity:
    """What is known of the task's rows; `label_noise` None where nothing was cross-fitted."""

    rows: int
    answers: int
    answer_form: str
    largest_share: float
    smallest_rows: int
    evenness: float
    groups: int
    median_words: float
    curves: tuple[Curve, ...]
    label_noise: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the figures by name."""
        names = ("rows", "answers", "answer_form", "largest_share", "smallest_rows", "evenness", "groups",
                 "median_words", "label_noise")  # fmt: skip
        return {name: getattr(self, name) for name in names} | {"curves": [each.to_json() for each in self.curves]}


def complexity_of(snapshot: Snapshot, curves: Sequence[Curve], noise: LabelNoise | None) -> Complexity:
    """Return what the rows say of the task.

    `evenness` is the entropy of the answers over its greatest possible value: 1 where all are as frequent.
    """
    counts = np.bincount(snapshot.classes, minlength=len(snapshot.answers)).astype(np.float64)
    shares = counts[counts > 0] / counts.sum()
    entropy = float(-(shares * np.log(shares)).sum())
    return Complexity(
        rows=len(snapshot),
        answers=len(snapshot.answers),
        answer_form="closed",
        largest_share=float(shares.max()),
        smallest_rows=int(counts.min()),
        evenness=entropy / float(np.log(len(counts))) if len(counts) > 1 else 1.0,
        groups=len(np.unique(snapshot.groups)),
        median_words=float(np.median([len(text.split()) for text in snapshot.texts])),
        curves=tuple(curves),
        label_noise=noise.rate if noise else None,
    )
