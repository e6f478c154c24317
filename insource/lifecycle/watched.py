"""A share that must stay under a limit, watched row by row: how much of it was seen, and when it was shown to be above.

It knows outcomes and a limit; what is watched, and what follows from a crossing, is its callers' business.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from insource.risk.change import ChangeDetector
from insource.risk.mean_sequence import ShareSequence

AVERAGE_RUN_LENGTH = 100_000
"""Rows that pass, on average, before a share that never rises above its limit is taken for one that has.

Promise C7 allows one false alarm in 100,000 stable requests; rows are audits, of which there are fewer than requests.
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


class Watched:
    """Looks at every row: a confidence sequence over all of them and, with `changes`, a detector that forgets.

    The sequence finds what was bad from the beginning, the detector what turned bad after long good times. A limit of 0
    or 1 is moved to the nearest that can be tested.
    """

    def __init__(self, limit: float, confidence_level: float, *, changes: bool = False) -> None:
        self.limit, self._level = limit, confidence_level
        self._tested = min(max(limit, LOWEST), HIGHEST)
        self._sequence = ShareSequence()
        self._detector = ChangeDetector(self._tested, average_run_length=AVERAGE_RUN_LENGTH) if changes else None
        self.crossed = False

    def take(self, bad: bool) -> None:
        """Count one row."""
        self._sequence.update(bad)
        if self._detector is not None:
            self.crossed |= self._detector.update(float(bad))
        if bad and not self.crossed:  # a good row is never evidence that the share is too high
            self.crossed = self._sequence.log_evidence_above(self._tested) >= -math.log(1.0 - self._level)

    @property
    def rows(self) -> int:
        """Rows counted."""
        return self._sequence.rows

    @property
    def shown_under(self) -> bool:
        """Whether the share is shown to be at most the limit now: the upper bound is under it."""
        return self._sequence.log_evidence_below(self._tested) >= -math.log(1.0 - self._level)

    def figures(self) -> Share:
        """Return what was seen so far."""
        seen = self._sequence
        low, high = (seen.lower_bound(self._level), seen.upper_bound(self._level)) if seen.rows else (0.0, 1.0)
        return Share(seen.errors, seen.rows, self.limit, low, high, self.crossed)
