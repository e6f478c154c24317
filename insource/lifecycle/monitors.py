"""Watching the version that serves: its risk, its guards and the form of the references, row by row.

It knows audits in the order of the ledger and says what is crossed; suspending is the steward's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from insource.lifecycle.evidence import FAILURES, REMEMBERED, Row, accepts
from insource.lifecycle.watched import Share, Watched
from insource.types import Reason, Stage, Task

OUTSIDE = 0.05
"""The share of references that may lie outside the task's closed set: rare answers that training never saw do, and the
default target allows as many. A teacher that changes its format has nearly all of them there."""
OUTAGES = ("no reference:", "the upstream answered", "no upstream", "audits were waiting")
"""What the detail of an audit says that had no reference for want of an upstream: nothing of the reference's form."""
NO_ANSWER = (*FAILURES, Reason.SPECIALIST_SLOW.value)


@dataclass(frozen=True, slots=True)
class Watch:
    """What the monitors of one version have seen since they began; `crossed` says what is shown to be wrong."""

    version: int
    risk: Share
    outside: Share
    guards: Mapping[str, Share] = field(default_factory=dict)
    crossed: tuple[str, ...] = ()
    audits: int = 0
    scored: int = 0
    accepts: int = 0


class Monitors:
    """Watches one version of a task from a point on. While the task is suspended, nothing is crossed any further.

    Every audit of the version counts, whichever arm of a canary answered: it is what the version would accept that the
    promise is about.
    """

    def __init__(self, task: Task, version: int) -> None:
        self.version = version
        self._task = task
        level = task.confidence_level
        self._risk = Watched(task.target_risk, level, changes=True)
        self._outside = Watched(OUTSIDE, level, changes=True)
        self._guards = {answer: Watched(limit, level, changes=True) for answer, limit in task.guard.items()}
        self._seen: dict[str, None] = {}
        self._audits = self._scored = self._accepts = 0

    def take(self, row: Row) -> None:
        """Count one audit of any version of the task; those of others are passed over."""
        audit = row.audit
        if audit.version != self.version or audit.stage not in (Stage.ACTIVE, None) or audit.request_id in self._seen:
            return
        self._seen[audit.request_id] = None
        if len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]
        self._audits += 1
        outside = outside_of(row)
        if outside is not None:
            self._outside.take(outside)
        if audit.agrees is None:
            return
        self._scored += 1
        accepted = accepts(audit)
        self._accepts += accepted
        if accepted:
            self._risk.take(not audit.agrees)
        if row.label in self._guards:
            self._guards[row.label].take(accepted and not audit.agrees)

    @property
    def crossed(self) -> bool:
        """Whether anything is."""
        return self._risk.crossed or self._outside.crossed or any(guard.crossed for guard in self._guards.values())

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
        risk, outside = self._risk.figures(), self._outside.figures()
        guards = {answer: watched.figures() for answer, watched in self._guards.items()}
        target = self._task.target_risk
        crossed = []
        if risk.crossed:
            crossed.append(f"risk is above the target of {target:.1%}: {_seen(risk, 'accepted answers were wrong')}")
        for answer, share in guards.items():
            if share.crossed:
                told = _seen(share, "of its requests were accepted wrongly")
                crossed.append(f"guard {answer} is crossed: {told}, limit {share.limit:.1%}")
        if outside.crossed:
            crossed.append(f"answer drift: {_seen(outside, 'references lie outside the closed set')}")
        return Watch(self.version, risk, outside, guards, tuple(crossed), self._audits, self._scored, self._accepts)


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


def _seen(share: Share, what: str) -> str:
    return f"{share.count:,} of {share.rows:,} {what}, at least {share.lower:.1%}"
