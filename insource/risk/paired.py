"""A candidate against an incumbent on the same requests: promote, roll back, or go on, looked at after every pair.

It knows losses in pairs. Who gets traffic, and what a verdict leads to, is the caller's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

import numpy as np

from insource.risk.betting import checked_outcomes, counts_of, e_value
from insource.risk.bounds import check_share
from insource.risk.differences import DifferenceEvidence, lower_bound, points_of
from insource.risk.rows import Floats


class Verdict(StrEnum):
    """What the pairs have shown so far."""

    PROMOTE = "promote"
    ROLL_BACK = "roll_back"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Where a comparison stands. A difference is the candidate's mean loss less the incumbent's: above 0 is worse.

    `decided_at` is the number of pairs after which the verdict fell. The e-values are of now, so they may have fallen
    again since. `lower_bound` holds at the roll-back test's alpha, `upper_bound` at the promotion's, each at all times.
    `pairs_to_verdict` is how many more pairs the nearer of both tests would take if the pairs to come were in the
    proportions of those seen: 0 once decided, None where neither would end or nothing was seen. An estimate for
    display, about the median if the proportions are right; they are uncertain, and it ignores that.
    """

    verdict: Verdict
    pairs: int
    decided_at: int | None
    promote_e_value: float | None
    roll_back_e_value: float
    difference: float | None
    lower_bound: float
    upper_bound: float
    pairs_to_verdict: int | None


class PairedTest:
    """Two e-processes over the same pairs, each at its own alpha; the first to reach 1/alpha decides, and that stands.

    Promote rejects "the candidate is worse by `margin` or more"; roll back rejects "it is worse by at most
    `roll_back_margin`". With the second below the first a loss between both is in neither claim, and either verdict is
    right. `margin` None never promotes: it only watches for a loss. At any number of looks a candidate as bad as
    `margin` is promoted with probability at most `promote_alpha`, and one no worse than `roll_back_margin` rolled back
    with at most `roll_back_alpha`, if each pair's mean difference given the past is on that side.
    Losses are 0/1, or in [0, 1] with `bounded`. Sources: `differences`; two one-sided tests as in non-inferiority.

    Median pairs to promotion where there is no true loss, both alphas .05, `roll_back_margin` 0; in brackets the share
    promoted within 20,000 pairs (the rest was rolled back), then the share wrongly promoted at a loss of exactly the
    margin. 400 comparisons each, by tests/risk/test_paired.py:

    discordance         6 %                  12 %                   20 %
    margin .02    958 (.96), .035    1,789 (.96), .015    3,847 (.94), .028
    margin .03    445 (.97), .035      816 (.96), .028    1,624 (.94), .030
    """

    __slots__ = ("_counts", "_promote", "_roll_back", "bounded", "decided_at", "margin", "pairs", "promote_alpha",
                 "roll_back_alpha", "roll_back_margin", "verdict")  # fmt: skip

    def __init__(
        self,
        *,
        margin: float | None = 0.02,
        roll_back_margin: float = 0.0,
        promote_alpha: float = 0.05,
        roll_back_alpha: float = 0.05,
        bounded: bool = False,
    ) -> None:
        check_share("promote_alpha", promote_alpha)
        check_share("roll_back_alpha", roll_back_alpha)
        self.margin, self.roll_back_margin = margin, roll_back_margin
        self.promote_alpha, self.roll_back_alpha = promote_alpha, roll_back_alpha
        self.bounded = bounded
        self.verdict, self.pairs = Verdict.UNDECIDED, 0
        self.decided_at: int | None = None
        self._roll_back = DifferenceEvidence(roll_back_margin, bounded=bounded)
        self._promote = None if margin is None else DifferenceEvidence(-margin, bounded=bounded)
        self._counts: Floats = np.zeros(self._roll_back.points.size)

    def update(self, incumbent: Any, candidate: Any) -> Verdict:
        """Take the losses of one pair or of many, in order, and return the verdict so far.

        Many at once are looked at one by one. Pairs after the verdict are counted and change it no more.
        Raises ValueError where a loss is missing, NaN or out of range, or the numbers of losses differ.
        """
        ours = checked_outcomes("incumbent", incumbent, binary=not self.bounded)
        theirs = checked_outcomes("candidate", candidate, binary=not self.bounded)
        if ours.size != theirs.size:
            raise ValueError(
                f"{ours.size} losses of the incumbent and {theirs.size} of the candidate; expected one of each for "
                "every pair. Leave out requests that only one of them answered."
            )
        differences = theirs - ours
        if self.verdict is Verdict.UNDECIDED:
            self._decide(differences)
        self._counts += counts_of(differences, self._roll_back.points)
        self.pairs += differences.size
        return self.verdict

    def comparison(self) -> Comparison:
        """Return where the comparison stands."""
        turned = self._counts[::-1]
        points = points_of(bounded=self.bounded)
        return Comparison(
            verdict=self.verdict,
            pairs=self.pairs,
            decided_at=self.decided_at,
            promote_e_value=None if self._promote is None else e_value(float(self._promote.of(turned))),
            roll_back_e_value=e_value(float(self._roll_back.of(self._counts))),
            difference=float(self._counts @ points) / self.pairs if self.pairs else None,
            lower_bound=lower_bound(self._counts, points, self.roll_back_alpha),
            upper_bound=-lower_bound(turned, points, self.promote_alpha),
            pairs_to_verdict=self._pairs_to_verdict(),
        )

    def to_state(self) -> dict[str, Any]:
        """Return what to store, as JSON."""
        return {
            "margin": self.margin, "roll_back_margin": self.roll_back_margin, "promote_alpha": self.promote_alpha,
            "roll_back_alpha": self.roll_back_alpha, "bounded": self.bounded, "verdict": self.verdict.value,
            "decided_at": self.decided_at, "pairs": self.pairs, "counts": self._counts.tolist(),
        }  # fmt: skip

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Go on from what `to_state` gave."""
        chosen = ("margin", "roll_back_margin", "promote_alpha", "roll_back_alpha", "bounded")
        test = cls(**{name: state[name] for name in chosen})
        test.verdict, test.decided_at = Verdict(state["verdict"]), state["decided_at"]
        test.pairs, test._counts = int(state["pairs"]), np.array(state["counts"], dtype=np.float64)
        return test

    def _decide(self, differences: Floats) -> None:
        """Find the first pair at which either test ends; at the same pair, the loss counts."""
        loss = self._roll_back.first_crossing(self._counts, differences, self.roll_back_alpha)
        gain = None
        if self._promote is not None:
            earlier = differences if loss is None else differences[: loss - 1]
            gain = self._promote.first_crossing(self._counts[::-1], -earlier, self.promote_alpha)
        if gain is not None:
            self.verdict, self.decided_at = Verdict.PROMOTE, self.pairs + gain
        elif loss is not None:
            self.verdict, self.decided_at = Verdict.ROLL_BACK, self.pairs + loss

    def _pairs_to_verdict(self) -> int | None:
        if self.verdict is not Verdict.UNDECIDED:
            return 0
        either = [self._roll_back.further(self._counts, self.roll_back_alpha)]
        if self._promote is not None:
            either.append(self._promote.further(self._counts[::-1], self.promote_alpha))
        return min((pairs for pairs in either if pairs is not None), default=None)
