"""A time budget: what is left of it, whether something fits, and an end to what runs over it.

It knows seconds and progress; not what takes them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from insource.errors import UserError
from insource.training.trunks import Say

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_PARTS = re.compile(r"(\d+(?:\.\d+)?)([smh])")


class OutOfTime(Exception):
    """Work was broken off because its time was up; not an error, but a value of the comparison."""


def seconds_of(text: str) -> float:
    """Return "90s", "10m", "1h" or "1h30m" in seconds; raise UserError for anything else, and for nothing at all."""
    plain = text.strip().lower()
    found = _PARTS.findall(plain)
    seconds = sum(float(number) * UNITS[unit] for number, unit in found)
    if "".join(number + unit for number, unit in found) != plain or not seconds > 0:
        raise UserError(f"--time-budget is {text!r}; a time was expected, such as 90s, 10m or 1h30m.")
    return seconds


def shown(seconds: float) -> str:
    """Return seconds as people say them: "50 s", "6 min", "1.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@dataclass(slots=True)
class TimeBudget:
    """`seconds` from `started` on, by the clock `now`; the last `reserve` of them are for testing and measuring.

    The reserve may grow as it turns out how long an answer takes.
    """

    seconds: float
    started: float
    now: Callable[[], float]
    reserve: float = 0.0

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return self.now() - self.started

    @property
    def left(self) -> float:
        """Seconds left before the reserve; negative where that is in use."""
        return self.seconds - self.reserve - self.spent

    def check(self, what: str, seconds: float = 0.0) -> None:
        """Raise OutOfTime where nothing is left, or less than the seconds that something will take."""
        if self.left <= seconds:
            raise OutOfTime(what)

    def guarded(self, say: Say) -> Say:
        """Return `say` with an end: what reports its progress when nothing is left raises OutOfTime."""

        def begin(title: str) -> Callable[[int, int | None], None]:
            report = say(title)

            def told(done: int, total: int | None = None) -> None:
                report(done, total)
                self.check(title)

            return told

        return begin
