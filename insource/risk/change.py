"""Change detection at any time: has the mean of bounded outcomes risen above a limit, however long it was good before?

A sequence over all history forgives for long what happens after good times; this one begins anew at every outcome. It
knows outcomes and a limit, not what is watched; to watch for a fall, pass 1 - outcome and 1 - limit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from insource.risk.betting import FRACTIONS, check_mean, checked_outcomes, log_factors, log_mixture, log_shares
from insource.risk.bounds import check_share
from insource.risk.rows import Floats

AT_ONCE = 4096
LOG_SHARES = log_shares(8.0)
"""More on small bets than elsewhere: watched limits are small, and so are the rises to find (a quarter sooner)."""


class ChangeDetector:
    """Alarms once the evidence that the mean has risen above `limit` reaches `average_run_length`.

    A Shiryaev-Roberts e-detector: the sum, over every outcome so far as the beginning, of a betting e-process begun
    there (fractions mixed as in `betting`, more on small ones). While each outcome's mean given the past stays at or
    under `limit`, the expected number of outcomes before an alarm is at least `average_run_length`, and the chance of
    an alarm within H outcomes at most H / average_run_length. The limit must be known; what is above it, and since
    when, need not be.
    Source: Shin, Ramdas and Rinaldo (2024), "E-detectors" (the SR e-detector and mixtures of baseline increments); the
    chance within H follows from Ville's inequality for the supermartingale M_n + H - n.

    Its state is one number for each of 65 fractions. Outcomes in [0, 1], 0/1 or bounded.
    """

    __slots__ = ("_log_capitals", "alarmed_at", "average_run_length", "limit", "observations")

    def __init__(self, limit: float, *, average_run_length: float) -> None:
        check_mean("limit", limit)
        if not 1.0 <= average_run_length < math.inf:
            raise ValueError(f"average_run_length is {average_run_length}; expected a number of outcomes, at least 1.")
        self.limit = limit
        self.average_run_length = float(average_run_length)
        self.observations = 0
        self.alarmed_at: int | None = None
        self._log_capitals: Floats = np.full(FRACTIONS.size, -math.inf)

    @classmethod
    def over_horizon(cls, limit: float, *, horizon: int, alpha: float) -> Self:
        """Return a detector whose chance of a false alarm within `horizon` outcomes is at most `alpha`."""
        check_share("alpha", alpha)
        if horizon < 1:
            raise ValueError(f"horizon is {horizon}; expected a number of outcomes, at least 1.")
        return cls(limit, average_run_length=horizon / alpha)

    def update(self, outcomes: Any) -> bool:
        """Take one outcome or many, in order, and say whether it has alarmed, at any of them or before.

        Raises ValueError where one is NaN or outside [0, 1].
        """
        values = checked_outcomes("outcomes", outcomes)
        for start in range(0, values.size, AT_ONCE):
            self._take(values[start : start + AT_ONCE])
        return self.alarmed_at is not None

    @property
    def log_evidence(self) -> float:
        """The log of the statistic that alarms at log(average_run_length); -inf before the first outcome."""
        return float(log_mixture(self._log_capitals, LOG_SHARES)) if self.observations else -math.inf

    def reset(self) -> None:
        """Begin anew, as after the cause of an alarm was mended."""
        self.observations, self.alarmed_at = 0, None
        self._log_capitals = np.full(FRACTIONS.size, -math.inf)

    def to_state(self) -> dict[str, Any]:
        """Return what to store, as JSON."""
        return {
            "limit": self.limit,
            "average_run_length": self.average_run_length,
            "observations": self.observations,
            "alarmed_at": self.alarmed_at,
            "log_capitals": self._log_capitals.tolist() if self.observations else [],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Go on from what `to_state` gave."""
        detector = cls(state["limit"], average_run_length=state["average_run_length"])
        detector.observations, detector.alarmed_at = int(state["observations"]), state["alarmed_at"]
        if detector.observations:
            detector._log_capitals = np.array(state["log_capitals"], dtype=np.float64)
        return detector

    def _take(self, values: Floats) -> None:
        """Recursion M_n = L_n (M_{n-1} + 1) for each fraction, unrolled: M_n = P_n (M_0 + sum of 1 / P_j for j < n)."""
        log_products = np.cumsum(log_factors(values, self.limit), axis=0)
        begun = np.vstack([self._log_capitals, np.zeros(FRACTIONS.size), -log_products[:-1]])
        log_capitals = log_products + np.logaddexp.accumulate(begun, axis=0)[1:]
        if self.alarmed_at is None:
            over = np.flatnonzero(log_mixture(log_capitals, LOG_SHARES) >= math.log(self.average_run_length))
            self.alarmed_at = self.observations + int(over[0]) + 1 if over.size else None
        self._log_capitals = log_capitals[-1]
        self.observations += values.size
