"""The losses of promise C2: how much worse each canary is than the incumbent, and on which requests each is wrong.

A case is one canary. The simulation and the replay through a gateway take a case's requests from here, so that both
try the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from reliability.canaries import REQUESTS, Wrong, canary


@dataclass(frozen=True, slots=True)
class Loss:
    """A true drop in points, and what is asked of it: the most requests at the median and at 95 %."""

    points: int
    median: int | None
    most: int | None

    @property
    def name(self) -> str:
        """How the tally calls its measurements."""
        return f"requests until {self.points} points lost were rolled back"


LOSSES = (Loss(10, 100, None), Loss(5, 220, None), Loss(3, 500, 1_600), Loss(1, None, REQUESTS))


def loss_of(case: int) -> Loss:
    """Return the loss of a case: by turns 10, 5, 3 and 1 points."""
    return LOSSES[case % len(LOSSES)]


def answers_of(case: int) -> tuple[Wrong, Wrong]:
    """Return which requests of a case the incumbent and which the candidate answers wrongly."""
    return canary((2, case), loss_of(case).points / 100.0)
