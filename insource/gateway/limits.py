"""Limits of keys, for all workers together: requests in a time, requests at once, money and tokens reserved beforehand.

It knows keys' ids and numbers. A reservation is durable before anything is sent for it; what is never settled stays
spent as it was reserved, so that nothing is ever overspent, whatever is killed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from time import monotonic
from typing import Protocol

from msgspec.structs import replace

from insource.errors import ConcurrencyReached, RateReached
from insource.gateway.budgets import Amounts, Budgets, Claim
from insource.store.spending import Place

LEASED = 1 / 64
"""The share of a rate's requests that a worker may have beforehand."""
Rate = tuple[int, float]
"""How many requests in how many seconds."""


@dataclass(frozen=True, slots=True)
class Granted:
    """A ticket of what was reserved, and how much more than the request's own it holds, by kind."""

    ticket: int
    more: Amounts


class Limiter(Protocol):
    """Where limits are kept: here, or in the supervisor for all workers."""

    async def admit(self, key: str, rate: Rate | None, concurrency: int | None) -> bool:
        """Let a request in; return whether it holds a permit to release. Raise RateReached or ConcurrencyReached."""
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


class LimitKeeper(Budgets):
    """The figures; whoever uses them opens a `Session`."""

    def __init__(self, home: Path, clock: Callable[[], datetime], seconds: Callable[[], float] = monotonic) -> None:
        super().__init__(home, clock)
        self._seconds = seconds
        self._buckets: dict[str, tuple[float, float]] = {}
        self._taken: Counter[str] = Counter()

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
        if concurrency is not None:
            self._taken[key] += 1

    def more(self, key: str, wanted: int) -> int:
        """Take up to `wanted` further requests of a rate that one was just taken of, few of those left; return them."""
        left, since = self._buckets[key]
        found = min(wanted, int(left * LEASED))
        self._buckets[key] = (left - found, since)
        return found

    def unused(self, key: str, number: int) -> None:
        """Give requests of the rate back."""
        left, since = self._buckets[key]
        self._buckets[key] = (left + number, since)  # what is beyond the bucket's size is cut when one is taken

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


class Session:
    """One user's permits and reservations; leaving it gives the permits back and counts the rest as spent."""

    def __init__(self, limits: LimitKeeper) -> None:
        self._limits = limits
        self._permits: Counter[str] = Counter()
        self._tickets: dict[int, dict[Place, Decimal]] = {}
        self._next = 0

    async def admit(self, key: str, rate: Rate | None, concurrency: int | None) -> bool:
        """Return whether a permit was taken; raises RateReached or ConcurrencyReached."""
        self.admit_now(key, rate, concurrency)
        return concurrency is not None

    def admit_now(self, key: str, rate: Rate | None, concurrency: int | None, more: int = 0) -> int:
        """Do the same without a turn of the loop, and take up to `more` further requests of the rate; return these."""
        self._limits.admit(key, rate, concurrency)
        if concurrency is not None:
            self._permits[key] += 1
        return self._limits.more(key, more) if more and rate is not None else 0

    def unused(self, key: str, number: int) -> None:
        """Give requests of the rate back."""
        self._limits.unused(key, number)

    def release(self, key: str) -> None:
        """Give it back."""
        if self._permits[key] > 0:
            self._permits[key] -= 1
            self._limits.release(key)

    async def reserve(self, key: str, claims: Sequence[Claim]) -> int:
        """Return a ticket; raises BudgetReached, StoreError."""
        found = self.reserve_now(key, claims)
        return (found if isinstance(found, Granted) else await found).ticket

    def reserve_now(self, key: str, claims: Sequence[Claim], more: int = 0) -> Granted | Awaitable[Granted]:
        """Return a ticket where all that is claimed is reserved durably at once, else what to await for it.

        Up to `more` times as much is reserved beside it. Raises BudgetReached, StoreError.
        """
        beside = self._limits.ahead(key, claims, more) if more else {}
        if beside:
            claims = [replace(claim, amount=claim.amount + beside[claim.kind]) for claim in claims]
        taken = self._limits.take(key, claims)
        if self._limits.covered(taken):
            return self._granted(taken, beside)
        return self._cover(taken, claims, beside)

    async def _cover(self, taken: dict[Place, Decimal], claims: Sequence[Claim], beside: Amounts) -> Granted:
        await self._limits.cover(taken, claims)
        return self._granted(taken, beside)

    def _granted(self, taken: dict[Place, Decimal], beside: Amounts) -> Granted:
        self._next += 1
        self._tickets[self._next] = taken
        return Granted(self._next, beside)

    def settle(self, ticket: int, spent: Mapping[str, Decimal]) -> None:
        """Put what was spent in the place of what was reserved, once."""
        taken = self._tickets.pop(ticket, None)
        if taken is not None:
            self._limits.give_back(taken, {place: spent[place[1]] for place in taken if place[1] in spent})

    def settle_part(self, ticket: int, amounts: Amounts, spent: Amounts) -> None:
        """Put what was spent in the place of a part of what was reserved, by kind."""
        if (taken := self._tickets.get(ticket)) is None:
            return
        parts = {place: amounts[place[1]] for place in taken if place[1] in amounts}
        for place, amount in parts.items():
            taken[place] -= amount
        if not any(taken.values()):
            del self._tickets[ticket]
        self._limits.give_back(parts, {place: spent[place[1]] for place in parts if place[1] in spent})

    def close(self) -> None:
        """Give back the permits; what is still reserved counts as spent."""
        for key, number in self._permits.items():
            for _ in range(number):
                self._limits.release(key)
        self._permits.clear()
        for taken in self._tickets.values():
            self._limits.forget(taken)
        self._tickets.clear()
