"""Drift of the answer mix: have the shares of a closed set's answers moved away from those of a reference window?

It takes the specialist's answers (every request) or the references (audited ones) alike: each is a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insource.risk.bounds import binomial_lower_bound, binomial_upper_bound
from insource.risk.restarts import FRACTIONS, RestartedBets, bets
from insource.risk.rows import Bools, Floats

Counts = NDArray[np.int64]

FEWEST = 20
TOLERANCE = 0.03
REFERENCE_DELTA = 1e-3
"""The chance that the window itself misleads, for all of its answers together."""
ROOM = 0.01
"""A share that may rise by less than this before it is everything is not bet on."""


@dataclass(frozen=True, slots=True)
class AnswerFigures:
    """Which answer moved most: `answer` is its number (that of the last and one: outside the set), `up` or down.

    `expected` is its share in the window, `limit` the share up to (or down to) which a movement is harmless, `seen` its
    share since the start; `rows`, `alarmed_at`, `log_evidence` and `log_needed` as elsewhere.
    """

    rows: int
    alarmed_at: int | None
    log_evidence: float
    log_needed: float
    answer: int
    up: bool
    expected: float
    limit: float
    seen: float | None


class AnswerDrift:
    """Bets that some answer's share has risen above, or fallen under, what its window allows; begun anew at every row.

    Harmless, and so within the claim that is doubted: every share within `tolerance` of the window's, as all mixes
    within that total variation are, or within what the window leaves open, where that is more: exact bounds on its
    counts, for all answers together wrong with chance 0.001. One answer against the rest is the margin of a Dirichlet
    mixture; the whole mixture would pay about half a log of the rows for each of the other answers too (217 in log
    evidence for 77 answers and 300 rows), where choosing among 156 bets pays 5.
    Sources: Clopper and Pearson (1934) for the window; Robbins (1970) and Waudby-Smith and Ramdas (2024) for the bets;
    `restarts` for the sum over beginnings.
    """

    __slots__ = ("_answers", "_bets", "_fresh", "_length", "_limits", "_seen", "_table", "_ups", "counts", "tolerance")

    def __init__(
        self, counts: Any, *, average_run_length: float, outside: int = 0, tolerance: float = TOLERANCE
    ) -> None:
        """Begin; `counts` int (K,) is how often the window held each answer, `outside` one outside the set."""
        if not 0.0 <= tolerance < 1.0:
            raise ValueError(f"tolerance is {tolerance}; expected a share from 0 to under 1.")
        self.tolerance, self._length = tolerance, average_run_length
        self._begin(np.append(np.asarray(counts, dtype=np.int64), outside))

    def update(self, answers: Any) -> bool:
        """Take the number of one answer or of many, in order; -1 is one outside the set. Say whether it has alarmed."""
        numbers = np.atleast_1d(np.asarray(answers))
        outside = self.counts.size - 1
        if numbers.size and (numbers.dtype.kind not in "iu" or not -1 <= numbers.min() <= numbers.max() < outside):
            raise ValueError(f"answers are not all whole numbers from -1 to {outside - 1}; expected places in the set.")
        places = np.where(numbers < 0, outside, numbers).astype(np.intp)
        already, alarmed = self._bets.observations, self.alarmed_at is not None
        self._bets.take([self._table[place] for place in places.tolist()])
        joined = 0 if alarmed else places.size if self.alarmed_at is None else self.alarmed_at - already
        self._seen += np.bincount(places, minlength=self.counts.size)
        self._fresh += np.bincount(places[joined:], minlength=self.counts.size)
        return self.alarmed_at is not None

    @property
    def alarmed_at(self) -> int | None:
        """After how many answers it alarmed."""
        return self._bets.alarmed_at

    def renew(self) -> None:
        """Begin anew with the rows since the alarm as the window: what moved was found to do no harm.

        With fewer than 20 of them all rows so far are added to the window that was.
        """
        self._begin(self._fresh if self._fresh.sum() >= FEWEST else self.counts + self._seen)

    def figures(self) -> AnswerFigures:
        """Return where it stands."""
        bet = self._bets.richest // FRACTIONS.size
        answer, up, rows = int(self._answers[bet]), bool(self._ups[bet]), self._bets.observations
        return AnswerFigures(
            rows=rows,
            alarmed_at=self.alarmed_at,
            log_evidence=self._bets.log_evidence,
            log_needed=float(np.log(self._length)),
            answer=answer,
            up=up,
            expected=float(self.counts[answer] / self.counts.sum()),
            limit=float(self._limits[bet] if up else 1.0 - self._limits[bet]),
            seen=float(self._seen[answer] / rows) if rows else None,
        )

    def to_state(self) -> dict[str, Any]:
        """Return what to store, as JSON."""
        return {
            "counts": self.counts.tolist(),
            "seen": self._seen.tolist(),
            "fresh": self._fresh.tolist(),
            **self._bets.to_state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `to_state` gave."""
        self._begin(np.array(state["counts"], dtype=np.int64))
        self._seen, self._fresh = np.array(state["seen"], dtype=np.int64), np.array(state["fresh"], dtype=np.int64)
        self._bets.restore(state)

    def _begin(self, counts: Counts) -> None:
        if counts.ndim != 1 or counts.size < 3 or counts.min() < 0 or counts.sum() == 0:
            raise ValueError(f"counts {counts.tolist()}; expected how often each of two or more answers was seen.")
        self.counts = counts
        self._seen, self._fresh = np.zeros_like(counts), np.zeros_like(counts)
        self._answers, self._ups, self._limits = limits_of(counts, self.tolerance)
        hit: Bools = self._answers == np.arange(counts.size)[:, None]
        self._table: Floats = bets(np.where(self._ups, hit, ~hit), self._limits)
        self._bets = RestartedBets(self._table.shape[1], average_run_length=self._length)


def limits_of(counts: Counts, tolerance: float) -> tuple[NDArray[np.intp], Bools, Floats]:
    """Return what can be bet on: (answers, whether up, the most that its share, or the rest's for down, may be)."""
    rows, level = int(counts.sum()), 1.0 - REFERENCE_DELTA / (2 * counts.size)
    high = np.array([binomial_upper_bound(count, rows, level) for count in counts.tolist()])
    low = np.array([binomial_lower_bound(count, rows, level) for count in counts.tolist()])
    up = np.maximum(high, counts / rows + tolerance)
    down = 1.0 - np.minimum(low, counts / rows - tolerance)
    limits = np.concatenate([up, down])
    kept = limits <= 1.0 - ROOM
    answers = np.tile(np.arange(counts.size), 2)
    return answers[kept], (np.arange(limits.size) < counts.size)[kept], limits[kept]
