"""The candidates of a comparison in the order in which they are tried, from the cheapest to the dearest.

It knows names and recipes; not rows or versions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from insource.training.compression.smaller import How
from insource.training.families import FAMILIES

INT8, FP32 = "encoder-frozen", "encoder-frozen, fp32"
TUNED, SMALL = "encoder", "encoder, small student"
SMALL_LAYERS = 3
FEWEST_EPOCHS = 2
"""A tuned encoder sees a row as often as the defaults have it, or as there is time for, and at least so often."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One to try: a family of the base install, or `how` the frozen encoder is made smaller, or neither."""

    name: str
    family: str | None = None
    how: How | None = None


COMPRESSIONS: Mapping[str, How] = {
    "encoder-frozen, int8-static": How(quantise="int8-static"),
    "encoder-frozen, int4": How(quantise="int4"),
    "encoder-frozen, vocabulary": How(vocabulary=True),
}
CANDIDATES: tuple[Candidate, ...] = (
    *(Candidate(family, family) for family in FAMILIES),
    Candidate(FP32),
    Candidate(TUNED),
    Candidate(SMALL),
    *(Candidate(name, how=how) for name, how in COMPRESSIONS.items()),
)


@dataclass(frozen=True, slots=True)
class NotTried:
    """A candidate that was not measured to the end, and why.

    `what`: "dropped" (dominated), "left out" (no time), "stopped" (its time was up), "refused" (it cannot be made).
    """

    name: str
    what: str
    why: str
    seconds: float | None = field(default=None)
