"""Whether an int8 trunk serves a task as well as the fp32 one: the same rows, two heads, one paired test.

It knows rows and trunks; not thresholds or the registry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from insource.training.students.contract import Classes, Rows
from insource.training.students.encoder_frozen import EncoderFrozenStudent

TRAIN_ROWS = 1_000
TEST_ROWS = 400
SIGNIFICANT = 0.05

MakeStudent = Callable[[str], EncoderFrozenStudent]


@dataclass(frozen=True, slots=True)
class PrecisionCheck:
    """What was chosen, and the accuracy of both on the same held-out rows."""

    chosen: str
    int8: float
    fp32: float
    rows: int

    def __str__(self) -> str:
        return f"{self.chosen} (on {self.rows} held-out rows: int8 {self.int8:.1%}, fp32 {self.fp32:.1%})"


def choose_precision(student: MakeStudent, texts: list[str], classes: Classes, n_classes: int, seed: int) -> str:
    """Return "int8" unless fp32 is significantly more accurate."""
    return check_precision(student, texts, classes, n_classes, seed).chosen


def check_precision(
    student: MakeStudent, texts: list[str], classes: Classes, n_classes: int, seed: int
) -> PrecisionCheck:
    """Fit a head on up to 1,000 rows in each precision and compare them on up to 400 others.

    fp32 is chosen where an exact one-sided sign test on the rows that only one of them gets right (McNemar,
    Psychometrika 1947) is significant at 0.05. `student` makes an unfitted student of a precision.
    """
    order = np.random.default_rng(seed).permutation(len(texts))[: TRAIN_ROWS + TEST_ROWS]
    split = min(TRAIN_ROWS, int(len(order) * TRAIN_ROWS / (TRAIN_ROWS + TEST_ROWS)))
    chosen = [texts[int(i)] for i in order]
    answers = classes[order]
    right = {name: _right(student(name), chosen, answers, split, n_classes) for name in ("int8", "fp32")}
    return PrecisionCheck(
        chosen="fp32" if is_worse(right["int8"], right["fp32"]) else "int8",
        int8=float(right["int8"].mean()),
        fp32=float(right["fp32"].mean()),
        rows=len(order) - split,
    )


def is_worse(right: NDArray[np.bool_], than: NDArray[np.bool_]) -> bool:
    """Whether one model is right on significantly fewer rows than another, by the test that `check_precision` names."""
    only_one, only_other = int((right & ~than).sum()), int((than & ~right).sum())
    differing = only_one + only_other
    return differing > 0 and binomtest(only_other, differing, 0.5, alternative="greater").pvalue < SIGNIFICANT


def _right(
    student: EncoderFrozenStudent, texts: list[str], classes: Classes, split: int, n_classes: int
) -> NDArray[np.bool_]:
    prepared = student.prepare(texts)
    train: Rows = np.arange(split)
    test: Rows = np.arange(split, len(texts))
    fitted = student.fit(prepared, train, classes[train], n_classes)
    right: NDArray[np.bool_] = fitted.probabilities(prepared, test).argmax(axis=1) == classes[test]
    return right
