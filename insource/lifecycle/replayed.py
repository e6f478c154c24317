"""What a replay came to: the versions that were tried, and what became of each request."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from insource.types import Reason


@dataclass(frozen=True, slots=True)
class Version:
    """A version of the replay: at which request it was tried, what it was, and whether it took over from then on."""

    at: int
    family: str
    digest: str
    threshold: float | None
    certified_coverage: float
    accuracy: float
    evidence: int
    took_over: bool
    why: str
    notes: tuple[str, ...]


@dataclass(slots=True)
class Replayed:
    """What became of each request; arrays bool (n,), in the stream's order.

    `accepted` counts what lies inside the promise, `spent` the answers given because the budget was; `wrong` marks
    specialist answers that differ from the reference; `served` holds the replies as they were given.
    """

    accepted: NDArray[np.bool_]
    spent: NDArray[np.bool_]
    audited: NDArray[np.bool_]
    wrong: NDArray[np.bool_]
    served: list[str | None]
    scores: NDArray[np.float64]
    reasons: list[Reason]
    versions: list[Version] = field(default_factory=list)
