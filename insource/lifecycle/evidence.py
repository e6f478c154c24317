"""Evidence: what the ledger's audits say of one version, folded row by row, the same live as from a recorded log.

It knows audits in the order of their numbers in the ledger; a row's time is never asked. What speaks for a version is
counted from complete rows alone, what speaks against it from every row that says so: a gap can only hold a version up.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from insource.lifecycle.watched import Share, Watched
from insource.risk.paired import Comparison, PairedTest
from insource.risk.quantile_sequence import QuantileSequence, latency_edges
from insource.types import Audit, Reason, Stage, Task

FAILING = 0.02
"""The share of requests on which a version may fail or be slow; each costs an escalation, never a wrong answer."""
REMEMBERED = 50_000
"""Requests whose id is kept, so that a row that comes twice is counted once."""
TRIAL = (Stage.SHADOW, Stage.CANARY)
FAILURES = (Reason.SPECIALIST_FAILED.value, Reason.ARTIFACT_DAMAGED.value, Reason.NO_SPECIALIST.value)
"""How an audit's detail begins where the version gave no answer."""


class Skipped(StrEnum):
    """Why a row is not evidence for a version."""

    AGAIN = "came again"
    UNKNOWN_VERSION = "another version"
    OTHER_STAGE = "another stage"
    NO_REFERENCE = "no reference"
    NOT_SAID = "not said whether it accepts"
    NO_SCORE = "no score"


UNUSABLE = (Skipped.NOT_SAID, Skipped.NO_SCORE, Skipped.OTHER_STAGE)
"""What makes evidence partial: rows of the version itself that should have been complete."""


@dataclass(frozen=True, slots=True)
class Row:
    """One audit with its number in the ledger.

    `label` is its reference in the task's closed set, where the text was kept and lies in it; `outside` says whether it
    lies outside, None where nobody knows.
    """

    seq: int
    audit: Audit
    label: str | None = None
    outside: bool | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a version in shadow or canary since that began, beside the `incumbent`, if there is one.

    `sound` rows of the present stage are complete and not held against the version; `wrong`, `failures` and `slow` are.
    `risk` is about the requests it would accept, `failing` about all, `guards` about those with that reference;
    `right` is how many of the `scored` it would accept rightly. `scores` and `seconds` are the lowest and the highest
    of sound rows, `timed` how many had seconds; `median_low` and `p99_high` bound its latency, in seconds. `behind`
    counts the audits of other versions since its last sound row. `pairs` are requests that both it and the incumbent
    would accept; None where there is no incumbent.
    """

    version: int
    stage: Stage
    incumbent: int | None = None
    sound: int = 0
    wrong: int = 0
    failures: int = 0
    slow: int = 0
    scored: int = 0
    right: int = 0
    risk: Share | None = None
    failing: Share | None = None
    guards: Mapping[str, Share] = field(default_factory=dict)
    pairs: Comparison | None = None
    scores: tuple[float, float] | None = None
    seconds: tuple[float, float] | None = None
    timed: int = 0
    median_low: float = -math.inf
    p99_high: float = math.inf
    behind: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    first: int | None = None
    last: int | None = None


class Fold:
    """Folds the audits of a trial version, and of the incumbent beside it, into evidence.

    `take` wants every audit of the task once, in the order of the ledger; a row that comes again, or out of order
    with a number seen already, is skipped and counted.
    """

    def __init__(self, task: Task, version: int, incumbent: int | None = None) -> None:
        level, deadline = task.confidence_level, task.deadline_ms / 1000
        self.version, self.incumbent, self._deadline = version, incumbent, deadline
        self.risk = Watched(task.target_risk, level)
        self._failing = Watched(FAILING, level)
        self._guards = {answer: Watched(limit, level) for answer, limit in task.guard.items()}
        self._test = PairedTest(margin=task.margin) if incumbent is not None else None
        limits = (deadline, *([task.require.latency_ms / 1000] if task.require.latency_ms else []))
        self._latency = QuantileSequence(latency_edges(lowest=1e-5, highest=60.0, step=1.05, also=limits))
        self._level = level
        self._stages: dict[Stage, _Stage] = {stage: _Stage() for stage in TRIAL}
        self._skipped: Counter[str] = Counter()
        self._seen: OrderedDict[tuple[str, int], None] = OrderedDict()
        self._halves: OrderedDict[str, Row] = OrderedDict()
        self._scored = self._right = self._behind = 0
        self._first: int | None = None
        self._last: int | None = None

    def take(self, row: Row) -> None:
        """Count one audit of any version of the task."""
        audit = row.audit
        if audit.version not in (self.version, self.incumbent):
            return self._skip(Skipped.UNKNOWN_VERSION)
        key = (audit.request_id, audit.version)
        if key in self._seen:
            return self._skip(Skipped.AGAIN)
        self._seen[key] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        self._pair(row)
        if audit.version != self.version:
            self._behind += 1
            return None
        return self._take_own(row)

    def evidence(self, stage: Stage) -> Evidence:
        """Return what is known now; `stage` is the one that the version is in."""
        here = self._stages.get(stage, _Stage())
        return Evidence(
            version=self.version,
            stage=stage,
            incumbent=self.incumbent,
            sound=here.sound,
            wrong=here.wrong,
            failures=here.failures,
            slow=here.slow,
            scored=self._scored,
            right=self._right,
            risk=self.risk.figures(),
            failing=self._failing.figures(),
            guards={answer: watched.figures() for answer, watched in self._guards.items()},
            pairs=None if self._test is None else self._test.comparison(),
            scores=here.scores,
            seconds=here.seconds,
            timed=here.timed,
            median_low=self._latency.lower_bound(0.5, self._level),
            p99_high=self._latency.upper_bound(0.99, self._level),
            behind=self._behind,
            skipped=dict(self._skipped),
            first=self._first,
            last=self._last,
        )

    def _skip(self, why: Skipped) -> None:
        self._skipped[why] += 1

    def _take_own(self, row: Row) -> None:
        audit = row.audit
        here = self._stages.get(audit.stage) if audit.stage is not None else None
        if here is None:
            return self._skip(Skipped.OTHER_STAGE)
        self._first = row.seq if self._first is None else self._first
        self._last = row.seq
        if failed := _failed(audit, self._deadline):
            here.failures += failed is Reason.SPECIALIST_FAILED
            here.slow += failed is Reason.SPECIALIST_SLOW
            self._latency.update(math.inf)
            return self._failing.take(True)
        if audit.agrees is None:
            return self._skip(Skipped.NO_REFERENCE)
        if accepts(audit) and not audit.agrees:
            here.wrong += 1
            self._scored += 1
            self._count_accepted(row, wrong=True)
        elif audit.accepts is None:
            self._skip(Skipped.NOT_SAID)
        elif not usable(audit.score):
            self._skip(Skipped.NO_SCORE)
        else:
            self._take_sound(row, here)
        return None

    def _take_sound(self, row: Row, here: _Stage) -> None:
        self._scored += 1
        self._behind = 0
        self._failing.take(False)
        here.take(row.audit)
        if timed(row.audit.seconds):
            self._latency.update(row.audit.seconds)
        if row.audit.accepts:
            self._right += 1
            self._count_accepted(row, wrong=False)
        elif row.label in self._guards:
            self._guards[row.label].take(False)

    def _count_accepted(self, row: Row, *, wrong: bool) -> None:
        self.risk.take(wrong)
        if row.label in self._guards:
            self._guards[row.label].take(wrong)

    def _pair(self, row: Row) -> None:
        """Join the two versions' rows of one request, whichever comes first; count it where both would accept."""
        if self._test is None or row.audit.agrees is None or not accepts(row.audit):
            return
        other = self._halves.pop(row.audit.request_id, None)
        if other is None:
            self._halves[row.audit.request_id] = row
            if len(self._halves) > REMEMBERED:
                self._halves.popitem(last=False)
            return
        ours, theirs = (row, other) if row.audit.version == self.version else (other, row)
        complete = all(usable(each.audit.score) and each.audit.accepts for each in (ours, theirs))
        if ours.audit.stage in TRIAL and (complete or (not ours.audit.agrees and theirs.audit.agrees)):
            self._test.update(not theirs.audit.agrees, not ours.audit.agrees)


class _Stage:
    """What the rows of one stage come to."""

    __slots__ = ("failures", "scores", "seconds", "slow", "sound", "timed", "wrong")

    def __init__(self) -> None:
        self.sound = self.wrong = self.failures = self.slow = self.timed = 0
        self.scores: tuple[float, float] | None = None
        self.seconds: tuple[float, float] | None = None

    def take(self, audit: Audit) -> None:
        self.sound += 1
        if audit.score is not None:
            self.scores = _spread(self.scores, audit.score)
        if audit.seconds is not None and timed(audit.seconds):
            self.timed += 1
            self.seconds = _spread(self.seconds, audit.seconds)


def accepts(audit: Audit) -> bool:
    """Say whether the version would accept at its own threshold; an answer that was served was accepted."""
    return audit.accepts if audit.accepts is not None else audit.accepted


def usable(number: float | None) -> bool:
    """Say whether a measurement can be counted: there, and finite."""
    return number is not None and math.isfinite(number)


def timed(seconds: float | None) -> bool:
    """Say whether seconds can be counted: there, finite and not negative."""
    return seconds is not None and math.isfinite(seconds) and seconds >= 0.0


def _failed(audit: Audit, deadline: float) -> Reason | None:
    """Return how the version failed to answer in time, if it did."""
    if audit.agrees is None and not usable(audit.score):
        if (audit.detail or "").startswith(Reason.SPECIALIST_SLOW):
            return Reason.SPECIALIST_SLOW
        if (audit.detail or "").startswith(FAILURES):
            return Reason.SPECIALIST_FAILED
    late = audit.seconds is not None and audit.seconds > deadline
    return Reason.SPECIALIST_SLOW if late and not (accepts(audit) and audit.agrees is False) else None


def _spread(before: tuple[float, float] | None, value: float) -> tuple[float, float]:
    return (value, value) if before is None else (min(before[0], value), max(before[1], value))
