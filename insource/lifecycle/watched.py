"""A share that must stay under a limit, watched row by row: how much of it was seen, and when it was shown to be above.

It knows outcomes and a limit; what is watched, and what follows from a crossing, is its callers' business.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from insource.risk.change import ChangeDetector
from insource.risk.mean_sequence import ShareSequence

AVERAGE_RUN_LENGTH = 100_000
"""Rows that pass, on average, before a guard that never rises above its limit is taken for one that has.

Promise C7 allows one false alarm in 100,000 stable requests, and drift uses up half of that (see `risk.drift`). A row
belongs to one guard, so guards add up to one in 100,000 of their rows: of at most half of the requests, as audits are.
"""
LOWEST, HIGHEST = 1e-6, 1.0 - 1e-6


@dataclass(frozen=True, slots=True)
class Share:
    """`count` of `rows`, with bounds that hold at all times at once, and the limit they are held against.

    `crossed` stays true once the share was shown to be above its limit, whatever came afterwards.
    """

    count: int
    rows: int
    limit: float
    lower: float
    upper: float
    crossed: bool

    @property
    def value(self) -> float | None:
        """The share seen; None without rows."""
        return self.count / self.rows if self.rows else None


class Counted:
    """A confidence sequence over all rows. A limit of 0 or 1 is moved to the nearest that can be tested."""

    def __init__(self, limit: float, confidence_level: float) -> None:
        self.limit, self._level = limit, confidence_level
        self._tested = testable(limit)
        self._sequence = ShareSequence()

    def take(self, bad: bool) -> None:
        """Count one row."""
        self._sequence.update(bad)

    @property
    def rows(self) -> int:
        """Rows counted."""
        return self._sequence.rows

    @property
    def shown_under(self) -> bool:
        """Whether the share is shown to be at most the limit now: the upper bound is under it."""
        return self._sequence.log_evidence_below(self._tested) >= -math.log(1.0 - self._level)

    @property
    def shown_above(self) -> bool:
        """Whether the share is shown to be above the limit now."""
        return self._sequence.log_evidence_above(self._tested) >= -math.log(1.0 - self._level)

    def figures(self, *, crossed: bool = False) -> Share:
        """Return what was seen so far."""
        seen = self._sequence
        low, high = (seen.lower_bound(self._level), seen.upper_bound(self._level)) if seen.rows else (0.0, 1.0)
        return Share(seen.errors, seen.rows, self.limit, low, high, crossed)

    def to_state(self) -> dict[str, Any]:
        """Return what to store, as JSON."""
        return {"sequence": self._sequence.to_state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `to_state` gave, under the same limit."""
        self._sequence = ShareSequence.from_state(state["sequence"])


def testable(limit: float) -> float:
    """Return the nearest limit that can be tested."""
    return min(max(limit, LOWEST), HIGHEST)


class Watched(Counted):
    """Looks at every row for a crossing: by the sequence over all of them or, with `changes`, by a detector alone.

    The sequence is for a trial, which ends: the chance that it is ever wrong is 1 - the level. What serves is watched
    without end, and turns bad after long good times: the detector forgets these, and is wrong once in its run length.
    """

    def __init__(self, limit: float, confidence_level: float, *, changes: bool = False) -> None:
        super().__init__(limit, confidence_level)
        self._detector = ChangeDetector(self._tested, average_run_length=AVERAGE_RUN_LENGTH) if changes else None
        self.crossed = False

    def take(self, bad: bool) -> None:
        """Count one row."""
        super().take(bad)
        if self._detector is not None:
            self.crossed |= self._detector.update(float(bad))
        elif bad and not self.crossed:  # a good row is never evidence that the share is too high
            self.crossed = self.shown_above

    def figures(self, *, crossed: bool = False) -> Share:
        """Return what was seen so far."""
        return super().figures(crossed=self.crossed or crossed)

    def to_state(self) -> dict[str, Any]:
        """Return what to store, as JSON."""
        detector = None if self._detector is None else self._detector.to_state()
        return super().to_state() | {"detector": detector, "crossed": self.crossed}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `to_state` gave, under the same limit."""
        super().restore(state)
        self._detector = None if state["detector"] is None else ChangeDetector.from_state(state["detector"])
        self.crossed = bool(state["crossed"])
