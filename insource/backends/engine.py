"""What a specialist computes with: text in, one probability for each answer out.

An engine knows no task, no score and no threshold; `Specialist` puts those around it. One file for each family.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Probabilities = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What spoke for the first answer of an explanation and against the second.

    `kind` is "n-gram" (`weight`: what it adds to the log-odds of the first answer over the second) or "training row"
    (`weight`: cosine similarity to the text; `answer`: the index of the row's reference; `row`: its number).
    """

    kind: str
    weight: float
    text: str = ""
    answer: int | None = None
    row: int | None = None


class Engine(Protocol):
    """Computes the probabilities of a closed set of answers for a text."""

    inline: bool
    """Whether one text is quick enough (well under a millisecond) to be computed on the event loop."""

    def probabilities(self, text: str) -> Probabilities:
        """Return the probability of each answer, float64 (K,), summing to one."""
        ...

    def probabilities_many(self, texts: Sequence[str]) -> Probabilities:
        """Return float64 (n, K); row i equals `probabilities(texts[i])` exactly."""
        ...

    def explain(self, text: str, first: int, second: int) -> list[Evidence]:
        """Return what decided for answer `first` over answer `second`, weightiest first."""
        ...


def softmax(logits: NDArray[Any]) -> Probabilities:
    """Return the softmax over the last axis, float64."""
    given: Probabilities = np.asarray(logits, dtype=np.float64)
    shifted: Probabilities = given - given.max(axis=-1, keepdims=True)
    np.exp(shifted, out=shifted)
    shifted /= shifted.sum(axis=-1, keepdims=True)
    return shifted
