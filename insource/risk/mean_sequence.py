"""Confidence sequences: bounds on a mean that hold at all times at once, however often one looks.

Shares of 0/1 outcomes, and means of bounded or weighted losses. They watch; to certify a threshold, `band` certifies
more from the same rows. They speak of the mean over all history: a change after long good times is `change`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from insource.risk.betting import (
    checked_outcomes,
    counts_of,
    largest_rejected,
    log_evidence_above,
    log_evidence_below,
    log_factors,
    log_mixture,
)
from insource.risk.bounds import check_share
from insource.risk.rows import Floats

POINTS: Floats = (np.arange(65) / 64.0) ** 2
"""Where bounded losses are counted: closer together near 0, where losses and weights of 1/propensity lie."""


class ShareSequence:
    """The share of wrong answers among rows, each wrong or not; its state is two counts.

    Closed form: the one-sided beta-binomial mixture on either side (Robbins 1970; Howard et al. 2021), inverted by
    bisection. Assumes that each row's chance of being wrong, given the past, is the share in question.
    """

    __slots__ = ("errors", "rows")

    def __init__(self) -> None:
        self.errors = 0
        self.rows = 0

    def update(self, wrong: Any) -> None:
        """Count one row or many, each 0 or 1. Raises ValueError for anything else."""
        flags = checked_outcomes("wrong", wrong, binary=True)
        self.errors += int(flags.sum())
        self.rows += flags.size

    @property
    def mean(self) -> float | None:
        """The share seen; None without rows."""
        return self.errors / self.rows if self.rows else None

    def log_evidence_above(self, limit: float) -> float:
        """Return the log e-value against "the share is at most `limit`": suspend at log(1/alpha)."""
        return float(log_evidence_above(self.errors, self.rows - self.errors, limit))

    def log_evidence_below(self, limit: float) -> float:
        """Return the log e-value against "the share is at least `limit`"."""
        return float(log_evidence_below(self.errors, self.rows - self.errors, limit))

    def lower_bound(self, confidence_level: float) -> float:
        """Return the one-sided lower bound, valid at all times at once."""
        check_share("confidence_level", confidence_level)
        return largest_rejected(self.log_evidence_above, 1.0 - confidence_level)

    def upper_bound(self, confidence_level: float) -> float:
        """Return the one-sided upper bound, valid at all times at once."""
        check_share("confidence_level", confidence_level)
        right = self.rows - self.errors
        rest = largest_rejected(
            lambda mean: float(log_evidence_above(right, self.errors, mean)), 1.0 - confidence_level
        )
        return 1.0 - rest

    def interval(self, confidence_level: float) -> tuple[float, float]:
        """Return (low, high): each end one-sided at half of 1 - confidence_level."""
        one_sided = 1.0 - (1.0 - confidence_level) / 2.0
        return self.lower_bound(one_sided), self.upper_bound(one_sided)

    def to_state(self) -> dict[str, Any]:
        """Return what to store, as JSON."""
        return {"errors": self.errors, "rows": self.rows}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Go on from what `to_state` gave."""
        sequence = cls()
        sequence.errors, sequence.rows = int(state["errors"]), int(state["rows"])
        if not 0 <= sequence.errors <= sequence.rows:
            raise ValueError(f"{sequence.errors} errors among {sequence.rows} rows; expected 0 <= errors <= rows.")
        return sequence


class MeanSequence:
    """The mean of losses in [0, `largest`], with the mixture over fixed fractions (see `betting`).

    Losses seen with a known chance p >= p_min enter as loss / p with `largest` 1 / p_min: their mean is the mean loss
    (inverse propensity; Waudby-Smith and Ramdas 2024 treat it as a bounded mean). Losses between two of 65 points are
    split over both, which keeps the mean and can only lose evidence, so state and work stay bounded.
    Source: Waudby-Smith and Ramdas (2024, section 4), with the bets mixed (Orabona and Jun 2024), not predicted.
    """

    __slots__ = ("_counts", "largest", "rows")

    def __init__(self, largest: float = 1.0) -> None:
        if not 0.0 < largest < float("inf"):
            raise ValueError(f"largest is {largest}; expected the largest loss possible, above 0. Pass 1 / p_min.")
        self.largest = float(largest)
        self.rows = 0
        self._counts: Floats = np.zeros(POINTS.size)

    def update(self, losses: Any) -> None:
        """Count one loss or many. Raises ValueError where one is NaN or outside [0, largest]."""
        values = checked_outcomes("losses", losses, largest=self.largest) / self.largest
        self._counts += counts_of(values, POINTS)
        self.rows += values.size

    @property
    def mean(self) -> float | None:
        """The mean seen; None without rows."""
        return float(self._counts @ POINTS) / self.rows * self.largest if self.rows else None

    def log_evidence_above(self, limit: float) -> float:
        """Return the log e-value against "the mean is at most `limit`", in the losses' own units."""
        return self._evidence(POINTS, self._inside(limit))

    def log_evidence_below(self, limit: float) -> float:
        """Return the log e-value against "the mean is at least `limit`", in the losses' own units."""
        return self._evidence(1.0 - POINTS, 1.0 - self._inside(limit))

    def lower_bound(self, confidence_level: float) -> float:
        """Return the one-sided lower bound, valid at all times at once."""
        check_share("confidence_level", confidence_level)
        return self.largest * largest_rejected(lambda mean: self._evidence(POINTS, mean), 1.0 - confidence_level)

    def upper_bound(self, confidence_level: float) -> float:
        """Return the one-sided upper bound, valid at all times at once."""
        check_share("confidence_level", confidence_level)
        rest = largest_rejected(lambda mean: self._evidence(1.0 - POINTS, mean), 1.0 - confidence_level)
        return self.largest * (1.0 - rest)

    def interval(self, confidence_level: float) -> tuple[float, float]:
        """Return (low, high): each end one-sided at half of 1 - confidence_level."""
        one_sided = 1.0 - (1.0 - confidence_level) / 2.0
        return self.lower_bound(one_sided), self.upper_bound(one_sided)

    def to_state(self) -> dict[str, Any]:
        """Return what to store, as JSON: the counts by the number of their point, those above 0."""
        seen = {str(place): float(self._counts[place]) for place in np.flatnonzero(self._counts)}
        return {"largest": self.largest, "rows": self.rows, "counts": seen}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Go on from what `to_state` gave."""
        sequence = cls(state["largest"])
        sequence.rows = int(state["rows"])
        for place, count in state["counts"].items():
            sequence._counts[int(place)] = count
        return sequence

    def _evidence(self, points: Floats, mean: float) -> float:
        seen = np.flatnonzero(self._counts)
        return float(log_mixture(self._counts[seen] @ log_factors(points[seen], mean)))

    def _inside(self, limit: float) -> float:
        if not 0.0 < limit < self.largest:
            raise ValueError(f"limit is {limit}; expected a number strictly between 0 and {self.largest:g}.")
        return limit / self.largest
