"""All that may drift of one version, watched together: one budget of false alarms, and what follows from an alarm.

Risk decides; everything else only raises doubt, which buys evidence. Arrays in, figures out: it knows no task, no
clock, and not how references are bought.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from insource.risk.bounds import check_share
from insource.risk.drift_answers import AnswerDrift, AnswerFigures
from insource.risk.drift_by_answer import AnswerScoreFigures, ScoreDriftByAnswer
from insource.risk.drift_reference import Reference
from insource.risk.drift_risk import RiskDrift, RiskFigures
from insource.risk.drift_scores import ScoreDrift, ScoreFigures
from insource.risk.recertify import Certified, DoubtAudits
from insource.types import Calibration

AVERAGE_RUN_LENGTH = 200_000
"""Requests for each false alarm, all kinds together: half of what promise C7 allows."""
AUDITED = 0.2
"""The most audited outcomes for each stable request that the budget reckons with: 5 % in calm, all in doubt."""
OUTSIDE = 0.05
SUSPICION = 200
"""Audited outcomes at the limit between two suspicions: the risk's own evidence raises doubt long before it decides."""


class Kind(StrEnum):
    """What may drift. The first two are about what was promised, the others about what may come of them."""

    RISK = "risk"
    FORM = "form"
    SCORES = "scores"
    SCORES_BY_ANSWER = "scores_by_answer"
    EMBEDDINGS = "embeddings"
    ANSWERS = "answers"
    REFERENCES = "references"
    ESCALATED = "escalated"


DECIDES = (Kind.RISK, Kind.FORM)
SHARE = {
    Kind.RISK: 4, Kind.FORM: 1,
    Kind.SCORES: 4, Kind.SCORES_BY_ANSWER: 4, Kind.EMBEDDINGS: 2, Kind.ANSWERS: 2, Kind.REFERENCES: 2,
    Kind.ESCALATED: 2,
}  # fmt: skip
"""How the false alarms are shared out among the kinds watched. Suspensions are the dearest."""
Figures = RiskFigures | ScoreFigures | AnswerScoreFigures | AnswerFigures


class Standing(StrEnum):
    """What follows: nothing, more audits, or that nothing may be accepted."""

    CALM = "calm"
    DOUBT = "doubt"
    CROSSED = "crossed"


@dataclass(frozen=True, slots=True)
class Drift:
    """Where it all stands. `alarms` are the kinds that alarmed, `figures` those of every kind that is watched.

    In doubt over anything but the risk itself, `audits` accepted audits were seen since it began, `share` of them
    wrong; otherwise 0 and None. Of such doubts so far, `cleared` ended with the risk shown to be under the target,
    `lapsed` with neither that nor a crossing (see `recertify.patience`).
    """

    standing: Standing
    alarms: tuple[Kind, ...]
    figures: Mapping[Kind, Figures]
    audits: int = 0
    share: float | None = None
    cleared: int = 0
    lapsed: int = 0


class DriftMonitor:
    """Watches a version from the rows of its requests and audits, in O(1) a row.

    False alarms of all kinds together: at most H / `average_run_length` expected among H stable requests, of which at
    most a fifth are audited. Each kind has its part (see `RestartedBets` and `ChangeDetector`), and parts add up
    whatever depends on what. Crossed, and so to be suspended, is only what was promised: the risk on audited requests
    that would be accepted, or the form of the references. Everything else raises doubt: audit every request until the
    risk is shown to be under its target, or until so many audits passed (`patience`) that half as much again would
    have been found. The audit rate may depend on all of the past, as each coin is tossed before anything is known of
    its request: that biases nothing.
    A doubt without harm ends, and the rows since its alarm are what the stream is compared with from then on. Where it
    is known what is `certified`, a doubt may find a higher threshold (`raised`): then no audit is taken any more, as
    what follows is for a monitor of that threshold to watch.
    """

    __slots__ = ("_by_answer", "_certified", "_decides", "_doubt", "_level", "_mixes", "_settings", "_streams",
                 "cleared", "lapsed", "target_risk")  # fmt: skip

    def __init__(
        self,
        target_risk: float,
        reference: Reference,
        *,
        outside: float = OUTSIDE,
        confidence_level: float = 0.95,
        average_run_length: float = AVERAGE_RUN_LENGTH,
        certified: Certified | None = None,
    ) -> None:
        check_share("confidence_level", confidence_level)
        self.target_risk, self._level, self._certified = target_risk, confidence_level, certified
        self._settings: dict[str, Any] = {
            "outside": outside, "confidence_level": confidence_level, "average_run_length": average_run_length,
            "certified": certified,
        }  # fmt: skip
        limits = {Kind.RISK: target_risk, Kind.FORM: outside}
        cuts = {Kind.SCORES: reference.scores, Kind.EMBEDDINGS: reference.distances}
        mixes = {
            Kind.ANSWERS: reference.answers, Kind.REFERENCES: reference.escalated, Kind.ESCALATED: reference.disagreeing
        }  # fmt: skip
        watched = {**limits, **cuts, Kind.SCORES_BY_ANSWER: reference.by_answer, **mixes}
        kinds = [kind for kind in Kind if watched[kind] is not None]
        length = {kind: average_run_length * sum(SHARE[each] for each in kinds) / SHARE[kind] for kind in kinds}
        self._decides = {
            kind: RiskDrift(limit, average_run_length=max(1.0, AUDITED * length[kind]))
            for kind, limit in limits.items()
        }
        self._streams = {
            kind: ScoreDrift(cut, average_run_length=length[kind]) for kind, cut in cuts.items() if cut is not None
        }
        self._mixes = {
            kind: AnswerDrift(counts[:-1], outside=counts[-1], average_run_length=length[kind])
            for kind, counts in mixes.items()
            if counts is not None
        }
        self._by_answer = None
        if reference.by_answer is not None:
            self._by_answer = ScoreDriftByAnswer(reference.by_answer, average_run_length=length[Kind.SCORES_BY_ANSWER])
        self._doubt: DoubtAudits | None = None
        self.cleared = self.lapsed = 0

    def compared_with(self, reference: Reference) -> DriftMonitor:
        """Return a monitor that goes on with what was audited so far and compares with another window from now on."""
        fresh = DriftMonitor(self.target_risk, reference, **self._settings)
        for kind, before in self._decides.items():
            fresh._decides[kind] = before.over(fresh._decides[kind].average_run_length)
        fresh.cleared, fresh.lapsed = self.cleared, self.lapsed
        return fresh

    def requests(self, *, scores: Any = (), distances: Any = (), answers: Any = ()) -> Standing:
        """Take one request or many, in order, accepted or not: the score and the number of the specialist's answer.

        `distances` are of their embeddings. What is not watched is passed over. Say what follows.
        """
        for kind, values in ((Kind.SCORES, scores), (Kind.EMBEDDINGS, distances)):
            if kind in self._streams and np.size(values):
                self._streams[kind].update(values)
        if self._by_answer is not None and np.size(scores) and np.size(answers):
            self._by_answer.update(scores, answers)
        self._mix(Kind.ANSWERS, answers)
        return self._look()

    def escalated(self, *, references: Any = (), wrong: Any = ()) -> Standing:
        """Take all escalated requests, which have a reference for nothing: its number, and whether the answer differed.

        What the version does on requests it does not accept is not promised, but changes with what is. Say what
        follows.
        """
        self._mix(Kind.REFERENCES, references)
        self._mix(Kind.ESCALATED, np.asarray(wrong, dtype=np.bool_).astype(np.intp))
        return self._look()

    def audits(
        self, *, wrong: Any = (), outside: Any = (), scores: Any = (), differs: Any = (), references: Any = None
    ) -> Standing:
        """Take audited requests: of those that would be accepted whether `wrong`, of all whether `outside` the set.

        Of all that were scored, accepted or not, `scores`, whether the answer `differs`, and `references` as words.
        """
        if self.raised is not None:
            return self.standing
        if np.size(wrong):
            self._decides[Kind.RISK].update(wrong)
        if np.size(outside):
            self._decides[Kind.FORM].update(outside)
        if self._doubt is not None and self.standing is not Standing.CROSSED:
            self._doubt.take(wrong, scores, differs, references)
            self._settle(self._doubt)
        return self._look()

    @property
    def raised(self) -> Calibration | None:
        """The certificate of a higher threshold that a doubt's audits gave; None while there is none."""
        return None if self._doubt is None else self._doubt.raised

    @property
    def doubts(self) -> int:
        """The version's doubts that are over, those before this monitor included."""
        return self.cleared + self.lapsed + (0 if self._certified is None else self._certified.doubts)

    @property
    def standing(self) -> Standing:
        """What follows."""
        if any(self._decides[kind].alarmed_at is not None for kind in DECIDES):
            return Standing.CROSSED
        suspected = self._decides[Kind.RISK].log_evidence >= math.log(SUSPICION)
        return Standing.DOUBT if suspected or self._doubt is not None else Standing.CALM

    @property
    def alarms(self) -> tuple[Kind, ...]:
        """The kinds that have alarmed; of a doubt that has ended, none."""
        return tuple(kind for kind, each in self._all().items() if each.alarmed_at is not None)

    def audit_rate(self, base: float) -> float:
        """Return the share of requests to audit from now on: all of them in doubt, else `base`."""
        return base if self.standing is Standing.CALM else 1.0

    def drift(self) -> Drift:
        """Return where it all stands."""
        since = None if self._doubt is None else self._doubt.risk
        return Drift(
            standing=self.standing,
            alarms=self.alarms,
            figures={kind: each.figures() for kind, each in self._all().items()},
            audits=0 if since is None else since.rows,
            share=None if since is None else since.mean,
            cleared=self.cleared,
            lapsed=self.lapsed,
        )

    def to_state(self) -> dict[str, Any]:
        """Return what to store, as JSON: a few numbers for each kind, and eight for each answer watched."""
        return {
            "doubt": None if self._doubt is None else self._doubt.to_state(),
            "ended": [self.cleared, self.lapsed],
            "kinds": {kind.value: each.to_state() for kind, each in self._all().items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `to_state` gave; target, reference and settings are as they were."""
        for kind in DECIDES:
            self._decides[kind] = RiskDrift.from_state(state["kinds"][kind.value])
        for kind, each in self._hints().items():
            each.restore(state["kinds"][kind.value])
        self.cleared, self.lapsed = state["ended"]
        self._doubt = None if state["doubt"] is None else self._begun()
        if self._doubt is not None:
            self._doubt.restore(state["doubt"])

    def _mix(self, kind: Kind, numbers: Any) -> None:
        if kind in self._mixes and np.size(numbers):
            self._mixes[kind].update(numbers)

    def _hints(self) -> Mapping[Kind, ScoreDrift | ScoreDriftByAnswer | AnswerDrift]:
        by_answer = {} if self._by_answer is None else {Kind.SCORES_BY_ANSWER: self._by_answer}
        return {**self._streams, **by_answer, **self._mixes}

    def _all(self) -> Mapping[Kind, RiskDrift | ScoreDrift | ScoreDriftByAnswer | AnswerDrift]:
        return {**self._decides, **self._hints()}

    def _look(self) -> Standing:
        """Begin a doubt where something moved."""
        moved = any(each.alarmed_at is not None for each in self._hints().values())
        if moved and self._doubt is None:
            self._doubt = self._begun()
        return self.standing

    def _begun(self) -> DoubtAudits:
        return DoubtAudits(
            self.target_risk, confidence_level=self._level, certified=self._certified, doubts=self.doubts
        )

    def _settle(self, doubt: DoubtAudits) -> None:
        """End a doubt where it did no harm; one that found a higher threshold stands until that is in force."""
        if doubt.raised is not None or not (doubt.shown or doubt.lapsed):
            return
        for each in self._hints().values():
            if each.alarmed_at is not None:
                each.renew()
        self._doubt = None
        self.cleared += doubt.shown
        self.lapsed += not doubt.shown
