"""Cross-fitting: every evidence row gets the probabilities of a student that never saw it, nor its near-duplicates.

It knows students, rows and folds; not answers, thresholds or tasks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from insource.training.students.contract import Classes, Probabilities, Rows, Student

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class CrossFit:
    """`probabilities` float64 (len(evidence), K), out of fold; `student` is fitted on everything.

    `fits` has the student of each fold (None: the one on everything) with the rows it learned from.
    """

    probabilities: Probabilities
    student: Student
    fits: Mapping[int | None, tuple[Student, Rows]] = field(default_factory=dict)


def cross_fit(
    student: Student,
    prepared: Any,
    *,
    evidence: Rows,
    folds: NDArray[np.intp],
    also: Rows,
    classes: Classes,
    n_classes: int,
    before: CrossFit | None = None,
) -> CrossFit:
    """Fit `student` once for each fold of the evidence, and once on all rows.

    `evidence` int (m,) are rows that may certify, `folds` int (m,) their folds; `also` are rows that every fit learns
    from and that never certify (escalated requests). `classes` int (n,) covers all of `prepared`. `before` is an
    earlier cross-fit of the same `prepared` and answers: a fit starts at its fold's own where that has seen none of the
    rows now held out. Fits run side by side on the process's cores, one thread each.
    """
    names: list[int | None] = [None, *np.unique(folds).tolist()]

    def of_fold(name: int | None) -> tuple[Student, Rows, NDArray[np.bool_], Probabilities | None]:
        held = folds == name if name is not None else np.zeros(len(evidence), np.bool_)
        rows = np.concatenate([evidence[~held], also])
        start = _start(before, name, evidence[held])
        fitted = student.fresh().fit(prepared, rows, classes[rows], n_classes, start)
        return fitted, rows, held, fitted.probabilities(prepared, evidence[held]) if held.any() else None

    probabilities = np.empty((len(evidence), n_classes))
    fits: dict[int | None, tuple[Student, Rows]] = {}
    for name, (fitted, rows, held, found) in zip(names, side_by_side(of_fold, names), strict=True):
        fits[name] = fitted, rows
        if found is not None:
            probabilities[held] = found
    return CrossFit(probabilities, fits[None][0], fits)


def _start(before: CrossFit | None, fold: int | None, held: Rows) -> Student | None:
    """Return where a fit may start: at its fold's fit before, unless that learned from a row which is now held out."""
    student, rows = before.fits.get(fold, (None, held)) if before else (None, held)
    return None if np.isin(held, rows).any() else student


def side_by_side(function: Callable[[Any], Result], items: Iterable[Any]) -> list[Result]:
    """Return the function's results in order, computed on as many threads as cores, each with one BLAS thread."""
    with threadpool_limits(limits=1), ThreadPoolExecutor(cores(), thread_name_prefix="fit") as pool:
        return list(pool.map(function, items))


def cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
