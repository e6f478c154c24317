"""Inductive Venn-Abers: a ranking number becomes two probabilities of "agrees", between which the right one lies.

It knows scores and agreement only. Source: Vovk and Petej 2014.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from insource.risk.rows import Bools, Floats, checked

MAX_KNOTS = 4096


class VennAbers:
    """For each stretch between calibration scores: the isotonic fit with the new row as 0 (p0) and as 1 (p1).

    Exact up to 4,096 distinct calibration scores; beyond that neighbouring scores are pooled into 4,096 groups of about
    equal rows, within which the probabilities are constant.
    """

    low_: Floats
    high_: Floats
    p0_: Floats
    p1_: Floats

    def fit(self, scores: Any, agrees: Any) -> Self:
        """Precompute both probabilities at every knot and between knots; `scores` float (n,), `agrees` bool (n,).

        Raises ValueError for NaN scores, shapes that differ, or no rows.
        """
        values, flags = checked(scores, agrees)
        if values.size == 0:
            raise ValueError("Venn-Abers got 0 rows; expected at least one. Calibrate with more rows.")
        self.low_, self.high_, weights, sums = _grouped(values, flags)
        total, agreeing = _prefix(weights), _prefix(sums)
        before, after = _hull_before(total, agreeing), _hull_after(total, agreeing)
        self.p0_ = _fitted(total, agreeing, before, after, 0.0)
        self.p1_ = _fitted(total, agreeing, before, after, 1.0)
        return self

    def predict(self, scores: Any) -> tuple[Floats, Floats]:
        """Return (p0, p1), each float (n,), with p0 <= p1, neither falling as the score rises."""
        place = self._place(np.asarray(scores, dtype=np.float64))
        return self.p0_[place], self.p1_[place]

    def probability(self, scores: Any) -> Floats:
        """Return p1 / (1 - p0 + p1), the one probability whose log loss is least in the worse of the two cases."""
        return self.merged()[self._place(np.asarray(scores, dtype=np.float64))]

    def merged(self) -> Floats:
        """Return that probability for every place: before the first knot, on it, after it, on the second, and so on."""
        return self.p1_ / (1.0 - self.p0_ + self.p1_)

    def _place(self, scores: Floats) -> NDArray[np.intp]:
        return np.searchsorted(self.low_, scores, side="right") + np.searchsorted(self.high_, scores, side="left")


def _grouped(values: Floats, flags: Bools) -> tuple[Floats, Floats, Floats, Floats]:
    """Return lowest score, highest score, rows and agreements of each group of scores, in rising order."""
    knots, group = np.unique(values, return_inverse=True)
    weights: Floats = np.bincount(group).astype(np.float64)
    sums: Floats = np.bincount(group, weights=flags).astype(np.float64)
    if knots.size <= MAX_KNOTS:
        return knots, knots, weights, sums
    pooled = ((np.cumsum(weights) - weights) * MAX_KNOTS / values.size).astype(np.intp)
    starts = np.flatnonzero(np.diff(pooled, prepend=-1))
    ends = np.append(starts[1:], knots.size) - 1
    return knots[starts], knots[ends], np.add.reduceat(weights, starts), np.add.reduceat(sums, starts)


def _prefix(values: Floats) -> list[float]:
    return [0.0, *np.cumsum(values).tolist()]


def _hull_before(total: list[float], agreeing: list[float]) -> list[int]:
    """Return for each point of the cumulative diagram its neighbour on the lower hull of the points up to it."""
    before, hull = [-1] * len(total), [0]
    for point in range(1, len(total)):
        while len(hull) > 1 and _turns(total, agreeing, hull[-2], hull[-1], point):
            hull.pop()
        before[point] = hull[-1]
        hull.append(point)
    return before


def _hull_after(total: list[float], agreeing: list[float]) -> list[int]:
    """Return for each point its neighbour on the lower hull of the points from it onwards."""
    last = len(total) - 1
    after, hull = [-1] * len(total), [last]
    for point in range(last - 1, -1, -1):
        while len(hull) > 1 and _turns(total, agreeing, point, hull[-1], hull[-2]):
            hull.pop()
        after[point] = hull[-1]
        hull.append(point)
    return after


def _turns(x: list[float], y: list[float], a: int, b: int, c: int) -> bool:
    """Say whether b lies on or above the line from a to c, and so is no corner of the lower hull."""
    return (y[b] - y[a]) * (x[c] - x[b]) >= (y[c] - y[b]) * (x[b] - x[a])


def _fitted(total: list[float], agreeing: list[float], before: list[int], after: list[int], label: float) -> Floats:
    """Return the isotonic fit at a new row of `label`, placed before, on and after every knot in turn.

    Pooling adjacent violators outwards from the new row: the pooled blocks to its left and right are the edges of the
    hulls of the diagram's two halves, so each place costs only the blocks it swallows.
    """
    last = len(total) - 1
    fits = []
    for place in range(2 * last + 1):
        left, right = place // 2, (place + 1) // 2
        while True:
            fit = (agreeing[right] - agreeing[left] + label) / (total[right] - total[left] + 1.0)
            back, on = before[left], after[right]
            if back >= 0 and agreeing[left] - agreeing[back] >= fit * (total[left] - total[back]):
                left = back
            elif on >= 0 and agreeing[on] - agreeing[right] <= fit * (total[on] - total[right]):
                right = on
            else:
                break
        fits.append(fit)
    return np.asarray(fits)
