"""Evidence that a mean difference lies above a margin: one e-process over pairs, each a difference in [-1, 1].

It knows differences and counts of them, not which side is a candidate, nor what follows from the evidence.
"""

from __future__ import annotations

import math

import numpy as np

from insource.risk.betting import (
    counts_of,
    largest_rejected,
    log_evidence_above,
    log_factors,
    log_mixture,
    spread,
)
from insource.risk.rows import Floats

THREE: Floats = np.array([-1.0, 0.0, 1.0])
FINE: Floats = np.sign(np.arange(-64, 65)) * (np.arange(-64, 65) / 64.0) ** 2
"""Where differences are counted: of 0/1 losses, and of bounded ones (then split over neighbours, see `betting.spread`).

Both lie alike on either side of 0, so that turning counts round turns differences round.
"""
AT_ONCE = 1024
FARTHEST = 10_000_000


class DifferenceEvidence:
    """The e-process against "the mean difference is at most `margin`".

    Of 0/1 losses at margin 0 only the discordant pairs matter: the one-sided beta mixture on whether the difference is
    1 among them, in closed form (McNemar 1947 tested always validly; Lindon and Malek 2022 for counts; Robbins 1970).
    Otherwise bets on the difference itself, mixed over fixed fractions (Waudby-Smith and Ramdas 2024, section 4).
    """

    __slots__ = ("_closed", "_table", "margin", "points")

    def __init__(self, margin: float, *, bounded: bool) -> None:
        if not -1.0 < margin < 1.0:
            raise ValueError(f"margin is {margin}; expected a difference strictly between -1 and 1 (2 points: 0.02).")
        self.margin = margin
        self.points = points_of(bounded=bounded)
        self._closed = margin == 0.0 and not bounded
        self._table = log_factors((self.points + 1.0) / 2.0, (margin + 1.0) / 2.0)

    def of(self, counts: Floats) -> Floats:
        """Return the log e-value of counts over the points, shape (..., points); fractions of a count are allowed."""
        if self._closed:
            return log_evidence_above(counts[..., 2], counts[..., 0], 0.5)
        return log_mixture(counts @ self._table)

    def first_crossing(self, counts: Floats, differences: Floats, alpha: float) -> int | None:
        """Return after how many of `differences`, which follow on `counts`, the e-value first reached 1/alpha."""
        for start in range(0, differences.size, AT_ONCE):
            part = differences[start : start + AT_ONCE]
            over = np.flatnonzero(self._path(counts, part) >= -math.log(alpha))
            if over.size:
                return start + int(over[0]) + 1
            counts = counts + counts_of(part, self.points)
        return None

    def further(self, counts: Floats, alpha: float) -> int | None:
        """Return how many more pairs would bring it to 1/alpha if they came exactly in the proportions of `counts`.

        The log e-value is convex along that line and begins below, so it crosses at most once. None: never within ten
        million. The estimate ignores that the proportions themselves are uncertain; early on it jumps about.
        """
        seen, wanted = float(counts.sum()), -math.log(alpha)
        if seen == 0.0:
            return None
        rates = counts / seen
        short, enough = 0, 1
        while float(self.of(counts + enough * rates)) < wanted:
            short, enough = enough, 2 * enough
            if enough > FARTHEST:
                return None
        while enough - short > 1:
            middle = (short + enough) // 2
            short, enough = (short, middle) if float(self.of(counts + middle * rates)) >= wanted else (middle, enough)
        return enough

    def _path(self, counts: Floats, differences: Floats) -> Floats:
        """Return the log e-value after each of the differences."""
        if self._closed:
            ups, downs = np.cumsum(differences > 0.0), np.cumsum(differences < 0.0)
            moved = differences != 0.0  # the others change nothing, so need no look
            path = np.full(differences.size, -math.inf)
            path[moved] = log_evidence_above(counts[2] + ups[moved], counts[0] + downs[moved], 0.5)
            return path
        places, upper = spread(differences, self.points)
        steps = (1.0 - upper)[:, None] * self._table[places] + upper[:, None] * self._table[places + 1]
        return log_mixture(counts @ self._table + np.cumsum(steps, axis=0))


def points_of(*, bounded: bool) -> Floats:
    """Return the points at which differences are counted."""
    return FINE if bounded else THREE


def lower_bound(counts: Floats, points: Floats, alpha: float) -> float:
    """Return the largest margin that counts over the points reject at `alpha`: a bound valid at all times at once."""
    seen = np.flatnonzero(counts)
    outcomes = (points[seen] + 1.0) / 2.0
    return (
        2.0 * largest_rejected(lambda mean: float(log_mixture(counts[seen] @ log_factors(outcomes, mean))), alpha) - 1.0
    )
