"""The material of a comparison: what every family learns from, with an end to fitting once the time is up.

A cross-fit reports no progress; so it is asked before each of its fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from insource.training.comparing.time_budget import TimeBudget
from insource.training.families import Material
from insource.training.students.contract import Progress
from insource.training.students.heads import Heads
from insource.training.trunks import Say, TrunkRoom


class TimedMaterial(Material):
    """Texts in the form of every family, encoders in one precision; students raise OutOfTime where none is left."""

    def __init__(
        self, texts: Sequence[str], room: TrunkRoom, say: Say, base: str, precision: str, budget: TimeBudget
    ) -> None:
        super().__init__(texts, lambda: room, say, base, lambda _: precision)
        self._budget = budget

    def linear(self) -> tuple[Any, Any]:
        """Return an unfitted linear student and the counted n-grams."""
        return self._timed(super().linear())

    def static(self) -> tuple[Any, Any]:
        """Return an unfitted static student and the texts' words."""
        return self._timed(super().static())

    def encoder(self, labels: Sequence[str] = ()) -> tuple[Any, Any]:
        """Return an unfitted frozen-encoder student and the embeddings."""
        return self._timed(super().encoder(labels))

    def _timed(self, found: tuple[Any, Any]) -> tuple[Any, Any]:
        student, prepared = found
        return TimedStudent(student, self._budget), prepared


class TimedStudent:
    """An unfitted student that only fits while there is time; what comes out of `fit` is the student itself.

    `known` are the seconds of fits so far, of all its copies: the next is taken to need no less than the longest.
    """

    def __init__(self, student: Any, budget: TimeBudget, known: list[float] | None = None) -> None:
        self.family: str = student.family
        self._student, self._budget = student, budget
        self._known = [0.0] if known is None else known

    @property
    def heads(self) -> Heads | None:
        """The student's own."""
        found: Heads | None = self._student.heads
        return found

    @heads.setter
    def heads(self, heads: Heads | None) -> None:
        self._student.heads = heads

    def prepare(self, texts: Sequence[str], progress: Progress | None = None) -> Any:
        """Return the texts as the family learns from them."""
        return self._student.prepare(texts, progress)

    def fit(self, *told: Any) -> Any:
        """Return the student, fitted; raise OutOfTime instead where there is no time left for that."""
        self._budget.check(f"fitting {self.family}", max(self._known))
        start = self._budget.now()
        fitted = self._student.fit(*told)
        self._known.append(self._budget.now() - start)
        return fitted

    def fresh(self) -> TimedStudent:
        """Return an unfitted one with the same choices."""
        return TimedStudent(self._student.fresh(), self._budget, self._known)
