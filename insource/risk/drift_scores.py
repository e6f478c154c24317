"""Drift of one number a request, such as a specialist's score: is the stream still alike to a reference window?

It needs no answer and no reference, so it looks at every request. It knows numbers, not what they measure, and not
whether what has moved does any harm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from insource.risk.restarts import FRACTIONS, RestartedBets, bets
from insource.risk.rows import Floats

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99)
"""Where the reference is cut: tails finely, as strangers lie there. Each cut is bet on from either side."""
FEWEST = 20
AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class Cuts:
    """A reference window, as kept with a version: `edges` (k,) rise; `weights` (k + 1,) count the places between them.

    Of n + 1 places that n values leave, `weights` many lie in each cell. A further value falls into each place with the
    same chance, whatever its distribution (Hill 1968): so a few edges carry all that a test of ranks needs.
    """

    edges: tuple[float, ...]
    weights: tuple[float, ...]

    @classmethod
    def of(cls, values: Any) -> Self:
        """Cut a window of values float (n,). Raises ValueError for fewer than 20, or NaN."""
        rising = np.sort(numbers_of(values))
        if rising.size < FEWEST:
            raise ValueError(f"{rising.size} values; expected at least {FEWEST} rows as a reference. Collect more.")
        ranks = np.clip(np.round(np.array(SHARES) * (rising.size + 1)).astype(np.intp), 1, rising.size)
        edges = np.unique(rising[ranks - 1])
        below = np.searchsorted(rising, edges, side="left") + 1
        weights = np.diff(np.concatenate([[0], below, [rising.size + 1]]))
        return cls(tuple(edges.tolist()), tuple(weights.astype(float).tolist()))

    def to_state(self) -> list[list[float]]:
        """Return what to store, as JSON."""
        return [list(self.edges), list(self.weights)]

    @classmethod
    def from_state(cls, state: Any) -> Self:
        """Read what `to_state` gave."""
        edges, weights = state
        return cls(tuple(edges), tuple(weights))


@dataclass(frozen=True, slots=True)
class ScoreFigures:
    """What moved most: the share of values under (`low`) or from `edge` on, in the reference and since the start.

    `rows` were seen, `alarmed_at` is the row of the alarm; `log_evidence` alarms at `log_needed`.
    """

    rows: int
    alarmed_at: int | None
    log_evidence: float
    log_needed: float
    low: bool
    edge: float
    expected: float
    seen: float | None


class ScoreDrift:
    """A conformal test martingale, begun anew at every row, on the rank of each value among all before it.

    While the rows of the window and of the stream are exchangeable and no two values equal, each cell's chance, given
    the cells so far, is exactly its weight over all weights, each row adding one to its own: that is the law of
    conformal p-values, coarsened to cells, and needs no tie to be broken at random. The bets are that more falls
    under, or above, one of the cuts than that chance plus `tolerance`. Equal values share a cell; the chance is then
    nearly right, as cuts are never laid through them. As every row joins the window, a late change meets a large one
    and is found the sooner, while one that comes at once may be taken into a short one before it is found: 1,000 rows
    are a good window.
    Sources: Vovk, Nouretdinov and Gammerman (2003), "Testing exchangeability on-line"; Volkhonskiy et al. (2017),
    "Inductive conformal martingales for change-point detection"; Hill (1968); `restarts` for the sum over beginnings.
    """

    __slots__ = ("_bets", "_first", "_fresh", "_weights", "edges", "tolerance")

    def __init__(self, cuts: Cuts, *, average_run_length: float, tolerance: float = 0.0) -> None:
        if not 0.0 <= tolerance < 1.0:
            raise ValueError(f"tolerance is {tolerance}; expected a share from 0 to under 1.")
        self.edges: Floats = np.array(cuts.edges, dtype=np.float64)
        self.tolerance = tolerance
        self._weights: Floats = np.array(cuts.weights, dtype=np.float64)
        self._first = self._weights.copy()
        self._fresh: Floats = np.zeros(self._weights.size)
        self._bets = RestartedBets(2 * self.edges.size * FRACTIONS.size, average_run_length=average_run_length)

    def update(self, values: Any) -> bool:
        """Take one value or many, in order, and say whether it has alarmed. Raises ValueError for NaN."""
        cells = np.searchsorted(self.edges, numbers_of(values), side="right")
        for start in range(0, cells.size, AT_ONCE):
            self._take(cells[start : start + AT_ONCE])
        return self.alarmed_at is not None

    @property
    def alarmed_at(self) -> int | None:
        """After how many values it alarmed."""
        return self._bets.alarmed_at

    def renew(self) -> None:
        """Begin anew with the rows since the alarm as the window: what moved was found to do no harm.

        With fewer than 20 of them they are added to the window that was.
        """
        enough = self._fresh.sum() >= FEWEST
        self._weights = self._fresh + 1.0 / self._fresh.size if enough else self._weights + self._fresh
        self._first, self._fresh = self._weights.copy(), np.zeros(self._fresh.size)
        self._bets.reset()

    def figures(self) -> ScoreFigures:
        """Return where it stands."""
        bet = self._bets.richest // FRACTIONS.size
        low, cut = bet < self.edges.size, bet % self.edges.size
        seen = self._weights + self._fresh - self._first
        part, rows = (slice(0, cut + 1) if low else slice(cut + 1, None)), self._bets.observations
        return ScoreFigures(
            rows=rows,
            alarmed_at=self.alarmed_at,
            log_evidence=self._bets.log_evidence,
            log_needed=float(np.log(self._bets.average_run_length)),
            low=low,
            edge=float(self.edges[cut]),
            expected=float(self._first[part].sum() / self._first.sum()),
            seen=float(seen[part].sum() / rows) if rows else None,
        )

    def to_state(self) -> dict[str, Any]:
        """Return what to store, as JSON; the edges are not in it."""
        return {
            "first": self._first.tolist(),
            "weights": self._weights.tolist(),
            "fresh": self._fresh.tolist(),
            **self._bets.to_state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `to_state` gave, over the same cuts."""
        self._bets.restore(state)
        self._first, self._weights = np.array(state["first"]), np.array(state["weights"])
        self._fresh = np.array(state["fresh"])

    def _take(self, cells: NDArray[np.intp]) -> None:
        if self.alarmed_at is None:
            cells = self._bet(cells)
        else:
            self._bets.skip(cells.size)
        self._fresh += np.bincount(cells, minlength=self._fresh.size)

    def _bet(self, cells: NDArray[np.intp]) -> NDArray[np.intp]:
        """Bet on each; join those before an alarm to the window, and return those after it."""
        hit = np.zeros((cells.size, self._weights.size))
        hit[np.arange(cells.size), cells] = 1.0
        before = self._weights + np.cumsum(hit, axis=0) - hit
        under = np.cumsum(before, axis=1)
        chance = under[:, :-1] / under[:, -1:]
        low = cells[:, None] <= np.arange(self.edges.size)
        limits = np.concatenate([chance, 1.0 - chance], axis=1)
        already = self._bets.observations
        self._bets.take(bets(np.concatenate([low, ~low], axis=1), np.clip(limits + self.tolerance, 1e-12, 1.0)))
        joined = cells.size if self.alarmed_at is None else self.alarmed_at - already
        self._weights = self._weights + hit[:joined].sum(axis=0)
        return cells[joined:]


def numbers_of(values: Any) -> Floats:
    """Return one or many values as a one-dimensional float array; raises ValueError for NaN."""
    numbers = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if numbers.ndim != 1 or np.any(np.isnan(numbers)):
        raise ValueError(f"values of shape {numbers.shape} or with NaN; expected a number for each row.")
    return numbers
