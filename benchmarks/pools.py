"""Pools: held-out rows of a data set with the score of a real specialist, whose every answer is known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.figure import part
from insource.inputs import InputSettings
from insource.risk.scores import Scorer
from insource.traffic import read
from insource.training.crossfit import cross_fit
from insource.training.snapshot import take_snapshot
from insource.training.splits import folds, places
from insource.training.students.linear import LinearStudent


@dataclass(frozen=True)
class Pool:
    """Rows that the specialist never saw: scores, mistakes, references."""

    name: str
    scores: NDArray[np.float64]
    wrong: NDArray[np.bool_]
    references: NDArray[np.str_]


def pool(data: Path, name: str, share: float = 0.5) -> Pool:
    """Fit a linear specialist on all rows but `share`, scorer included, and score the rest."""
    examples = [example for split in ("train", "test") for example in read(part(data, name, split)).examples]
    snapshot = take_snapshot(examples, InputSettings())
    student = LinearStudent()
    prepared = student.prepare(snapshot.texts)
    where = places(snapshot.groups, 0)
    learn, rest = np.flatnonzero(where >= share), np.flatnonzero(where < share)
    fit = cross_fit(
        student,
        prepared,
        evidence=learn,
        folds=folds(snapshot.groups[learn], 0),
        also=learn[:0],
        classes=snapshot.classes,
        n_classes=len(snapshot.answers),
    )
    scorer = Scorer.fit(fit.probabilities, fit.probabilities.argmax(axis=1) == snapshot.classes[learn])
    probabilities = fit.student.probabilities(prepared, rest)
    wrong = probabilities.argmax(axis=1) != snapshot.classes[rest]
    labels = np.array([snapshot.answers.display(answer) for answer in snapshot.answers.answers])
    return Pool(name, scorer.score(probabilities), wrong, labels[snapshot.classes[rest]])
