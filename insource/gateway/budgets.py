"""Budgets of keys: money and tokens reserved beforehand, and the file that is durably ahead of all that was.

It knows keys' ids, windows and numbers. What is never settled stays spent as it was reserved, so that nothing is ever
overspent, whatever is killed.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import msgspec

from insource.errors import BudgetReached
from insource.store.spending import Place, Spending

MONEY, TOKENS = "money", "tokens"
DAY, MONTH, TOTAL = "day", "month", "total"
NOTHING = Decimal(0)
AHEAD = Decimal("0.001")
"""The share of a budget by which the file is kept ahead, and that a worker may have beforehand: a kill spends it."""
LEAST_LEFT = Decimal("0.1")
"""The share of a budget below which no worker has anything beforehand: none is refused what another might need."""
TIDY_SECONDS = 0.25
_LENGTHS = {DAY: len("2026-11-22"), MONTH: len("2026-11")}
A_DAY = 86_400.0
"""Seconds after which a repeat may help where a person must raise the budget first."""


Amounts = Mapping[str, Decimal]
"""Amounts by kind."""


class Claim(msgspec.Struct, frozen=True, array_like=True):
    """What a request may take at most of one budget; `unit` is for people, such as "USD"."""

    kind: str
    unit: str
    limit: Decimal
    per: str
    amount: Decimal


class Budgets:
    """What was spent and reserved. The file is opened when something is first reserved.

    It is kept ahead of what is reserved, by AHEAD of a budget, so that most reservations are durable before they are
    made; what it is ahead after a kill counts as spent. While it runs, the file comes back to the true figures within
    TIDY_SECONDS.
    """

    def __init__(self, home: Path, clock: Callable[[], datetime]) -> None:
        self._home = home
        self._clock = clock
        self._held: defaultdict[Place, Decimal] = defaultdict(Decimal)
        self._spending: Spending | None = None
        self._spent: dict[Place, Decimal] = {}
        self._covered: dict[Place, Decimal] = {}  # the least that the file may hold, now and until the next `_note`
        self._queued: dict[Place, object] = {}
        self._untidy: set[Place] = set()
        self._tidying: asyncio.TimerHandle | None = None

    def take(self, key: str, claims: Sequence[Claim]) -> dict[Place, Decimal]:
        """Reserve all that is claimed, or nothing; return what was reserved where. Not for use before `covered`."""
        self._opened()
        now = self._clock()
        taken: dict[Place, Decimal] = {}
        for claim in claims:
            place = (key, claim.kind, window_of(claim.per, now))
            self._check(place, claim, now)
            taken[place] = claim.amount
        for place, amount in taken.items():
            self._held[place] += amount
            self._spent[place] = self._spent.get(place, NOTHING) + amount
        return taken

    def ahead(self, key: str, claims: Sequence[Claim], more: int) -> dict[str, Decimal]:
        """Return by kind what a worker may have beforehand: up to `more` times what is claimed, few of what is left."""
        self._opened()
        now, found = self._clock(), {}
        for claim in claims:
            left = claim.limit - self._spent.get((key, claim.kind, window_of(claim.per, now)), NOTHING) - claim.amount
            found[claim.kind] = min(claim.amount * more, claim.limit * AHEAD)
            if found[claim.kind] < claim.amount or left < claim.limit * LEAST_LEFT or until_next(claim.per, now) < 1:
                return {}
        return found

    def covered(self, taken: Mapping[Place, Decimal]) -> bool:
        """Whether the file is ahead of what was reserved, durably."""
        return all(self._spent[place] <= self._covered.get(place, NOTHING) for place in taken)

    async def cover(self, taken: Mapping[Place, Decimal], claims: Sequence[Claim]) -> None:
        """Return once the file is ahead of what was reserved; else give all back and raise StoreError."""
        figures, mark = {}, object()
        for place, claim in zip(taken, claims, strict=True):
            if (spent := self._spent[place]) > self._covered.get(place, NOTHING):
                figures[place] = max(spent, min(spent + claim.limit * AHEAD, claim.limit))
                self._queued[place] = mark
        try:
            await self._opened().write(figures)
        except BaseException:
            self.give_back(taken, dict.fromkeys(taken, NOTHING))
            raise
        for place, figure in figures.items():
            if self._queued.get(place) is mark:  # nothing was queued behind it that may be lower
                self._covered[place] = figure
        self._tidy_soon(figures)

    async def reserve(self, key: str, claims: Sequence[Claim]) -> dict[Place, Decimal]:
        """Reserve all that is claimed, or nothing, durably; return what was reserved where."""
        taken = self.take(key, claims)
        if not self.covered(taken):
            await self.cover(taken, claims)
        return taken

    def give_back(self, taken: Mapping[Place, Decimal], spent: Mapping[Place, Decimal]) -> None:
        """Put what was spent in the place of what was reserved."""
        for place, amount in taken.items():
            self._held[place] -= amount
            self._spent[place] += spent.get(place, amount) - amount
        if any(spent.get(place, amount) > amount for place, amount in taken.items()) and not self.covered(taken):
            self._note(taken)
        self._tidy_soon(taken)

    def forget(self, taken: Mapping[Place, Decimal]) -> None:
        """Nobody will tell any more what was spent: it counts as it was reserved."""
        for place, amount in taken.items():
            self._held[place] -= amount

    def close(self) -> None:
        """Write all that is known."""
        if self._tidying is not None:
            self._tidying.cancel()
        if self._spending is not None:
            self._tidy()
            self._spending.close()

    def _note(self, places: Iterable[Place]) -> None:
        """Have the file hold what is true; it covers no more than that from now on."""
        figures = {place: self._spent[place] for place in places}
        self._opened().note(figures)
        for place, figure in figures.items():
            self._queued.pop(place, None)
            self._covered[place] = min(figure, self._covered.get(place, NOTHING))

    def _tidy_soon(self, places: Iterable[Place]) -> None:
        self._untidy.update(places)
        if self._tidying is None:
            self._tidying = asyncio.get_running_loop().call_later(TIDY_SECONDS, self._tidy)

    def _tidy(self) -> None:
        self._tidying = None
        if self._untidy:
            self._note(self._untidy)
            self._untidy.clear()

    def _check(self, place: Place, claim: Claim, now: datetime) -> None:
        spent = self._spent.get(place, NOTHING)
        if spent + claim.amount <= claim.limit:
            return
        per = "in total" if claim.per == TOTAL else f"a {claim.per}"
        refusal = BudgetReached(
            f"{shown(max(claim.limit - spent, NOTHING))} {claim.unit} are left of this key's "
            f"{shown(claim.limit)} {per}; the request may take up to {shown(claim.amount)}."
        )
        waits = spent - self._held[place] + claim.amount <= claim.limit
        refusal.retry_after = 1.0 if waits else until_next(claim.per, now)
        raise refusal

    def _opened(self) -> Spending:
        if self._spending is None:
            self._spending = Spending.open(self._home)
            self._spent = self._spending.read()
            self._covered = dict(self._spent)
        return self._spending


def window_of(per: str, now: datetime) -> str:
    """Return the name of the window that `now` (UTC) lies in."""
    length = _LENGTHS.get(per)
    return now.isoformat()[:length] if length else TOTAL


def until_next(per: str, now: datetime) -> float:
    """Return the seconds until the next window; a day where there is none."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if per == DAY:
        return (midnight + timedelta(days=1) - now).total_seconds()
    if per == MONTH:
        return ((midnight.replace(day=1) + timedelta(days=32)).replace(day=1) - now).total_seconds()
    return A_DAY


def shown(amount: Decimal) -> str:
    """Return an amount for people: no exponent, no idle zeros."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
