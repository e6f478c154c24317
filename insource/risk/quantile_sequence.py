"""Confidence sequences for quantiles, such as the 99th percentile of latency: bounds that hold at all times at once.

It knows numbers on a fixed grid of edges; their unit is the caller's. State is one count for each edge.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from insource.risk.betting import log_evidence_above, log_evidence_below
from insource.risk.bounds import check_share
from insource.risk.rows import Floats


class Kept(StrEnum):
    """Whether a limit on a quantile is kept, as far as the rows show."""

    YES = "yes"
    NO = "no"
    OPEN = "open"


def latency_edges(
    *, lowest: float = 0.001, highest: float = 600.0, step: float = 1.02, also: Iterable[float] = ()
) -> Floats:
    """Return rising edges, each `step` times the one before, and those in `also`: limits that will be asked about."""
    if not (0.0 < lowest < highest < math.inf and step > 1.0):
        raise ValueError(f"edges from {lowest} to {highest} by {step}; expected 0 < lowest < highest and step above 1.")
    number = math.ceil(math.log(highest / lowest) / math.log(step))
    return np.unique(np.append(lowest * step ** np.arange(number + 1), np.asarray(tuple(also), dtype=np.float64)))


class QuantileSequence:
    """Bounds on any quantile of a stream, from counts between fixed edges.

    The q-quantile is at most an edge exactly if at most 1 - q of the values exceed it, so each edge has the two 0/1
    e-processes of `betting` on its exceedances. Evidence only grows with the number of exceedances, which falls as the
    edge rises; so all false rejections on one side imply that at the edge next to the true quantile, and no union bound
    over edges is paid. The grid costs resolution only: bounds are edges, rounded outwards.
    Source: Howard and Ramdas (2022), "Sequential estimation of quantiles" (sequences for a fixed quantile), with the
    beta-binomial mixture in place of their boundary. One quantile at one level a promise; each further one has its own.
    """

    __slots__ = ("_counts", "edges", "rows")

    def __init__(self, edges: Any) -> None:
        self.edges: Floats = np.asarray(edges, dtype=np.float64)
        if self.edges.ndim != 1 or self.edges.size == 0 or not np.all(np.isfinite(self.edges)):
            raise ValueError(
                f"edges have shape {self.edges.shape}; expected a row of finite numbers. See latency_edges."
            )
        if np.any(np.diff(self.edges) <= 0.0):
            raise ValueError("edges do not rise throughout; expected each above the one before. Sort them.")
        self.rows = 0
        self._counts: NDArray[np.int64] = np.zeros(self.edges.size + 1, dtype=np.int64)

    def update(self, values: Any) -> None:
        """Count one value or many; +inf (never answered) is above every edge. Raises ValueError for NaN and -inf."""
        numbers = np.atleast_1d(np.asarray(values, dtype=np.float64))
        if numbers.ndim != 1 or np.any(np.isnan(numbers) | np.isneginf(numbers)):
            raise ValueError(
                f"values hold NaN or -inf, or have shape {numbers.shape}; expected one number for each row."
            )
        self._counts += np.bincount(np.searchsorted(self.edges, numbers, side="left"), minlength=self._counts.size)
        self.rows += numbers.size

    def upper_bound(self, share: float, confidence_level: float) -> float:
        """Return the one-sided upper bound on the `share`-quantile; +inf where no edge is high enough."""
        wanted = _wanted(share, confidence_level)
        above, under = self._either_side()
        shown = np.flatnonzero(log_evidence_below(above, under, 1.0 - share) >= wanted)
        return float(self.edges[shown[0]]) if shown.size else math.inf

    def lower_bound(self, share: float, confidence_level: float) -> float:
        """Return the one-sided lower bound on the `share`-quantile; -inf where no edge is low enough."""
        wanted = _wanted(share, confidence_level)
        above, under = self._either_side()
        shown = np.flatnonzero(log_evidence_above(above, under, 1.0 - share) >= wanted)
        return float(self.edges[shown[-1]]) if shown.size else -math.inf

    def interval(self, share: float, confidence_level: float) -> tuple[float, float]:
        """Return (low, high): each end one-sided at half of 1 - confidence_level."""
        one_sided = 1.0 - (1.0 - confidence_level) / 2.0
        return self.lower_bound(share, one_sided), self.upper_bound(share, one_sided)

    def within(self, limit: float, share: float, confidence_level: float) -> Kept:
        """Say whether the `share`-quantile is at most `limit`; either answer is wrong, ever, with 1 - level at most.

        Sharp where `limit` is an edge; between two edges a quantile between the same two stays open.
        """
        if self.upper_bound(share, confidence_level) <= limit:
            return Kept.YES
        return Kept.NO if self.lower_bound(share, confidence_level) >= limit else Kept.OPEN

    def not_above(self, incumbent: QuantileSequence, *, by: float, share: float, confidence_level: float) -> Kept:
        """Say whether this `share`-quantile is at most `by` above the incumbent's.

        Each of both bounds takes half of 1 - level, so nothing is assumed of how the two streams depend. Either answer
        is wrong, ever, with 1 - level at most.
        """
        one_sided = 1.0 - (1.0 - confidence_level) / 2.0
        if self.upper_bound(share, one_sided) <= incumbent.lower_bound(share, one_sided) + by:
            return Kept.YES
        above = self.lower_bound(share, one_sided) >= incumbent.upper_bound(share, one_sided) + by
        return Kept.NO if above else Kept.OPEN

    def to_state(self) -> dict[str, Any]:
        """Return what to store, as JSON: the counts by number of edge, those above 0. The edges are not in it."""
        return {"rows": self.rows, "counts": {str(at): int(self._counts[at]) for at in np.flatnonzero(self._counts)}}

    @classmethod
    def from_state(cls, edges: Any, state: Mapping[str, Any]) -> Self:
        """Go on from what `to_state` gave, over the same edges."""
        sequence = cls(edges)
        for at, count in state["counts"].items():
            sequence._counts[int(at)] = count
        sequence.rows = int(state["rows"])
        if sequence.rows != int(sequence._counts.sum()):
            raise ValueError(f"{sequence.rows} rows but counts of {int(sequence._counts.sum())}; the state is damaged.")
        return sequence

    def _either_side(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return how many values lie above each edge, and how many at or under it."""
        under = np.cumsum(self._counts[:-1])
        return self.rows - under, under


def _wanted(share: float, confidence_level: float) -> float:
    check_share("share", share)
    check_share("confidence_level", confidence_level)
    return -math.log(1.0 - confidence_level)
