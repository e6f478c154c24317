"""What a person may choose about a training; it is kept in the lineage of what came out."""

from __future__ import annotations

from dataclasses import dataclass

from insource.training.tuning.settings import Settings

METHODS = ("cross-fit", "strict", "none")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to train with. `method` "none" certifies nothing and fits on every row; `gold` prefers gold to references.

    `precision` "auto" takes int8 unless fp32 is significantly more accurate on held-out rows. Family encoder alone:
    `tuning` None takes the defaults, `layers` leaves so many of the base model's, `small_vocabulary` leaves the words
    that occur, and `teacher` is the number of the version that teaches, whose own layers it starts from if tuned.
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
