"""The drift of the version that serves, from the ledger's rows in their order: a window first, then what moves away.

It feeds `risk.drift` and keeps its state; what follows from a doubt or a crossing is the steward's business.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from insource.risk.drift import DECIDES, Drift, DriftMonitor, Standing
from insource.risk.drift_answers import FEWEST
from insource.risk.drift_reference import Reference
from insource.risk.recertify import Certified
from insource.store.signals import Signal
from insource.types import Calibration

BEGINNING, WINDOW = 300, 1_000
"""Requests after which a version is compared with its first ones: with few at the beginning, then once with enough."""
AT_ONCE = 1_024
UNSEEN = -1
"""The number of all answers that the window did not have, and of those outside the set."""


@dataclass(slots=True)
class Rows:
    """What came since the last look, or since the beginning: of requests, and of the escalated among them.

    Answers and references are numbers, none where contents are not kept.
    """

    scores: list[float] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    wrong: list[bool] = field(default_factory=list)
    references: list[int] = field(default_factory=list)

    def take(self, signal: Signal) -> None:
        """Add one row."""
        if signal.score is not None:
            self.scores.append(signal.score)
            self.answers += [signal.answer] if signal.answer is not None else []
        elif signal.agrees is not None:
            self.wrong.append(not signal.agrees)
            self.references += [signal.reference] if signal.reference is not None else []

    def reference(self) -> Reference:
        """Return these rows as a window; what fewer than 20 of them, or not all of a kind, have is not watched."""
        numbered = len(self.answers) == len(self.scores)
        up = len(self.wrong) >= FEWEST
        named = up and len(self.references) == len(self.wrong)
        return Reference.of(
            max(2, 1 + max((*self.answers, *self.references), default=0)),
            scores=self.scores,
            answers=self.answers if numbered else None,
            escalated=self.references if named else None,
            escalated_wrong=self.wrong if up else None,
        )


class DriftWatch:
    """Watches one version of a task from a row of the ledger on.

    Until its window is full only the risk and the form of the references are. What it comes to depends on the rows and
    their order alone, not on how many are read at once.
    """

    def __init__(
        self, version: int, target_risk: float, confidence_level: float, *, outside: float, certified: Certified | None
    ) -> None:
        """Begin; of the references at most the share `outside` may lie outside the closed set.

        With what is `certified`, a doubt may find a higher threshold.
        """
        self._version, self._target, self._level, self._outside = version, target_risk, confidence_level, outside
        self._certified = certified
        self._monitor = self._begun(Reference())
        self._reference: Reference | None = None
        self._window: Rows | None = Rows()
        self._rows = Rows()
        self._numbered = False
        self._seen = 0

    def take(self, signal: Signal) -> None:
        """Take one row; those of other versions are passed over."""
        if signal.version != self._version or (signal.score is not None and not math.isfinite(signal.score)):
            return
        if self._reference is not None:
            if signal.score is not None and self._numbered != (signal.answer is not None):
                self.flush()  # contents are kept from here on, or no longer
                self._numbered = not self._numbered
            self._rows.take(signal)
            if len(self._rows.scores) + len(self._rows.wrong) >= AT_ONCE:
                self.flush()
        if self._window is not None:
            self._window.take(signal)
            self._fill(self._window)

    def audit(self, *, wrong: bool | None, outside: bool | None, scored: tuple[float, bool, str] | None = None) -> None:
        """Take one audit: whether an answer that would be accepted is wrong, and a reference outside the closed set.

        Where it was `scored`, accepted or not: the score, whether the answer differs, and the reference.
        """
        self.flush()
        score, differs, reference = ([], [], []) if scored is None else ([each] for each in scored)
        self._monitor.audits(
            wrong=[] if wrong is None else [wrong], outside=[] if outside is None else [outside],
            scores=score, differs=differs, references=reference,
        )  # fmt: skip

    def flush(self) -> None:
        """Have all that was taken looked at."""
        rows, self._rows = self._rows, Rows()
        counts = self._reference.answers if self._reference is not None else None
        self._monitor.requests(scores=rows.scores, answers=_known(rows.answers, counts))
        counts = self._reference.escalated if self._reference is not None else None
        self._monitor.escalated(wrong=rows.wrong, references=_known(rows.references, counts))

    @property
    def standing(self) -> Standing:
        """What follows from what was looked at."""
        return self._monitor.standing

    @property
    def raised(self) -> Calibration | None:
        """The certificate of a higher threshold that a doubt found."""
        return self._monitor.raised

    @property
    def doubts(self) -> int:
        """The version's doubts that are over."""
        return self._monitor.doubts

    @property
    def window(self) -> int:
        """How many requests it compares with; 0 while there are too few."""
        return self._seen

    def drift(self) -> Drift:
        """Return where it all stands."""
        return self._monitor.drift()

    def to_state(self) -> dict[str, Any]:
        """Return what to store, as JSON."""
        self.flush()
        window = self._window
        return {
            "monitor": self._monitor.to_state(),
            "reference": None if self._reference is None else self._reference.to_state(),
            "seen": self._seen,
            "window": None if window is None
            else [window.scores, window.answers, window.wrong, window.references],
        }  # fmt: skip

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `to_state` gave."""
        self._reference = None if state["reference"] is None else Reference.from_state(state["reference"])
        self._monitor = self._begun(self._reference or Reference())
        self._monitor.restore(state["monitor"])
        self._window = None if state["window"] is None else Rows(*state["window"])
        self._rows, self._seen = Rows(), state["seen"]

    def _begun(self, reference: Reference) -> DriftMonitor:
        return DriftMonitor(
            self._target, reference, outside=self._outside, confidence_level=self._level, certified=self._certified
        )

    def _fill(self, window: Rows) -> None:
        """Compare with the window where it has just become large enough; a doubt meanwhile keeps the smaller one."""
        rows = len(window.scores)
        if rows not in (BEGINNING, WINDOW) or rows == self._seen:
            return
        self.flush()
        if not set(self._monitor.alarms) - set(DECIDES):
            self._reference, self._seen = window.reference(), rows
            self._monitor = self._monitor.compared_with(self._reference)
        if rows == WINDOW:
            self._window = None


def _known(numbers: list[int], counts: tuple[int, ...] | None) -> list[int]:
    """Return numbers as the window has them: what it had none of counts with what lies outside."""
    most = len(counts) - 1 if counts is not None else 0
    return [number if 0 <= number < most else UNSEEN for number in numbers]
