"""Splits and folds by group: every row of a group goes the same way, and stays there as rows are added.

It knows group numbers and a seed; a group's place depends on nothing else.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FOLDS = 10


def places(groups: NDArray[np.intp], seed: int) -> NDArray[np.float64]:
    """Return a number in [0, 1) for each row, int (n,) in: equal within a group, uniform over groups.

    A group's number comes from hashing its name with the seed (splitmix64, Steele, Lea and Flood, OOPSLA 2014).
    """
    start = np.uint64((1 + seed * 0x9E3779B97F4A7C15) % (1 << 64))
    with np.errstate(over="ignore"):
        state = groups.astype(np.uint64) + start
        state = state * np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return (state >> np.uint64(11)).astype(np.float64) / float(1 << 53)


def folds(groups: NDArray[np.intp], seed: int, n_folds: int = FOLDS) -> NDArray[np.intp]:
    """Return the fold of each row, int (n,)."""
    return (places(groups, seed + 1) * n_folds).astype(np.intp)
