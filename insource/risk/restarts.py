"""Bets that begin anew at every outcome: the sum over all beginnings of what many gamblers would hold, mixed.

It knows factors, each with a mean of at most 1 while nothing has changed; not what they were made of.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from insource.risk.rows import Floats

FRACTIONS: Floats = np.asarray(0.005 * 2.0 ** np.arange(8), dtype=np.float64)
"""Shares of the largest safe bet, each twice the one before. The best one is the rise itself, over the room above the
limit, so half a point to over sixty are found; between two of them at most a tenth of the growth is lost."""


class RestartedBets:
    """Alarms once the mean over its gamblers of M_n = L_n (M_{n-1} + 1) reaches `average_run_length`.

    Each gambler multiplies its capital by L_n, of mean at most 1 given the past while nothing has changed, and puts in
    1 more before every outcome: a Shiryaev-Roberts e-detector, and so is the mean over them. Begun anew after each
    alarm, the expected number of alarms within H outcomes is at most H / average_run_length, without any assumption on
    what else is watched beside it: alarms of several detectors add up.
    Source: Shin, Ramdas and Rinaldo (2024), "E-detectors".
    """

    __slots__ = ("_capitals", "alarmed_at", "average_run_length", "observations")

    def __init__(self, gamblers: int, *, average_run_length: float) -> None:
        if gamblers < 1:
            raise ValueError(f"{gamblers} gamblers; expected at least one bet that can be made.")
        if not 1.0 <= average_run_length < math.inf:
            raise ValueError(f"average_run_length is {average_run_length}; expected a number of outcomes, at least 1.")
        self.average_run_length = float(average_run_length)
        self.observations = 0
        self.alarmed_at: int | None = None
        self._capitals: Floats = np.zeros(gamblers)

    def take(self, factors: Sequence[Floats] | Floats) -> bool:
        """Take the gamblers' factors for one outcome after the other, (outcomes, gamblers); say whether it alarmed.

        After an alarm outcomes are counted, and nothing else, until `reset`.
        """
        if self.alarmed_at is None:
            capitals, enough = self._capitals, self.average_run_length * self._capitals.size
            for place, row in enumerate(factors, start=1):
                capitals += 1.0
                capitals *= row
                if capitals.sum() >= enough:
                    self.alarmed_at = self.observations + place
                    break
        self.observations += len(factors)
        return self.alarmed_at is not None

    def skip(self, outcomes: int) -> None:
        """Count outcomes that come after an alarm."""
        self.observations += outcomes

    @property
    def log_evidence(self) -> float:
        """The log of the statistic that alarms at log(average_run_length); -inf before the first outcome."""
        held = float(self._capitals.mean())
        return math.log(held) if held > 0.0 else -math.inf

    @property
    def richest(self) -> int:
        """The gambler who holds most: what it bets on has moved, if anything has."""
        return int(self._capitals.argmax())

    def reset(self) -> None:
        """Begin anew."""
        self.observations, self.alarmed_at = 0, None
        self._capitals = np.zeros(self._capitals.size)

    def to_state(self) -> dict[str, Any]:
        """Return what to store, as JSON."""
        return {
            "observations": self.observations,
            "alarmed_at": self.alarmed_at,
            "capitals": self._capitals.tolist() if self.observations else [],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `to_state` gave. Raises ValueError where it is of other bets."""
        self.observations, self.alarmed_at = int(state["observations"]), state["alarmed_at"]
        if self.observations:
            if len(state["capitals"]) != self._capitals.size:
                raise ValueError(
                    f"a state of {len(state['capitals'])} gamblers; expected {self._capitals.size}. It belongs to "
                    "another reference: begin anew."
                )
            self._capitals = np.array(state["capitals"], dtype=np.float64)


def bets(inside: Any, limits: Any) -> Floats:
    """Return the factors of every fraction on every set: shape (..., sets * fractions).

    `inside` (..., sets) says whether the outcome lies in the set, `limits` (..., sets) the most that its chance may be.
    Bets on what cannot rise any more (a limit of 1) are not made: their factor is 1.
    """
    share = np.asarray(limits, dtype=np.float64)
    excess = np.where(share < 1.0, (np.asarray(inside, dtype=np.float64) - share) / share, 0.0)
    factors = 1.0 + excess[..., None] * FRACTIONS
    return np.asarray(factors.reshape(*factors.shape[:-2], -1), dtype=np.float64)
