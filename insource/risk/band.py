"""The step-down simultaneous exact band: the lowest threshold whose risk is certified at or under a target.

It knows scores and which answers were wrong; not what a task is, nor how the scores were made.
Sources: Noe (1972), Berk and Jones (1979) and Owen (1995) on exact bands; Romano and Wolf (2005) on stepping down.
docs/explanation/the-bound.md tells the method and its figures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, betainccinv

from insource.risk.bounds import check_share
from insource.risk.levels import grid_of, level
from insource.risk.rows import Floats, checked, highest_first


@dataclass(frozen=True, slots=True)
class CertifiedPoint:
    """One count that passed: accept iff score >= threshold, which takes exactly `accepted` calibration rows."""

    threshold: float
    accepted: int
    errors: int
    risk_upper_bound: float


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the band certified: accept iff score >= threshold; None accepts nothing.

    `risk_upper_bound` inverts the exact tail at the simultaneous level under which the point passed (at most delta), so
    it is never above the target. `points` are all that passed: they hold together, so any of them may be chosen after a
    look.
    """

    threshold: float | None
    accepted: int
    errors: int
    rows: int
    coverage: float
    risk_upper_bound: float | None
    points: tuple[CertifiedPoint, ...] = ()


def certify(
    scores: Any, wrong: Any, *, target_risk: float, confidence_level: float, at_least: float = -math.inf
) -> Certificate:
    """Certify the largest coverage whose risk is at most `target_risk`, at `confidence_level`.

    `scores` float (n,), `wrong` bool (n,). With `at_least` (from the guards) only thresholds at or above it count.
    Step down: at level c_1 of the whole grid take the largest passing count, drop the grid up to it, and go on with the
    rest at its own, larger level. Assumes independent rows from one population and a score fixed without them; exact
    where risk does not fall as the threshold falls, else approximate (worst construction .052 for .05). With tied
    scores the grid moves down to boundaries between distinct scores, which the rows themselves decide.
    Raises ValueError for NaN scores, shapes that differ, or shares outside (0, 1).
    """
    check_share("target_risk", target_risk)
    check_share("confidence_level", confidence_level)
    values, flags = highest_first(*checked(scores, wrong))
    rows = int(values.size)
    grid = _between_distinct(values, grid_of(rows, target_risk, confidence_level))
    errors = np.cumsum(flags, dtype=np.int64)
    points = tuple(
        _point(values, count, int(errors[count - 1]), min(bound, target_risk))
        for count, bound in _step_down(grid, errors, target_risk, 1.0 - confidence_level)
    )
    chosen = next((point for point in reversed(points) if point.threshold >= at_least), None)
    if chosen is None:
        return Certificate(None, 0, 0, rows, 0.0, None, points)
    coverage = chosen.accepted / rows
    return Certificate(
        chosen.threshold, chosen.accepted, chosen.errors, rows, coverage, chosen.risk_upper_bound, points
    )


def _between_distinct(values: Floats, grid: tuple[int, ...]) -> tuple[int, ...]:
    """Move each count down to the nearest boundary between distinct scores; `values` are sorted, highest first."""
    if not grid or np.all(values[1:] < values[:-1]):
        return grid
    boundaries = np.append(np.flatnonzero(values[1:] < values[:-1]) + 1, values.size)
    places = np.searchsorted(boundaries, grid, side="right") - 1
    return tuple(int(count) for count in np.unique(boundaries[places[places >= 0]]))


def _step_down(
    grid: tuple[int, ...], errors: NDArray[np.int64], target_risk: float, delta: float
) -> list[tuple[int, float]]:
    """Return (count, upper bound on its risk) for every grid point that passes, in rising order of count."""
    counts = np.asarray(grid, dtype=np.int64)
    seen = errors[counts - 1] if counts.size else counts
    tails = bdtr(seen, counts, target_risk)
    passed: list[tuple[int, float]] = []
    first = 0
    while first < counts.size:
        c = level(grid[first:], target_risk, delta)
        places = first + np.flatnonzero(tails[first:] <= c)
        if places.size == 0:
            break
        bounds = betainccinv(seen[places] + 1, counts[places] - seen[places], min(c, delta))
        passed += zip(counts[places].tolist(), bounds.tolist(), strict=True)
        first = int(places[-1]) + 1
    return passed


def _point(values: Floats, count: int, errors: int, bound: float) -> CertifiedPoint:
    """Accept strictly above the first score that is left out; with all rows in, everything."""
    threshold = -math.inf if count == values.size else float(np.nextafter(values[count], math.inf))
    return CertifiedPoint(threshold, count, errors, bound)
