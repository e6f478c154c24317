"""Where candidates are tried: the rows that all share, the time that is left, and what came of each so far.

It knows time and outcomes; how a candidate is made is told to it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insource.training.comparing.candidates import NotTried
from insource.training.comparing.curve import Curve, Probe
from insource.training.comparing.estimates import Speeds
from insource.training.comparing.time_budget import TimeBudget, shown
from insource.training.comparing.timed import TimedMaterial
from insource.training.families import Material
from insource.training.outcome import Trained
from insource.training.recipe import Recipe
from insource.training.run import Workshop
from insource.training.snapshot import Snapshot
from insource.training.split_rows import split_rows
from insource.types import Example, Task


@dataclass(frozen=True, slots=True)
class Made:
    """A candidate that was made: wall-clock seconds, expected and taken, and seconds of one core, parts included."""

    name: str
    trained: Trained
    expected: float
    seconds: float
    core_seconds: float

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which test rows it is right about."""
        assert self.trained.figures.test is not None
        return ~self.trained.figures.test.wrong

    @property
    def accepted(self) -> NDArray[np.bool_]:
        """Which test rows it would accept."""
        assert self.trained.figures.test is not None
        return self.trained.figures.test.accepted


class Bench:
    """`made` and `not_tried` are the outcomes; `curves` by family, and `speeds`, once they are known.

    `recipe` holds what all candidates share: seed, base model, gold. `parts` are seconds of one core for what families
    share, by family.
    """

    def __init__(
        self, examples: Sequence[Example], snapshot: Snapshot, task: Task, recipe: Recipe, shop: Workshop,
        budget: TimeBudget, joules: Callable[[float], float],
    ) -> None:  # fmt: skip
        self.examples, self.snapshot, self.task, self.recipe = examples, snapshot, task, recipe
        self.shop, self.budget, self.joules = shop, budget, joules
        self.split = split_rows(snapshot, recipe, len(examples), 0)
        self.material = self.material_of("int8")
        self.probe = Probe.of(snapshot, self.split.learn, recipe.seed)
        self.curves: dict[str, Curve] = {}
        self.parts: dict[str, float] = {}
        self.speeds: Speeds | None = None
        self.made: list[Made] = []
        self.not_tried: list[NotTried] = []

    def material_of(self, precision: str) -> Material:
        """Return the texts in the form of every family, encoders in that precision."""
        return TimedMaterial(
            self.snapshot.texts, self.shop.room, self.shop.say, self.recipe.base, precision, self.budget
        )

    def attempt(self, name: str, expected: float, make: Callable[[], Trained], parts: float = 0.0) -> None:
        """Make a candidate if it fits; `parts` are seconds of one core that it shares with others."""
        if not self.fits(name, expected):
            return
        wall, core = time.perf_counter(), time.process_time()
        trained = make()
        taken = time.process_time() - core
        self.made.append(Made(name, trained, expected, time.perf_counter() - wall, taken + parts))

    def fits(self, name: str, expected: float) -> bool:
        """Whether a candidate, or a step of it, fits in what is left; where not, it is put down as left out."""
        left = self.budget.left
        if expected <= left:
            return True
        why = f"about {shown(expected)}, {shown(max(left, 0.0))} left" if expected else "no time was left"
        self.not_tried.append(NotTried(name, "left out", why, expected or None))
        return False

    def pass_over(self, name: str, what: str, why: str) -> None:
        """Put down why a candidate is not measured."""
        self.not_tried.append(NotTried(name, what, why))

    def found(self, name: str) -> Made | None:
        """Return the candidate of that name, if it was made."""
        return next((each for each in self.made if each.name == name), None)

    def told(self, name: str) -> dict[str, Any]:
        """Return what the lineage of a compared version says of it."""
        return {"compared": name}
