"""A doubt's audits, and what they come to: the risk is fine, a higher threshold is certified, or nothing was shown.

It knows scores, what was wrong and references as words; not what raised the doubt, nor what follows from its end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from insource.risk.bounds import check_share
from insource.risk.calibrate import calibrate
from insource.risk.mean_sequence import ShareSequence
from insource.types import Calibration

LOOKS = (1_000, 2_000, 4_000)
"""Scored audits since the doubt began at which it is looked: under 1,000 the level of a look certifies next to nothing,
and each further look makes all of them stricter."""
KEEPS, KEEPS_AT_LAST = 0.75, 0.25
"""The share of what the threshold in force accepts that a higher one must keep: rather wait for the next look, which
certifies more, than give up more than a quarter for good. At the last look a quarter is enough; a version that keeps
less hardly saves anything, and would hide that a new one is needed: it is left to what suspends."""
METHOD = "doubt"
PATIENCE = 20.0
"""Evidence, in natural logs, that a doubt waits for; about 15 cross. See `patience`."""


def budget(doubts: int, confidence_level: float) -> float:
    """Return the chance of error of the doubt after `doubts` others: 6 (1 - level) / (pi (doubts + 1))^2.

    Those of all doubts add up to 1 - level, however many there are.
    """
    check_share("confidence_level", confidence_level)
    if doubts < 0:
        raise ValueError(f"doubts is {doubts}; expected how many there were before, 0 or more.")
    return 6.0 * (1.0 - confidence_level) / (math.pi * (doubts + 1)) ** 2


def patience(target_risk: float) -> int:
    """Return after how many accepted audits a doubt ends that showed nothing: half as much again would have crossed.

    PATIENCE over the divergence of one and a half times the target from the target: 3,484 at 5 %.
    """
    check_share("target_risk", target_risk)
    worse = min(1.5 * target_risk, (1.0 + target_risk) / 2.0)
    apart = worse * math.log(worse / target_risk) + (1.0 - worse) * math.log((1.0 - worse) / (1.0 - target_risk))
    return math.ceil(PATIENCE / apart)


@dataclass(frozen=True, slots=True)
class Certified:
    """What is in force: the threshold, the guards, and how many `doubts` the version went through before."""

    threshold: float
    guards: Mapping[str, float] = field(default_factory=dict)
    doubts: int = 0


class Looks:
    """The audits of one doubt, and what the first look at them says that certifies a threshold worth having.

    At each of `LOOKS` rows the band and the guards of `calibrate` are asked, at half the doubt's `budget` shared out
    evenly; the other half is the caller's. Whether a request is audited is decided before anything is known of it, so
    that, given all that came before the doubt, its rows are drawn alike unless the world shifts again: each look is
    exact. The chance that any look of any doubt of a version certifies a risk above the target is then at most half of
    1 - level (union bound over what the looks would have said, made or not), wherever one stops. Guards are certified
    each at the level of the look, as at first each was at that of the version.
    """

    def __init__(self, certified: Certified, *, doubts: int, target_risk: float, confidence_level: float) -> None:
        """Begin the doubt after `doubts` others; `confidence_level` is the version's."""
        self.holds = False
        self.raised: Calibration | None = None
        self._certified, self._target, self._level = certified, target_risk, confidence_level
        self._look_level = 1.0 - budget(doubts, confidence_level) / 2.0 / len(LOOKS)
        self._scores: list[float] = []
        self._wrong: list[bool] = []
        self._references: list[str] = []

    def take(self, scores: Any, wrong: Any, references: Any = None) -> None:
        """Take scored audits in order, accepted or not; none any more once `decided`.

        `scores` float (n,) finite, `wrong` bool (n,), `references` (n,) the reference of each as a word, for guards.
        """
        words = [""] * np.size(scores) if references is None or not self._certified.guards else references
        for score, bad, word in zip(np.ravel(scores).tolist(), np.ravel(wrong).tolist(), words, strict=True):
            if self.decided:
                return
            self._scores.append(score)
            self._wrong.append(bool(bad))
            self._references.append(str(word))
            self._look()

    @property
    def decided(self) -> bool:
        """Whether a look certified the threshold in force (`holds`) or a higher one (`raised`)."""
        return self.holds or self.raised is not None

    @property
    def over(self) -> bool:
        """Whether there is no further look."""
        return self.decided or len(self._scores) >= LOOKS[-1]

    def to_state(self) -> dict[str, Any]:
        """Return what to store, as JSON: the rows, the flags as a word of 0 and 1."""
        wrong = "".join(str(int(bad)) for bad in self._wrong)
        return {"scores": self._scores, "wrong": wrong, "references": self._references}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `to_state` gave, under the same settings; what was found follows from the rows."""
        self._scores, self._references = list(state["scores"]), list(state["references"])
        self._wrong = [flag == "1" for flag in state["wrong"]]
        self._look()

    def _look(self) -> None:
        rows = len(self._scores)
        if rows not in LOOKS:
            return
        scores = np.array(self._scores)
        found = calibrate(
            scores, np.array(self._wrong), np.array(self._references), self._certified.guards,
            target_risk=self._target, confidence_level=self._look_level, method=METHOD,
        )  # fmt: skip
        if found.threshold is None:
            return
        self.holds = found.threshold <= self._certified.threshold
        now = int(np.count_nonzero(scores >= self._certified.threshold))
        keeps = KEEPS_AT_LAST if rows == LOOKS[-1] else KEEPS
        if not self.holds and found.accepted >= keeps * now:
            self.raised = replace(found, confidence_level=self._level)


class DoubtAudits:
    """What was audited since a doubt began, and how it ends.

    The risk at the threshold in force is watched by a sequence that holds at all times; where it is known what is
    `certified`, there are `Looks` besides, and either has half of the doubt's `budget` of error.
    """

    def __init__(
        self, target_risk: float, *, confidence_level: float, certified: Certified | None = None, doubts: int = 0
    ) -> None:
        """Begin the doubt after `doubts` others of this version."""
        self.risk = ShareSequence()
        self._target = target_risk
        self._error = 1.0 - confidence_level
        self._looks: Looks | None = None
        if certified is not None:
            self._error = budget(doubts, confidence_level) / 2.0
            self._looks = Looks(certified, doubts=doubts, target_risk=target_risk, confidence_level=confidence_level)

    def take(self, wrong: Any = (), scores: Any = (), differs: Any = (), references: Any = None) -> None:
        """Take audits: of those that would be accepted whether `wrong`, of all that were scored what `Looks` takes."""
        if np.size(wrong):
            self.risk.update(wrong)
        if self._looks is not None:
            self._looks.take(scores, differs, references)

    @property
    def shown(self) -> bool:
        """Whether the risk at the threshold in force is shown to be under the target."""
        holds = self._looks is not None and self._looks.holds
        return holds or self.risk.log_evidence_below(self._target) >= -math.log(self._error)

    @property
    def raised(self) -> Calibration | None:
        """The certificate of a higher threshold, once there is one."""
        return None if self._looks is None else self._looks.raised

    @property
    def lapsed(self) -> bool:
        """Whether it has lasted so long that it should end without having shown anything."""
        return self.risk.rows >= patience(self._target) and (self._looks is None or self._looks.over)

    def to_state(self) -> dict[str, Any]:
        """Return what to store, as JSON."""
        return {"risk": self.risk.to_state(), "looks": None if self._looks is None else self._looks.to_state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `to_state` gave, under the same settings."""
        self.risk = ShareSequence.from_state(state["risk"])
        if self._looks is not None:
            self._looks.restore(state["looks"])
