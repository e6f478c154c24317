"""Learning curves on parts of the rows: what the task needs, what a family may reach, and which one is beaten early.

It knows students, rows and classes; not artifacts or certificates.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from insource.training.precision import is_worse
from insource.training.snapshot import Snapshot
from insource.training.splits import FOLDS, folds
from insource.training.students.contract import Rows, Student
from insource.training.students.heads import heads_of

PARTS = (8, 4, 2)
HELD_FOLDS = (0, 1)
MOST_HELD = 1_000


@dataclass(frozen=True, slots=True)
class Curve:
    """One family's fits on parts of the rows: row numbers, right answers bool (held,) and seconds of each."""

    family: str
    rows: tuple[int, ...]
    right: tuple[NDArray[np.bool_], ...]
    seconds: tuple[float, ...]

    @property
    def accuracy(self) -> list[float]:
        """The accuracy of each fit on the rows held out."""
        return [float(each.mean()) for each in self.right]

    @property
    def per_doubling(self) -> float | None:
        """Accuracy won by each doubling of the rows, the mean over the curve; None of one point."""
        found = self.accuracy
        if len(found) < 2:
            return None
        return float((found[-1] - found[0]) / np.log2(self.rows[-1] / self.rows[0]))

    @property
    def expected(self) -> float:
        """An upper expectation at twice the last rows: the last doubling's gain once more, since curves flatten."""
        found = self.accuracy
        return min(1.0, found[-1] + max(0.0, found[-1] - found[-2])) if len(found) > 1 else 1.0

    def fit_seconds(self, rows: int) -> float:
        """Return about how long one fit on so many rows takes, as it grows with the rows."""
        return self.seconds[-1] * rows / self.rows[-1]

    def to_json(self) -> dict[str, Any]:
        """Return the figures by name."""
        points = [{"rows": n, "accuracy": share} for n, share in zip(self.rows, self.accuracy, strict=True)]
        return {"family": self.family, "points": points, "per_doubling": self.per_doubling}


@dataclass(frozen=True, slots=True)
class Probe:
    """Rows to learn from in nested parts, and others, of whole groups, to tell by."""

    snapshot: Snapshot
    parts: tuple[Rows, ...]
    held: Rows

    @classmethod
    def of(cls, snapshot: Snapshot, learn: Rows, seed: int) -> Probe:
        """Return an eighth, a quarter and a half of the rows, and up to 1,000 of two folds of ten."""
        aside = np.isin(folds(snapshot.groups[learn], seed, FOLDS), HELD_FOLDS)
        held, others = learn[aside], np.random.default_rng(seed).permutation(learn[~aside])
        held = held[np.linspace(0, len(held) - 1, min(len(held), MOST_HELD)).astype(np.intp)] if len(held) else held
        parts = [np.sort(others[: len(learn) // part]) for part in PARTS]
        return cls(snapshot, tuple(part for part in parts if len(np.unique(snapshot.classes[part])) > 1), held)

    def curve(self, student: Student, prepared: Any, may: Callable[[float], bool] = lambda _: True) -> Curve | None:
        """Fit on part after part as long as `may` says so of the seconds expected; None where there are no rows."""
        if not len(self.held) or not self.parts:
            return None
        rows: list[int] = []
        right: list[NDArray[np.bool_]] = []
        seconds: list[float] = []
        classes, n_classes = self.snapshot.classes, len(self.snapshot.answers)
        student.heads = heads_of(self.snapshot.answers)
        for part in self.parts:
            if seconds and not may(seconds[-1] * len(part) / rows[-1]):
                break
            start = time.perf_counter()
            with threadpool_limits(limits=1):
                fitted = student.fresh().fit(prepared, part, classes[part], n_classes)
                said = fitted.probabilities(prepared, self.held).argmax(axis=1)
            seconds.append(time.perf_counter() - start)
            rows.append(len(part))
            right.append(said == classes[self.held])
        return Curve(student.family, tuple(rows), tuple(right), tuple(seconds))


def beaten_by(curve: Curve, cheaper: Sequence[Curve]) -> Curve | None:
    """Return a cheaper family's curve that beats this one; None where there is none.

    At the same number of rows, at least half of the curve in, the cheaper one is more accurate beyond noise (paired
    sign test, as in `training.precision`) and has no less to expect of more rows: what is dearer and does worse already
    would have to overtake it.
    """
    for other in cheaper:
        shared = [number for number in curve.rows if number in other.rows]
        if len(shared) * 2 < len(PARTS):
            continue
        mine, theirs = curve.right[curve.rows.index(shared[-1])], other.right[other.rows.index(shared[-1])]
        if is_worse(mine, theirs) and curve.expected <= other.expected:
            return other
    return None
