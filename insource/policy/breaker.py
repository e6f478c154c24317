"""The circuit breaker of one dependency: after failures in a row it is left alone, then one attempt tries it.

It knows no HTTP and asks nobody: whoever asks tells it what came of it. For one event loop; it takes no lock.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from time import monotonic

LONGEST_PAUSE = 60.0


class State(StrEnum):
    """Where a breaker stands; `half_open` means that the rest is over and one attempt tries, or may."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """Closed; open after `failures` failures in a row for `rest` seconds; then one trial closes or opens it again.

    Every attempt takes a ticket from `enter` and hands it back with what came of it. A ticket from before the breaker
    last changed its state says nothing about now: neither a success that was under way when it opened closes it, nor
    does a late failure open it after a trial went well. A pause asked for (Retry-After) opens it at once, for at most
    60 s, so that nobody can talk it into resting for a day. `clock` gives seconds and never goes back.
    """

    __slots__ = ("_clock", "_failures", "_generation", "_limit", "_open", "_rest", "_trial", "_until")

    def __init__(self, failures: int = 5, rest: float = 10.0, clock: Callable[[], float] = monotonic) -> None:
        self._limit = failures
        self._rest = rest
        self._clock = clock
        self._failures = 0
        self._generation = 0
        self._open = False
        self._trial = False
        self._until = 0.0

    @property
    def state(self) -> State:
        """The state now."""
        if not self._open:
            return State.CLOSED
        return State.HALF_OPEN if self._trial or self._clock() >= self._until else State.OPEN

    @property
    def rests_for(self) -> float:
        """Seconds until an attempt is taken; 0 where one would be now, or where a trial is under way."""
        return max(0.0, self._until - self._clock()) if self._open else 0.0

    def admits(self) -> bool:
        """Whether `enter` would give a ticket now."""
        return not self._open or (not self._trial and self._clock() >= self._until)

    def enter(self) -> int | None:
        """Return the ticket of an attempt, or None while resting or while a trial is under way."""
        if self._open:
            if self._trial or self._clock() < self._until:
                return None
            self._trial = True
            self._generation += 1
        return self._generation

    def succeeded(self, ticket: int) -> None:
        """Note that the attempt went well: failures count from nought, and a trial closes the breaker."""
        if ticket != self._generation:
            return
        self._failures = 0
        if self._open:
            self._open = self._trial = False
            self._generation += 1

    def failed(self, ticket: int, pause: float | None = None) -> None:
        """Note that the attempt failed; `pause` is for how many seconds the dependency asked to be left alone."""
        pause = min(pause, LONGEST_PAUSE) if pause is not None else 0.0
        if ticket != self._generation:
            if self._open and pause > 0:
                self._until = max(self._until, self._clock() + pause)
            return
        self._failures += 1
        if self._open or self._failures >= self._limit:
            pause = max(pause, self._rest)
        if pause > 0:
            self._until = self._clock() + pause
            self._open, self._trial = True, False
            self._generation += 1

    def abandoned(self, ticket: int) -> None:
        """Note that nobody waited for the attempt's end: neither success nor failure; another may try."""
        if ticket == self._generation:
            self._trial = False
