"""What drifted, in data and in words: for the reason of a doubt, for status, and for what is kept for the gateway.

It turns figures into text; it counts nothing and decides nothing.
"""

from __future__ import annotations

from typing import Any

from insource.answers import AnswerSpace
from insource.lifecycle.monitors import Watch
from insource.risk.drift import Figures, Kind, Standing
from insource.risk.drift_by_answer import AnswerScoreFigures
from insource.risk.drift_risk import RiskFigures
from insource.risk.drift_scores import ScoreFigures
from insource.types import Calibration

WORDS = {
    Kind.RISK: "risk",
    Kind.FORM: "form of the references",
    Kind.SCORES: "scores",
    Kind.SCORES_BY_ANSWER: "scores by answer",
    Kind.EMBEDDINGS: "distance of the texts",
    Kind.ANSWERS: "answers given",
    Kind.REFERENCES: "references of escalated requests",
    Kind.ESCALATED: "agreement on escalated requests",
}
SUSPICION = (Kind.RISK.value,)
"""What a doubt is about where nothing alarmed: a risk near its target is suspected every few thousand requests."""
OTHERS = "answers outside the closed set, or not seen before"


def told_drift(watch: Watch, space: AnswerSpace | None = None) -> dict[str, Any]:
    """Return where everything stands that may drift, as data; with the closed set, answers by their names.

    `evidence` is what speaks for a movement, 1 where it alarms. None is unknown, never zero.
    """
    drift = watch.drift
    return {
        "version": watch.version,
        "standing": drift.standing.value,
        "alarms": [kind.value for kind in drift.alarms],
        "compared_with": watch.window,
        "kinds": [_told_kind(kind, figures, space) for kind, figures in drift.figures.items()],
        "audits_in_doubt": drift.audits if drift.standing is Standing.DOUBT else None,
        "wrong_in_doubt": drift.share,
        "doubts_cleared": drift.cleared,
        "doubts_lapsed": drift.lapsed,
    }


def doubted_kinds(watch: Watch) -> tuple[str, ...]:
    """Return what a doubt is about: what alarmed, or the risk itself where that is suspected."""
    return tuple(kind.value for kind in watch.drift.alarms) or SUSPICION


def why_doubted(watch: Watch, space: AnswerSpace | None = None) -> str:
    """Return the reason of a doubt, in a sentence."""
    kinds = [Kind(kind) for kind in doubted_kinds(watch)]
    told = [f"{WORDS[kind]}: {_what(kind, watch.drift.figures[kind], space)}" for kind in kinds]
    return f"something drifted, so every request is audited until it is known what that does: {'; '.join(told)}"


def why_ended(watch: Watch) -> str:
    """Return the reason why a doubt ends, in a sentence."""
    drift, risk = watch.drift, watch.risk
    seen = f"{risk.count:,} of {risk.rows:,} accepted answers audited were wrong since the count began"
    return (
        f"no harm was shown: {seen}; so far {drift.cleared:,} doubts ended with the risk shown to be under the target, "
        f"{drift.lapsed:,} undecided"
    )


def why_raised(before: float, found: Calibration) -> str:
    """Return the reason of a re-certification, in a sentence."""
    bound = "" if found.risk_upper_bound is None else f", risk at most {found.risk_upper_bound:.1%}"
    return (
        f"threshold raised from {before:.4f} to {found.threshold or 0.0:.4f} on {found.rows:,} audits since the doubt "
        f"began: certified coverage {found.coverage:.1%}, {found.errors:,} of {found.accepted:,} wrong{bound}"
    )


def _told_kind(kind: Kind, figures: Figures, space: AnswerSpace | None) -> dict[str, Any]:
    needed = _needed(figures)
    return {
        "kind": kind.value,
        "says": WORDS[kind],
        "rows": figures.rows,
        "alarmed_at": figures.alarmed_at,
        "evidence": max(0.0, _evidence(figures)) / needed if figures.rows and needed else None,
        "what": _what(kind, figures, space) if figures.rows else None,
    }


def _evidence(figures: Figures) -> float:
    return figures.figures.log_evidence if isinstance(figures, AnswerScoreFigures) else figures.log_evidence


def _needed(figures: Figures) -> float:
    return figures.figures.log_needed if isinstance(figures, AnswerScoreFigures) else figures.log_needed


def _what(kind: Kind, figures: Figures, space: AnswerSpace | None) -> str:
    """Return what moved most, in figures."""
    if isinstance(figures, RiskFigures):
        what = "outside the closed set" if kind is Kind.FORM else "wrong"
        if (since := figures.since) is None:
            return f"never above {figures.limit:.1%} {what} of late"
        return (
            f"{round(since.share * since.rows):,} of the last {since.rows:,} audited {what}, limit {figures.limit:.1%}"
        )
    if isinstance(figures, ScoreFigures):
        return _moved(figures)
    if isinstance(figures, AnswerScoreFigures):
        whose = "rare answers" if figures.answer is None else _name(figures.answer, space)
        return f"of {whose}: {_moved(figures.figures)}"
    if kind is Kind.ESCALATED:
        whose = ("agree", "differ", "differ")[figures.answer]
    else:
        whose = _name(figures.answer, space)
    return f"{whose}: {_share(figures.seen)} where {figures.expected:.1%} were expected"


def _moved(figures: ScoreFigures) -> str:
    where = "under" if figures.low else "at or above"
    return f"{_share(figures.seen)} {where} {figures.edge:.3g} where {figures.expected:.1%} were expected"


def _share(seen: float | None) -> str:
    return "none" if seen is None else f"{seen:.1%}"


def _name(answer: int, space: AnswerSpace | None) -> str:
    if space is None:
        return f"answer {answer}"
    return space.display(space.answers[answer]) if answer < len(space) else OTHERS
