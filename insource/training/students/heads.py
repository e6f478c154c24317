"""One head a field: answers of several fields learned field by field, and folded into one head over the answers.

An answer's logit is the sum of its values' logits, so that the softmax over the answers is the product of the fields'
own, renormalised over the combinations that were seen. What serves sees one ordinary head. It knows class numbers only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from insource.answers import AnswerSpace

Matrix = NDArray[np.float32]
Head = tuple[Matrix, Matrix]
FitHead = Callable[[NDArray[np.intp], int, Head | None], Head]
"""From the classes int (n,), their number K and a head to start at to weights float32 (D, K) and a bias (K,)."""


@dataclass(frozen=True, slots=True)
class Heads:
    """`values` int (K, F): the number of each answer's value in each of F fields, from 0 without gaps."""

    values: NDArray[np.intp]

    @property
    def sizes(self) -> list[int]:
        """How many values each field has."""
        return [int(most) + 1 for most in self.values.max(axis=0)]

    @property
    def incidence(self) -> Matrix:
        """Return float32 (sum of sizes, K): 1 where an answer has a value."""
        return np.vstack(
            [np.eye(size, dtype=np.float32)[:, own] for size, own in zip(self.sizes, self.values.T, strict=True)]
        )

    def fold(self, head: Head) -> Head:
        """Return the head over the answers for the heads of the fields, weights and biases side by side."""
        weights, bias = head
        return weights @ self.incidence, bias @ self.incidence

    def unfold(self, head: Head) -> Head:
        """Return heads of the fields that `fold` to `head` as nearly as there are any."""
        weights, bias = head
        inverse = np.linalg.pinv(self.incidence)
        return weights @ inverse, bias @ inverse


def heads_of(answers: AnswerSpace) -> Heads | None:
    """Return the fields' heads; None where a single head does, as fewer than two fields vary."""
    if len(answers.varying) < 2:
        return None
    said = np.array([answers.values(label) for label in answers.answers])
    return Heads(np.stack([np.unique(own, return_inverse=True)[1] for own in said.T], axis=1))


def largest_head(heads: Heads | None, n_classes: int) -> int:
    """Return how many classes the largest head tells apart."""
    return n_classes if heads is None else max(heads.sizes)


def fit_heads(
    heads: Heads | None, fit: FitHead, classes: NDArray[np.intp], n_classes: int, start: Head | None = None
) -> Head:
    """Return what `fit` makes of the classes, or, with `heads`, of each field's values, folded into one head."""
    if heads is None:
        return fit(classes, n_classes, start)
    cuts = np.cumsum(heads.sizes)[:-1]
    starts = [np.split(part, cuts, axis=-1) for part in heads.unfold(start)] if start else None
    found = [
        fit(heads.values[classes, field], size, (starts[0][field], starts[1][field]) if starts else None)
        for field, size in enumerate(heads.sizes)
    ]
    weights, biases = zip(*found, strict=True)
    return heads.fold((np.hstack(weights), np.hstack(biases)))
