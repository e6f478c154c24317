"""Checked arrays: scores and what was wrong, sorted highest score first.

It knows nothing of what the scores mean, only that every one is a number and every row has both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def checked(scores: Any, flags: Any) -> tuple[Floats, Bools]:
    """Return both as one-dimensional arrays of equal length, float64 and bool.

    Raises ValueError where the shapes differ, a score is NaN or +inf (no threshold lies above it), or a flag is neither
    true nor false.
    """
    numbers = np.asarray(scores, dtype=np.float64)
    kinds = np.asarray(flags)
    if numbers.ndim != 1 or numbers.shape != kinds.shape:
        raise ValueError(
            f"scores have shape {numbers.shape} and flags {kinds.shape}; expected one of each per row. "
            "Pass two one-dimensional arrays of the same length."
        )
    unusable = int(np.count_nonzero(np.isnan(numbers) | np.isposinf(numbers)))
    if unusable:
        raise ValueError(
            f"{unusable} of {numbers.size} scores are NaN or infinite; expected numbers. "
            "Leave those rows out, or give them the lowest score."
        )
    truth = kinds.astype(np.bool_)
    if kinds.dtype != np.bool_ and not np.array_equal(truth, kinds):
        raise ValueError(f"flags of type {kinds.dtype} hold more than 0 and 1; expected true or false for each row.")
    return numbers, truth


def highest_first(scores: Floats, flags: Bools) -> tuple[Floats, Bools]:
    """Return both sorted by score, highest first, rows of equal score in no stated order."""
    order = np.argsort(-scores, kind="stable")
    return scores[order], flags[order]
