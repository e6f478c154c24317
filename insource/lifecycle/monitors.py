"""Watching the version that serves: its risk, its guards, the form of the references, and what drifts, row by row.

It knows rows in the order of the ledger and says what is crossed or doubted; what follows is the steward's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from insource.lifecycle.drift_watch import DriftWatch
from insource.lifecycle.evidence import FAILURES, REMEMBERED, Row, accepts, usable
from insource.lifecycle.watched import Counted, Share, Watched, testable
from insource.risk.drift import Drift, Kind, Standing
from insource.risk.drift_risk import RiskFigures
from insource.risk.recertify import Certified
from insource.store.signals import Signal
from insource.types import Calibration, Reason, Stage, Task

OUTSIDE = 0.05
"""The share of references that may lie outside the task's closed set: rare answers that training never saw do, and the
default target allows as many. A teacher that changes its format has nearly all of them there."""
OUTAGES = ("no reference:", "the upstream answered", "no upstream", "audits were waiting")
"""What the detail of an audit says that had no reference for want of an upstream: nothing of the reference's form."""
NO_ANSWER = (*FAILURES, Reason.SPECIALIST_SLOW.value)


@dataclass(frozen=True, slots=True)
class Watch:
    """What the monitors of one version have seen since they began; `crossed` says what is shown to be wrong.

    `drift` is where everything stands that may drift, compared with the first `window` requests, 0 for none yet.
    """

    version: int
    risk: Share
    outside: Share
    drift: Drift
    guards: Mapping[str, Share] = field(default_factory=dict)
    crossed: tuple[str, ...] = ()
    audits: int = 0
    scored: int = 0
    accepts: int = 0
    window: int = 0


class Monitors:
    """Watches one version of a task from a point on. While the task is suspended, nothing is crossed any further.

    Every audit of the version counts, whichever arm of a canary answered: it is what the version would accept that the
    promise is about. Risk and form cross as `risk.drift` has it, guards beside it, each by what it has seen lately; the
    sequences over all that was seen are for what lifts a suspension.

    Where it is known what is `certified`, a doubt may find a higher threshold (`raised`); then nothing more is counted.
    """

    def __init__(self, task: Task, version: int, certified: Certified | None = None) -> None:
        self.version = version
        self.task = task
        self._certified = certified
        level = task.confidence_level
        self._drift = DriftWatch(version, testable(task.target_risk), level, outside=OUTSIDE,
                                 certified=certified)  # fmt: skip
        self._risk, self._outside = Counted(task.target_risk, level), Counted(OUTSIDE, level)
        self._guards = {answer: Watched(limit, level, changes=True) for answer, limit in task.guard.items()}
        self._seen: dict[str, None] = {}
        self._audits = self._scored = self._accepts = 0

    def signal(self, signal: Signal) -> None:
        """Take what one row says of drift."""
        self._drift.take(signal)

    def take(self, row: Row) -> None:
        """Count one audit of any version of the task; those of others are passed over."""
        audit = row.audit
        if audit.version != self.version or audit.stage not in (Stage.ACTIVE, None) or audit.request_id in self._seen:
            return
        if self.raised is not None:
            return
        self._seen[audit.request_id] = None
        if len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]
        self._audits += 1
        outside, wrong, scored = outside_of(row), None, None
        if outside is not None:
            self._outside.take(outside)
        if audit.agrees is not None:
            wrong = self._compared(row, agrees=audit.agrees)
            if audit.score is not None and usable(audit.score):
                scored = audit.score, not audit.agrees, row.label or ""
        self._drift.audit(wrong=wrong, outside=outside, scored=scored)

    def flush(self) -> None:
        """Have all that was taken looked at."""
        self._drift.flush()

    @property
    def crossed(self) -> bool:
        """Whether anything is."""
        return self._drift.standing is Standing.CROSSED or any(guard.crossed for guard in self._guards.values())

    @property
    def doubted(self) -> bool:
        """Whether something drifted of which it is not known yet whether it does harm."""
        return self._drift.standing is Standing.DOUBT

    @property
    def raised(self) -> Calibration | None:
        """The certificate of a higher threshold that a doubt found."""
        return self._drift.raised

    @property
    def doubts(self) -> int:
        """The version's doubts so far, the one that stands included."""
        return self._drift.doubts + self.doubted

    @property
    def recertified(self) -> bool:
        """Whether the evidence since these monitors began shows risk, guards and form to be as promised.

        The bounds hold at all times, so that it may be asked after every row.
        """
        shown = [self._risk, *self._guards.values()]
        form = self._outside.rows == 0 or self._outside.shown_under
        return not self.crossed and form and all(watched.rows and watched.shown_under for watched in shown)

    def watch(self) -> Watch:
        """Return the figures so far."""
        drift, window = self._drift.drift(), self._drift.window
        risk = self._risk.figures(crossed=Kind.RISK in drift.alarms)
        outside = self._outside.figures(crossed=Kind.FORM in drift.alarms)
        guards = {answer: watched.figures() for answer, watched in self._guards.items()}
        crossed = []
        if risk.crossed:
            told = _seen(_lately(risk, drift.figures[Kind.RISK]), "accepted answers were wrong")
            crossed.append(f"risk is above the target of {self.task.target_risk:.1%}: {told}")
        for answer, share in guards.items():
            if share.crossed:
                told = _seen(share, "of its requests were accepted wrongly")
                crossed.append(f"guard {answer} is crossed: {told}, limit {share.limit:.1%}")
        if outside.crossed:
            told = _seen(_lately(outside, drift.figures[Kind.FORM]), "references lie outside the closed set")
            crossed.append(f"answer drift: {told}")
        counts = (self._audits, self._scored, self._accepts, window)
        return Watch(self.version, risk, outside, drift, guards, tuple(crossed), *counts)

    def to_state(self) -> dict[str, Any]:
        """Return what to store, as JSON; the ledger has no audit twice, so which were seen is not in it."""
        return {
            "drift": self._drift.to_state(),
            "risk": self._risk.to_state(),
            "outside": self._outside.to_state(),
            "guards": {answer: watched.to_state() for answer, watched in self._guards.items()},
            "counts": [self._audits, self._scored, self._accepts],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `to_state` gave, for the same task and version."""
        self._drift.restore(state["drift"])
        self._risk.restore(state["risk"])
        self._outside.restore(state["outside"])
        for answer, watched in self._guards.items():
            watched.restore(state["guards"][answer])
        self._audits, self._scored, self._accepts = state["counts"]

    def _compared(self, row: Row, *, agrees: bool) -> bool | None:
        """Count an audit with a reference, and return whether it was wrong, None for what would not be accepted."""
        self._scored += 1
        accepted = accepts(row.audit) and not self._below(row.audit.score)
        self._accepts += accepted
        if accepted:
            self._risk.take(not agrees)
        if row.label in self._guards:
            self._guards[row.label].take(accepted and not agrees)
        return not agrees if accepted else None

    def _below(self, score: float | None) -> bool:
        """Say whether a score lies below the threshold now: one decided before that was raised may come after."""
        return self._certified is not None and score is not None and score < self._certified.threshold


def outside_of(row: Row) -> bool | None:
    """Say whether the row's reference lies outside the closed set; None where there was none to tell by.

    Agreement proves that it lies inside. Disagreement alone proves nothing: without the text nobody knows.
    """
    if row.outside is not None:
        return row.outside
    audit = row.audit
    if audit.agrees is None:
        detail = audit.detail or ""
        return None if not detail or detail.startswith(NO_ANSWER) or any(each in detail for each in OUTAGES) else True
    return False if audit.agrees else None


def _lately(share: Share, figures: object) -> Share:
    """Return a share as it stands since it most likely rose."""
    since = figures.since if isinstance(figures, RiskFigures) else None
    if since is None:
        return share
    return replace(share, count=round(since.share * since.rows), rows=since.rows, lower=since.lower)


def _seen(share: Share, what: str) -> str:
    return f"{share.count:,} of {share.rows:,} {what}, at least {share.lower:.1%}"
