"""The grid of counts of the step-down band, and the level at which all its exact tests hold together.

It knows grids and probabilities, no data. Source: docs/explanation/the-bound.md; the recursion is
that of Noe 1972.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import bdtr, gammaln, xlog1py, xlogy

from insource.risk.bounds import rows_needed
from insource.risk.rows import Floats

GROWTH = 1.03
TRIM = 1e-18


@lru_cache(maxsize=256)
def grid_of(rows: int, target_risk: float, confidence_level: float) -> tuple[int, ...]:
    """Return the counts to test: from the fewest that can pass, each 3 % (at least one) more, the last being `rows`."""
    count = rows_needed(target_risk, confidence_level)
    counts = []
    while count < rows:
        counts.append(count)
        count = max(count + 1, round(count * GROWTH))
    return (*counts, rows) if count == rows or counts else ()


@lru_cache(maxsize=4096)
def level(grid: tuple[int, ...], target_risk: float, delta: float) -> float:
    """Return the largest c at which a walk at `target_risk` passes somewhere on `grid` with probability <= delta.

    A walk S of Bernoulli(target_risk) steps passes at m where F(S_m; m, target_risk) <= c, F the binomial distribution
    function. That probability jumps only where c meets a value of F, so the search runs over those values and the
    answer is exact: the float just under the first value that is too much.
    """
    tails = _tails(grid, target_risk, delta)
    walk = _walk(grid, target_risk)
    ceiling = min(float(tail[-1]) for tail in tails)
    jumps = np.unique(np.concatenate(tails))
    low, high = 0, int(np.searchsorted(jumps, ceiling))
    while low < high:
        middle = (low + high) // 2
        passing = [int(np.searchsorted(tail, jumps[middle], side="right")) for tail in tails]
        if _chance_of_passing(walk, passing, delta) > delta:
            high = middle
        else:
            low = middle + 1
    return float(np.nextafter(jumps[low], 0.0))


@dataclass(frozen=True, slots=True)
class _Pieces:
    """The walk over a grid: the distribution of each stretch's errors, from its first likely count."""

    starts: tuple[int, ...]
    masses: tuple[Floats, ...]


def _tails(grid: tuple[int, ...], target_risk: float, delta: float) -> list[Floats]:
    """Return for each count the values of F up to the first above delta, at which that count alone passes too often."""
    tails = []
    for count in grid:
        spread = 8.0 * np.sqrt(count * target_risk * (1.0 - target_risk)) + 8.0
        values = bdtr(np.arange(min(count, int(count * target_risk + spread)) + 1), count, target_risk)
        tails.append(values[: int(np.searchsorted(values, delta, side="right")) + 1])
    return tails


def _walk(grid: tuple[int, ...], target_risk: float) -> _Pieces:
    steps = [grid[0], *np.diff(grid).tolist()]
    pieces = [_binomial(int(step), target_risk) for step in steps]
    return _Pieces(tuple(start for start, _ in pieces), tuple(mass for _, mass in pieces))


@lru_cache(maxsize=4096)
def _binomial(count: int, share: float) -> tuple[int, Floats]:
    k = np.arange(count + 1)
    log = gammaln(count + 1) - gammaln(k + 1) - gammaln(count - k + 1) + xlogy(k, share) + xlog1py(count - k, -share)
    return _trimmed(0, np.exp(log))


def _trimmed(start: int, mass: Floats) -> tuple[int, Floats]:
    kept = np.flatnonzero(mass > TRIM)
    if kept.size == 0:
        return start, mass[:0]
    return start + int(kept[0]), mass[kept[0] : kept[-1] + 1]


def _chance_of_passing(walk: _Pieces, passing: list[int], enough: float) -> float:
    """Return the chance that the walk has fewer than passing[i] errors at some grid point i.

    Stops early once it is above `enough`. At each point the mass that passes is taken out and added up, the rest walks
    on. The masses trimmed away are under 1e-14 in all.
    """
    chance, start, mass = 0.0, 0, np.ones(1)
    for first, piece, bound in zip(walk.starts, walk.masses, passing, strict=True):
        start, mass = _trimmed(start + first, np.convolve(mass, piece))
        cut = min(max(bound - start, 0), mass.size)
        chance += float(mass[:cut].sum())
        start, mass = start + cut, mass[cut:]
        if chance > enough or mass.size == 0:
            break
    return chance
