"""From a server's replies to the score of an answer and the threshold that is certified with it.

It knows labels, probabilities and references as arrays; neither requests, servers nor the registry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from insource.answers import AnswerSpace
from insource.backends.house_tier import Said, TierScore, logit
from insource.risk.calibrate import calibrate
from insource.risk.platt import Platt
from insource.types import Calibration, Task

METHOD = "tier"


@dataclass(frozen=True, slots=True)
class Replies:
    """What the server made of the escalated rows: label ("" outside the set) and probability (NaN: none) of each."""

    labels: NDArray[np.str_]
    probabilities: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Evidence:
    """All rows of a file: their `references` ("" outside the set), and which `half` each is in, 0 or 1.

    `left` are the numbers of those that reach the tier; `wrong` marks those that an earlier tier accepted wrongly.
    """

    references: NDArray[np.str_]
    half: NDArray[np.intp]
    left: NDArray[np.intp]
    wrong: NDArray[np.bool_]


def read_replies(space: AnswerSpace, said: Sequence[Said]) -> Replies:
    """Return the replies as arrays; one with another status than 200 counts as outside the set."""
    labels = space.normalise_all(each.content if each.status == 200 else None for each in said)
    probabilities = [np.nan if each.probability is None else each.probability for each in said]
    return Replies(np.array([label or "" for label in labels]), np.array(probabilities, dtype=np.float64))


def scores_of(score: TierScore, space: AnswerSpace, replies: Replies) -> NDArray[np.float64]:
    """Return the score of each reply as it is served, float64 (n,); -1 where there is none: no threshold accepts it."""
    found = np.full(len(replies.labels), -1.0)
    for row, (label, probability) in enumerate(
        zip(replies.labels.tolist(), replies.probabilities.tolist(), strict=True)
    ):
        if label:
            served = score.of(space.index(label), None if np.isnan(probability) else probability)
            found[row] = -1.0 if served is None else served
    return found


def certify_tier(
    evidence: Evidence, replies: Replies, task: Task, guards: Mapping[str, float], space: AnswerSpace
) -> tuple[TierScore, Calibration]:
    """Choose the score and certify a threshold with the very scores that will be served: nothing is fitted afterwards.

    Where the server names probabilities, a rising function of them is the score: it is fitted on the rows that certify,
    which changes nothing, as the sets that a threshold can accept were fixed before. Where it does not, the rates of
    agreement are fitted on one half of the rows, by group, and the other half certifies.
    """
    references, left = evidence.references, evidence.left
    answered, wrong = replies.labels != "", replies.labels != references[left]
    if answered.any() and not np.isnan(replies.probabilities[answered]).any():
        score, used = _rising(replies.probabilities[answered], ~wrong[answered]), np.ones(len(references), np.bool_)
    else:
        learn = answered & (evidence.half[left] == 0)
        score, used = _rates(space, replies.labels[learn], ~wrong[learn]), evidence.half == 1
    shown = answered & used[left]
    settled = used.copy()
    settled[left[shown]] = False
    found = calibrate(
        scores_of(score, space, replies)[shown],
        wrong[shown],
        references[left][shown],
        guards,
        target_risk=task.target_risk,
        confidence_level=task.confidence_level,
        method=METHOD,
        settled=(evidence.wrong[settled], references[settled]),
    )
    reaching = int(used[left].sum())
    return score, replace(
        found,
        rows=reaching,
        coverage=found.accepted / reaching if reaching else 0.0,
        threshold=None if found.threshold is None else max(found.threshold, 0.0),
    )


def _rising(probabilities: NDArray[np.float64], agrees: NDArray[np.bool_]) -> TierScore:
    """Return Platt's curve over the logit; the plain probability where it would not rise."""
    curve = Platt().fit([logit(each) for each in probabilities.tolist()], agrees)
    if not 1e-3 < curve.slope_ <= 1e3 or abs(curve.intercept_) > 600.0:
        return TierScore("probability")
    return TierScore("probability", curve.slope_, curve.intercept_)


def _rates(space: AnswerSpace, labels: NDArray[np.str_], agrees: NDArray[np.bool_]) -> TierScore:
    """Return each answer's rate of agreement, with one agreement and one disagreement added to every answer's."""
    rates = []
    for answer in space.answers:
        here = labels == answer
        rates.append((float(agrees[here].sum()) + 1.0) / (float(here.sum()) + 2.0))
    return TierScore("answer", rates=tuple(rates))
