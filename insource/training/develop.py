"""Developing a version: cross-fit the families, score and certify each out of fold, and choose one.

Training and backtest both come through here. It knows rows, classes and a promise; not files or the registry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insource.answers import AnswerSpace
from insource.risk.calibrate import calibrate
from insource.risk.scores import Scorer, cross_fit_scores
from insource.training.balance import answer_weights, tilt
from insource.training.crossfit import CrossFit, cross_fit
from insource.training.families import FAMILIES, Material
from insource.training.students.contract import Classes, Probabilities, Rows, Student
from insource.training.students.heads import Heads
from insource.training.students.two_tier import NO_EXIT, TwoTierStudent, choose_exit, choose_weight, pooled
from insource.types import Calibration, Require, Task

NOTHING_CERTIFIED = Calibration("none", 0.0, 0.0, 0, None, 0.0, 0, 0, None, None)
GOOD_ENOUGH = 0.98
SMALLER_IS_WORTH = 0.02
EXIT_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Promise:
    """What is to be certified: `guards` maps an answer's label to the share of its requests that may be missed."""

    target_risk: float
    confidence_level: float
    guards: Mapping[str, float]
    require: Require = Require()


@dataclass(frozen=True, slots=True)
class RowSet:
    """Which rows of the material to learn from: `evidence` may certify and has `folds`; `also` only teaches.

    `classes` int (n,) covers all of the material, -1 where there is no reference; `labels` names the classes, and
    `heads` tells their fields where there are several. `balance` makes rare answers likelier (`Recipe`).
    """

    evidence: Rows
    folds: NDArray[np.intp]
    also: Rows
    classes: Classes
    labels: tuple[str, ...]
    heads: Heads | None = None
    balance: float = 0.0


@dataclass(frozen=True, slots=True)
class Developed:
    """One family, developed: the student on all rows, its scorer, and what its out-of-fold rows certify."""

    family: str
    student: Student
    scorer: Scorer
    probabilities: Probabilities
    scores: NDArray[np.float64]
    wrong: NDArray[np.bool_]
    accuracy: float
    calibration: Calibration
    trunk: str | None = None
    precision: str | None = None
    why: str = ""


def develop(material: Material, rows: RowSet, promise: Promise, family: str) -> Developed:
    """Return the family asked for, or with `auto` the smallest that meets the task's bar, with the reason in `why`.

    The bar is `promise.require`; where that asks for nothing, a certified coverage within 2 points of the best family.
    """
    if family == "linear":
        return replace(_linear(material, rows, promise)[0], why="linear was asked for")
    if family == "static":
        return replace(_static(material, rows, promise), why="static was asked for")
    if family == "auto":
        small, fit = _linear(material, rows, promise)
        if _settles(small, promise.require):
            return replace(small, why=_settled(small, promise.require))
        candidates = [small, *_with_encoder(material, rows, promise, fit)]
        return _choose(candidates, promise.require)
    linear = _fit_linear(material, rows) if family == "two-tier" else None
    found = _with_encoder(material, rows, promise, linear)
    return replace(next(each for each in found if each.family == family), why=f"{family} was asked for")


def develop_or_forget(material: Material, rows: RowSet, older: Rows, promise: Promise, family: str) -> Developed:
    """Return what `rows` make, with the `older` ones to learn from as well or without them: what certifies more.

    `older` are rows from before the world may have changed, so that nobody knows whether they still teach what is
    right; the evidence, which is all from after it, tells.
    """
    alone = develop(material, rows, promise, family)
    if not len(older):
        return alone
    both = develop(material, replace(rows, also=np.concatenate([older, rows.also])), promise, family)
    better = max(alone, both, key=lambda each: (each.calibration.coverage, each.accuracy))
    told = "with" if better is both else "without"
    return replace(better, why=f"{better.why}; {told} the {len(older):,} rows from before the suspension")


def certify_rows(
    probabilities: Probabilities, rows: RowSet, promise: Promise, method: str = "cross-fit"
) -> tuple[NDArray[np.float64], NDArray[np.bool_], Calibration]:
    """Return score, wrong and calibration of the evidence rows from their out-of-fold probabilities."""
    references = rows.classes[rows.evidence]
    wrong = probabilities.argmax(axis=1) != references
    scores = cross_fit_scores(probabilities, ~wrong, rows.folds)
    return scores, wrong, certified(scores, wrong, named(references, rows.labels), promise, method)


def balanced(
    student: Student, probabilities: Probabilities, learned: Classes, balance: float
) -> tuple[Student, Probabilities]:
    """Return a fitted student and probabilities float64 (n, K), answers rare in `learned` made likelier in both."""
    if not balance:
        return student, probabilities
    weights = answer_weights(learned, probabilities.shape[1], balance)
    return student.tilted(np.log(weights).astype(np.float32)), tilt(probabilities, weights)


def plain_scorer(n_classes: int) -> Scorer:
    """Return the scorer that knows nothing: the score is the plain top probability."""
    return Scorer.fit(np.full((2, n_classes), 1.0 / n_classes), np.array([True, False]))


def guards_of(task: Task, answers: AnswerSpace) -> dict[str, float]:
    """Return the task's guards by label, the strictest where several name one label.

    A guard on an answer that never occurs has no rows, and so accepts nothing.
    """
    guards: dict[str, float] = {}
    for answer, share in task.guard.items():
        label = answers.find(answer) or answer
        guards[label] = min(share, guards.get(label, share))
    return guards


def named(classes: Classes, labels: tuple[str, ...]) -> NDArray[np.str_]:
    """Return the label of each class number, str (n,); "" where there is none."""
    return np.array([*labels, ""])[classes]


def certified(
    scores: NDArray[np.float64], wrong: NDArray[np.bool_], references: NDArray[np.str_], promise: Promise, method: str
) -> Calibration:
    """Return the calibration of scored rows; a threshold that accepts everything reads 0, the lowest score there is."""
    found = calibrate(
        scores,
        wrong,
        references,
        promise.guards,
        target_risk=promise.target_risk,
        confidence_level=promise.confidence_level,
        method=method,
    )
    return replace(found, threshold=None if found.threshold is None else max(found.threshold, 0.0))


def _linear(material: Material, rows: RowSet, promise: Promise) -> tuple[Developed, CrossFit]:
    fit = _fit_linear(material, rows)
    return _developed("linear", *_balanced(fit, rows), rows, promise, None), fit


def _static(material: Material, rows: RowSet, promise: Promise) -> Developed:
    fit = _fit_coarsely(material, *material.static(), rows)
    return _developed("static", *_balanced(fit, rows), rows, promise, None)


def _with_encoder(material: Material, rows: RowSet, promise: Promise, linear: CrossFit | None) -> list[Developed]:
    """Return the frozen encoder, and before it, where the linear fit is given, the two tiers together."""
    student, embeddings = material.encoder(rows.labels)
    fit = _fit(material, student, embeddings, rows, rows.folds)
    trunk = material.trunk_digest
    back, second = _balanced(fit, rows)
    alone = _developed("encoder-frozen", back, second, rows, promise, trunk)
    if linear is None:
        return [alone]
    front, first = _balanced(linear, rows)
    references = rows.classes[rows.evidence]
    weight = choose_weight(linear.probabilities, fit.probabilities, references)
    exit_at = choose_exit(first, references, EXIT_SHARE * promise.target_risk) if weight < 1.0 else NO_EXIT
    both: Any = TwoTierStudent(front, back, weight=weight, exit_at=exit_at)  # type: ignore[arg-type]
    together = pooled(first, second, weight, exit_at)
    return [_developed("two-tier", both, together, rows, promise, trunk), alone]


def _balanced(fit: CrossFit, rows: RowSet) -> tuple[Student, Probabilities]:
    """Return the student on everything and the out-of-fold probabilities, balanced."""
    learned = rows.classes[np.concatenate([rows.evidence, rows.also])]
    return balanced(fit.student, fit.probabilities, learned, rows.balance)


def _fit_linear(material: Material, rows: RowSet) -> CrossFit:
    return _fit_coarsely(material, *material.linear(), rows)


def _fit_coarsely(material: Material, student: Student, prepared: Any, rows: RowSet) -> CrossFit:
    """Fit a family of n-grams, which takes longest and gains least from more folds, on the folds two by two."""
    coarse = rows.folds // 2
    return _fit(material, student, prepared, rows, coarse if len(np.unique(coarse)) > 1 else rows.folds)


def _fit(material: Material, student: Student, prepared: Any, rows: RowSet, folds: NDArray[np.intp]) -> CrossFit:
    student.heads = rows.heads
    known, before = material.fitted.get(student.family, ((), None))
    fit = cross_fit(
        student,
        prepared,
        evidence=rows.evidence,
        folds=folds,
        also=rows.also,
        classes=rows.classes,
        n_classes=len(rows.labels),
        before=before if known == rows.labels else None,
    )
    material.fitted[student.family] = rows.labels, fit
    return fit


def _developed(
    family: str, student: Student, probabilities: Probabilities, rows: RowSet, promise: Promise, trunk: str | None
) -> Developed:
    scores, wrong, calibration = certify_rows(probabilities, rows, promise)
    scorer = Scorer.fit(probabilities, ~wrong)
    accuracy = float(1.0 - wrong.mean())
    return Developed(family, student, scorer, probabilities, scores, wrong, accuracy, calibration, trunk)


def _meets(candidate: Developed, require: Require) -> bool:
    accurate = require.accuracy is None or candidate.accuracy >= require.accuracy
    return accurate and (require.coverage is None or candidate.calibration.coverage >= require.coverage)


def _asks(require: Require) -> bool:
    return require.accuracy is not None or require.coverage is not None


def _settles(candidate: Developed, require: Require) -> bool:
    return _meets(candidate, require) if _asks(require) else candidate.calibration.coverage >= GOOD_ENOUGH


def _settled(candidate: Developed, require: Require) -> str:
    told = _told(candidate)
    return f"{told}: it meets the task's bar" if _asks(require) else f"{told}: nothing larger can add much"


def _choose(candidates: list[Developed], require: Require) -> Developed:
    ordered = sorted(candidates, key=lambda each: FAMILIES.index(each.family))
    best = max(ordered, key=lambda each: (each.calibration.coverage, each.accuracy))
    told = "; ".join(_told(each) for each in ordered)
    if _asks(require):
        meeting = [each for each in ordered if _meets(each, require)]
        chosen = meeting[0] if meeting else best
        reason = "the smallest that meets the task's bar" if meeting else "none meets the task's bar, so the best"
        return replace(chosen, why=f"{told}: {chosen.family}, {reason}")
    if best.calibration.threshold is None:
        best = max(ordered, key=lambda each: each.accuracy)
        near = [each for each in ordered if each.accuracy >= best.accuracy - SMALLER_IS_WORTH]
        return replace(near[0], why=f"{told}: {near[0].family}, the smallest within 2 points of the best accuracy")
    near = [each for each in ordered if each.calibration.coverage >= best.calibration.coverage - SMALLER_IS_WORTH]
    return replace(near[0], why=f"{told}: {near[0].family}, the smallest within 2 points of the best coverage")


def _told(candidate: Developed) -> str:
    coverage, accuracy = candidate.calibration.coverage, candidate.accuracy
    return f"{candidate.family} certifies {coverage:.1%} (accuracy {accuracy:.1%})"
