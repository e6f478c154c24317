"""Limits of keys, for all workers together: requests in a time, requests at once, money and tokens reserved beforehand.

It knows keys' ids and numbers. A reservation is durable before anything is sent for it; what is never settled stays
spent as it was reserved, so that nothing is ever overspent, whatever is killed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from time import monotonic
from typing import Protocol

import msgspec

from insource.errors import BudgetReached, ConcurrencyReached, RateReached
from insource.store.spending import Place, Spending

MONEY, TOKENS = "money", "tokens"
DAY, MONTH, TOTAL = "day", "month", "total"
A_DAY = 86_400.0
"""Seconds after which a repeat may help where a person must raise the budget first."""


class Claim(msgspec.Struct, frozen=True, array_like=True):
    """What a request may take at most of one budget; `unit` is for people, such as "USD"."""

    kind: str
    unit: str
    limit: Decimal
    per: str
    amount: Decimal


Rate = tuple[int, float]
"""How many requests in how many seconds."""


class Limiter(Protocol):
    """Where limits are kept: here, or in the supervisor for all workers."""

    async def admit(self, key: str, rate: Rate | None, concurrency: int | None) -> None:
        """Take a permit of the key; raise RateReached or ConcurrencyReached."""
        ...

    def release(self, key: str) -> None:
        """Give the permit back."""
        ...

    async def reserve(self, key: str, claims: Sequence[Claim]) -> int:
        """Return a ticket once all that is claimed is reserved, durably; raise BudgetReached, StoreError."""
        ...

    def settle(self, ticket: int, spent: Mapping[str, Decimal]) -> None:
        """Tell what was really spent, by kind; what is not told of stays spent as it was reserved."""
        ...


class Limits:
    """The figures; whoever uses them opens a `Session`. Its file is opened when something is first reserved."""

    def __init__(self, home: Path, clock: Callable[[], datetime], seconds: Callable[[], float] = monotonic) -> None:
        self._home = home
        self._clock = clock
        self._seconds = seconds
        self._buckets: dict[str, tuple[float, float]] = {}
        self._taken: Counter[str] = Counter()
        self._held: defaultdict[Place, Decimal] = defaultdict(Decimal)
        self._spending: Spending | None = None
        self._spent: dict[Place, Decimal] = {}

    def session(self) -> Session:
        """Return what one user of the limits holds of them."""
        return Session(self)

    def admit(self, key: str, rate: Rate | None, concurrency: int | None) -> None:
        """Take a permit, and a request of the rate; neither where one is refused."""
        if concurrency is not None and self._taken[key] >= concurrency:
            refusal = ConcurrencyReached(
                f"{self._taken[key]} requests of this key are being served; at most {concurrency} may be at once; "
                "0 are left."
            )
            refusal.retry_after = 1.0
            raise refusal
        if rate is not None:
            self._take(key, *rate)
        self._taken[key] += 1

    def release(self, key: str) -> None:
        """Give a permit back."""
        self._taken[key] -= 1
        if not self._taken[key]:
            del self._taken[key]

    def _take(self, key: str, number: int, seconds: float) -> None:
        """Take one of a bucket that holds `number` and is filled again within `seconds`."""
        now = self._seconds()
        left, since = self._buckets.get(key, (float(number), now))
        left = min(float(number), left + (now - since) * number / seconds)
        if left < 1.0:
            self._buckets[key] = (left, now)
            wait = (1.0 - left) * seconds / number
            refusal = RateReached(
                f"This key may send {number} requests in {seconds:g} s; 0 are left, the next in {wait:.1f} s."
            )
            refusal.retry_after = wait
            raise refusal
        self._buckets[key] = (left - 1.0, now)

    async def reserve(self, key: str, claims: Sequence[Claim]) -> dict[Place, Decimal]:
        """Reserve all that is claimed, or nothing; return what was reserved where."""
        spending, now = self._opened(), self._clock()
        places = {(key, claim.kind, window_of(claim.per, now)): claim for claim in claims}
        for place, claim in places.items():
            self._check(place, claim, now)
        taken = {place: claim.amount for place, claim in places.items()}
        self._add(taken, 1)
        try:
            await spending.write({place: self._spent[place] for place in taken})
        except BaseException:
            self.give_back(taken, dict.fromkeys(taken, Decimal(0)))
            raise
        return taken

    def give_back(self, taken: Mapping[Place, Decimal], spent: Mapping[Place, Decimal]) -> None:
        """Put what was spent in the place of what was reserved."""
        for place, amount in taken.items():
            self._held[place] -= amount
            self._spent[place] += spent.get(place, amount) - amount
        self._opened().note({place: self._spent[place] for place in taken})

    def forget(self, taken: Mapping[Place, Decimal]) -> None:
        """Nobody will tell any more what was spent: it counts as it was reserved."""
        for place, amount in taken.items():
            self._held[place] -= amount

    def close(self) -> None:
        """Write all that is known."""
        if self._spending is not None:
            self._spending.close()

    def _add(self, taken: Mapping[Place, Decimal], sign: int) -> None:
        for place, amount in taken.items():
            self._held[place] += sign * amount
            self._spent[place] = self._spent.get(place, Decimal(0)) + sign * amount

    def _check(self, place: Place, claim: Claim, now: datetime) -> None:
        spent = self._spent.get(place, Decimal(0))
        if spent + claim.amount <= claim.limit:
            return
        per = "in total" if claim.per == TOTAL else f"a {claim.per}"
        refusal = BudgetReached(
            f"{shown(max(claim.limit - spent, Decimal(0)))} {claim.unit} are left of this key's "
            f"{shown(claim.limit)} {per}; the request may take up to {shown(claim.amount)}."
        )
        waits = spent - self._held[place] + claim.amount <= claim.limit
        refusal.retry_after = 1.0 if waits else until_next(claim.per, now)
        raise refusal

    def _opened(self) -> Spending:
        if self._spending is None:
            self._spending = Spending.open(self._home)
            self._spent = self._spending.read()
        return self._spending


class Session:
    """One user's permits and reservations; leaving it gives the permits back and counts the rest as spent."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._permits: Counter[str] = Counter()
        self._tickets: dict[int, dict[Place, Decimal]] = {}
        self._next = 0

    async def admit(self, key: str, rate: Rate | None, concurrency: int | None) -> None:
        """Take a permit; raises RateReached or ConcurrencyReached."""
        self._limits.admit(key, rate, concurrency)
        self._permits[key] += 1

    def release(self, key: str) -> None:
        """Give it back."""
        if self._permits[key] > 0:
            self._permits[key] -= 1
            self._limits.release(key)

    async def reserve(self, key: str, claims: Sequence[Claim]) -> int:
        """Return a ticket; raises BudgetReached, StoreError."""
        taken = await self._limits.reserve(key, claims)
        self._next += 1
        self._tickets[self._next] = taken
        return self._next

    def settle(self, ticket: int, spent: Mapping[str, Decimal]) -> None:
        """Put what was spent in the place of what was reserved, once."""
        taken = self._tickets.pop(ticket, None)
        if taken is not None:
            self._limits.give_back(taken, {place: spent[place[1]] for place in taken if place[1] in spent})

    def close(self) -> None:
        """Give back the permits; what is still reserved counts as spent."""
        for key, number in self._permits.items():
            for _ in range(number):
                self._limits.release(key)
        self._permits.clear()
        for taken in self._tickets.values():
            self._limits.forget(taken)
        self._tickets.clear()


def window_of(per: str, now: datetime) -> str:
    """Return the name of the window that `now` (UTC) lies in."""
    return {DAY: f"{now:%Y-%m-%d}", MONTH: f"{now:%Y-%m}"}.get(per, TOTAL)


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
