"""The contract of a student, after scikit-learn's habit, with one step more: `prepare`.

What depends on the text alone is computed once and shared by every fit of a cross-fitting or a backtest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from insource.training.students.heads import Heads

Classes = NDArray[np.intp]
Rows = NDArray[np.intp]
Probabilities = NDArray[np.float64]
Progress = Callable[[int, int | None], None]


class Prepared(Protocol):
    """Texts in the form a student learns from; row i depends on text i and on nothing else."""

    def __len__(self) -> int:
        """The number of texts."""
        ...


class Student(Protocol):
    """A family that learns which of K answers a text has.

    Learned values end in an underscore. Neither `fit` nor `probabilities` may look at rows it was not given. `heads` is
    a choice: with it each field of the answers is learned by itself, and the probabilities are of the answers still.
    """

    family: ClassVar[str]
    heads: Heads | None

    def prepare(self, texts: Sequence[str], progress: Progress | None = None) -> Any:
        """Return the texts as this family learns from them."""
        ...

    def fit(self, prepared: Any, rows: Rows, classes: Classes, n_classes: int, start: Self | None = None) -> Self:
        """Learn from the given rows of `prepared`, whose answers are `classes` (as long as `rows`).

        `start` has learned the same answers from other rows of `prepared`: it may save time, and changes no result by
        more than the fit's own tolerance.
        """
        ...

    def probabilities(self, prepared: Any, rows: Rows) -> Probabilities:
        """Return float64 (len(rows), K) for rows of what `fit` was given; raises DataError before `fit`."""
        ...

    def fresh(self) -> Self:
        """Return an unfitted student with the same choices."""
        ...

    def tilted(self, shift: NDArray[np.float32]) -> Self:
        """Return a fitted student like this one, with `shift` (K,) added to the logits; this one stays as it is."""
        ...

    def to_artifact(self, folder: Path) -> dict[str, Any]:
        """Write the learned values into `folder` and return what the manifest says of them, in JSON."""
        ...
