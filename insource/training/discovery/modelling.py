"""A linear model in seconds: what it gets right on rows it never saw, as rows grow, and what that would certify.

It knows texts and class numbers; not wordings, tasks or requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from insource.risk.bounds import binomial_interval
from insource.training.crossfit import side_by_side
from insource.training.develop import Promise, RowSet, certify_rows
from insource.training.duplicates import near_duplicate_groups
from insource.training.splits import places
from insource.training.students.contract import Rows
from insource.training.students.heads import Heads
from insource.training.students.linear import LinearStudent
from insource.types import Calibration

MOST_CHARACTERS = 500
FOLDS = 3
STEPS = (100, 300, 1_000, 3_000)
FEWEST_TO_FIT = 30
SEED = 0


@dataclass(frozen=True, slots=True)
class Point:
    """Accuracy on `held_out` rows after learning from `rows` others, with its 95 % interval."""

    rows: int
    accuracy: float
    low: float
    high: float
    held_out: int


@dataclass(frozen=True, slots=True)
class Modelled:
    """What a linear model makes of a task's rows.

    `rows` were looked at; `curve` grows to two thirds of them; `majority` is the accuracy of the most frequent answer.
    `calibration` is certified out of fold on all the rows, with those a linear specialist would have.
    """

    rows: int
    curve: tuple[Point, ...]
    majority: float
    calibration: Calibration


def model(
    texts: Sequence[str],
    classes: NDArray[np.intp],
    labels: tuple[str, ...],
    promise: Promise,
    heads: Heads | None = None,
) -> Modelled | None:
    """Return learning curve and certified coverage; `classes` int (n,) index `labels`. None for under 30 rows.

    Rows are dealt into three folds by group of near-duplicates, so that none straddles. The curve's last point is over
    all three, each learning from the other two; the points before it learn from the first rows of two, in an order by
    hash, and are asked about the third.
    """
    if len(texts) < FEWEST_TO_FIT:
        return None
    clipped = [text[:MOST_CHARACTERS] for text in texts]
    groups = near_duplicate_groups(clipped)
    place = places(groups, SEED)
    folds = (place * FOLDS).astype(np.intp)
    if len(np.unique(folds)) < FOLDS:
        return None
    prepared = LinearStudent().prepare(clipped)
    order = np.argsort(places(np.arange(len(texts), dtype=np.intp), SEED + 7), kind="stable")
    learning = {fold: order[folds[order] != fold] for fold in range(FOLDS)}
    least = min(map(len, learning.values()))
    sizes = [*(size for size in STEPS if size < 0.8 * least), least]

    def fitted(job: tuple[int, int]) -> tuple[Rows, NDArray[np.float64]]:
        fold, size = job
        rows = learning[fold] if size == least else learning[fold][:size]
        held = np.flatnonzero(folds == fold)
        student = LinearStudent(heads=heads).fit(prepared, rows, classes[rows], len(labels))
        return held, student.probabilities(prepared, held)

    jobs = [*((0, size) for size in sizes[:-1]), *((fold, least) for fold in range(FOLDS))]
    right, asked = dict.fromkeys(sizes, 0), dict.fromkeys(sizes, 0)
    probabilities = np.empty((len(texts), len(labels)))
    for (_, size), (held, found) in zip(jobs, side_by_side(fitted, jobs), strict=True):
        right[size] += int((found.argmax(axis=1) == classes[held]).sum())
        asked[size] += len(held)
        if size == least:
            probabilities[held] = found
    evidence = np.arange(len(texts), dtype=np.intp)
    rows = RowSet(evidence, folds, evidence[:0], classes, labels)
    _, _, calibration = certify_rows(probabilities, rows, promise)
    majority = float(np.bincount(classes).max() / len(texts))
    curve = tuple(_point(size, right[size], asked[size]) for size in sizes)
    return Modelled(len(texts), curve, majority, calibration)


def _point(rows: int, right: int, held_out: int) -> Point:
    low, high = binomial_interval(right, held_out, 0.95)
    return Point(rows, right / held_out, low, high, held_out)
