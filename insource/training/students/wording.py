"""An answer's own words as an example of it, where there are few others.

`card_arrival` says what it is about: added once to three rows an answer it gave a frozen encoder four points more on
banking77, to ten rows half a point, from 20 on nothing (EXPERIMENTS.md).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from insource.training.students.contract import Classes

FEW_ROWS = 20
"""Mean rows of an answer from which on its words add nothing."""
_NO_WORD = re.compile(r"[\W_]+")


def wording(label: str) -> str | None:
    """Return a label's words, or None where it has no letter."""
    words = _NO_WORD.sub(" ", label).strip()
    return words if any(each.isalpha() for each in words) else None


def worded(labels: Sequence[str], rows: int) -> tuple[list[str], Classes]:
    """Return the words of the labels that have some, and their classes; none where rows are not few."""
    if rows >= FEW_ROWS * len(labels):
        return [], np.zeros(0, np.intp)
    found: list[tuple[str, int]] = [(words, k) for k, label in enumerate(labels) if (words := wording(label))]
    classes: NDArray[np.intp] = np.array([k for _, k in found], np.intp)
    return [words for words, _ in found], classes
