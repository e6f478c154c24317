"""Drift of a share that must stay under a limit: whether it rose, since when, and where it stands since then.

The share of wrong answers among the audited that would be accepted, of missed guards, or of references outside the
closed set. It knows 0/1 outcomes and a limit.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from insource.risk.betting import checked_outcomes, largest_rejected, log_evidence_above
from insource.risk.change import ChangeDetector
from insource.risk.rows import Floats

WINDOW = 1024


@dataclass(frozen=True, slots=True)
class Since:
    """Where the share stands since it most likely rose: `rows` outcomes ago, `share` of them 1.

    `lower` and `upper` bound it at the level asked for, if the rise began at any one of the outcomes remembered.
    """

    rows: int
    share: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class RiskFigures:
    """`rows` outcomes were seen; it alarmed after `alarmed_at`; `log_evidence` alarms at `log_needed`."""

    rows: int
    alarmed_at: int | None
    log_evidence: float
    log_needed: float
    limit: float
    since: Since | None


class RiskDrift:
    """A `ChangeDetector` that remembers the last 1,024 outcomes, to say since when and how far.

    Since when is the beginning that makes a rise above the limit most likely (Hinkley 1970, "Inference about the
    change-point in a sequence of random variables"). The bound since then is the largest share at which a change
    detector with the run length window / alpha would have alarmed by the bets begun there, so it exceeds the truth
    within any window of outcomes with chance at most alpha, though data chose the beginning (Shin, Ramdas and Rinaldo
    2024, with the bound of `change` within a horizon).
    """

    __slots__ = ("_detector", "_recent")

    def __init__(self, limit: float, *, average_run_length: float) -> None:
        self._detector = ChangeDetector(limit, average_run_length=average_run_length)
        self._recent: deque[int] = deque(maxlen=WINDOW)

    def update(self, outcomes: Any) -> bool:
        """Take one 0/1 outcome or many, in order, and say whether it has alarmed."""
        flags = checked_outcomes("outcomes", outcomes, binary=True)
        alarmed = self._detector.update(flags)
        self._recent.extend(flags.astype(int).tolist())
        return alarmed

    @property
    def alarmed_at(self) -> int | None:
        """After how many outcomes it alarmed."""
        return self._detector.alarmed_at

    @property
    def average_run_length(self) -> float:
        """Outcomes before a false alarm, on average, at least."""
        return self._detector.average_run_length

    def over(self, average_run_length: float) -> Self:
        """Return the same, to alarm at another run length from now on."""
        state = self.to_state()
        return self.from_state(state | {"detector": state["detector"] | {"average_run_length": average_run_length}})

    @property
    def log_evidence(self) -> float:
        """The log of the statistic that alarms at the log of the average run length."""
        return self._detector.log_evidence

    def since(self, confidence_level: float = 0.95) -> Since | None:
        """Return since when the share is most likely above the limit, and where it stands; None where it never is."""
        flags = np.array(self._recent, dtype=np.float64)[::-1]
        ones, rows = np.cumsum(flags), np.arange(1, flags.size + 1)
        gains = rows * _divergence(ones / rows, self._detector.limit)
        if not flags.size or gains.max() <= 0.0:
            return None
        best = int(gains.argmax())
        hits, misses = float(ones[best]), float(rows[best] - ones[best])
        alpha = (1.0 - confidence_level) / (2.0 * WINDOW)
        return Since(
            rows=best + 1,
            share=hits / (best + 1),
            lower=largest_rejected(lambda mean: float(log_evidence_above(hits, misses, mean)), alpha),
            upper=1.0 - largest_rejected(lambda mean: float(log_evidence_above(misses, hits, mean)), alpha),
        )

    def figures(self) -> RiskFigures:
        """Return where it stands."""
        detector = self._detector
        return RiskFigures(
            rows=detector.observations,
            alarmed_at=detector.alarmed_at,
            log_evidence=detector.log_evidence,
            log_needed=math.log(detector.average_run_length),
            limit=detector.limit,
            since=self.since(),
        )

    def to_state(self) -> dict[str, Any]:
        """Return what to store, as JSON: the outcomes are one word of 0 and 1."""
        return {"detector": self._detector.to_state(), "recent": "".join(map(str, self._recent))}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Go on from what `to_state` gave."""
        kept = ChangeDetector.from_state(state["detector"])
        drift = cls(kept.limit, average_run_length=kept.average_run_length)
        drift._detector = kept
        drift._recent.extend(int(flag) for flag in state["recent"])
        return drift


def _divergence(shares: Floats, limit: float) -> Floats:
    """Return how much one outcome says against the limit, on average, where the share lies above it; else 0."""
    inner = np.clip(shares, 1e-12, 1.0 - 1e-12)
    gain = inner * np.log(inner / limit) + (1.0 - inner) * np.log((1.0 - inner) / (1.0 - limit))
    return np.asarray(np.where(shares > limit, gain, 0.0), dtype=np.float64)
