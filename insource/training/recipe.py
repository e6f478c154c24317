"""What a person may choose about a training; it is kept in the lineage of what came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from insource.errors import UserError
from insource.training.families import CHOICES, TUNED, check_family
from insource.training.tuning.settings import Settings

METHODS = ("cross-fit", "strict", "none")
OPTIONS = {
    "teacher": "--teacher-version", "layers": "--layers", "small_vocabulary": "--small-vocabulary",
    "tuning": "--epochs or --rate",
}  # fmt: skip
"""What only a tuned encoder knows, and how the command line calls it."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to train with. `method` "none" certifies nothing and fits on every row; `gold` prefers gold to references.

    `precision` "auto" takes int8 unless fp32 is significantly more accurate on held-out rows. Family encoder alone:
    `tuning` None takes the defaults, `layers` leaves so many of the base model's, `small_vocabulary` leaves the words
    that occur, and `teacher` is the number of the version that teaches, whose own layers it starts from if tuned.
    `balance` in [0, 1] makes rare answers likelier: at 1 every answer counts the same, however many rows it has.
    """

    family: str = "auto"
    method: str = "cross-fit"
    seed: int = 0
    base: str = "all-MiniLM-L6-v2"
    precision: str = "auto"
    gold: bool = False
    tuning: Settings | None = None
    layers: int | None = None
    small_vocabulary: bool = False
    teacher: int | None = None
    balance: float = 0.0

    def check(self) -> None:
        """Raise UserError where a choice is unknown, or does not go with another."""
        check_family(self.family, (*CHOICES, TUNED))
        if self.method not in METHODS:
            raise UserError(f"The method is {self.method!r}; one of {', '.join(METHODS)} was expected.")
        if not 0.0 <= self.balance <= 1.0:
            raise UserError(
                f"--balance is {self.balance:g}; 0 (every answer as frequent as it is) to 1 (as if all were as "
                "frequent) was expected."
            )
        if self.family == "auto" and self.method == "none":
            raise UserError("--no-certify measures nothing to choose by; name a --family beside it.")
        for name, option in OPTIONS.items():
            if self.family != TUNED and getattr(self, name):
                raise UserError(
                    f"{option} is for a tuned encoder, and the family is {self.family!r}; {TUNED} was expected beside "
                    f"it. Pass --family {TUNED}."
                )

    @classmethod
    def of_lineage(cls, told: Mapping[str, Any]) -> Self:
        """Return the recipe that a lineage tells, as far as this insource knows what it says."""
        chosen = _known(cls, told)
        tuning = chosen.pop("tuning", None)
        return cls(**chosen, tuning=Settings(**_known(Settings, tuning)) if tuning else None)


def _known(kind: Any, told: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of it a dataclass has a field for."""
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in told.items() if name in names}
