"""Limits on lease: a busy worker asks for many requests of a key at once, and gives back what it did not need.

It knows no socket and keeps no limit: all that it gives out was taken from the keeper before, durably where it is of a
budget. A key that is seldom used, or whose budget nears its end, is asked for request by request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from insource.gateway.budgets import NOTHING, Claim
from insource.gateway.limits import Granted, Limiter, Rate

LEASE_SECONDS = 0.1
FEWEST = 4
"""So many requests of a key within LEASE_SECONDS make a lease worth its while."""


class Lessor(Limiter, Protocol):
    """A limiter that gives more than one request's worth, where it is asked to."""

    async def admit_more(self, key: str, rate: Rate, more: int) -> int:
        """Do as `admit` without a permit, and take up to `more` further requests of the rate; return how many."""
        ...

    def unused(self, key: str, number: int) -> None:
        """Give back requests of the rate."""
        ...

    async def reserve_more(self, key: str, claims: Sequence[Claim], more: int) -> Granted:
        """Do as `reserve`, and reserve up to `more` times as much again."""
        ...

    def settle_part(self, ticket: int, amounts: Mapping[str, Decimal], spent: Mapping[str, Decimal]) -> None:
        """Put what was spent in the place of a part of what was reserved."""
        ...


@dataclass(slots=True)
class _Lease:
    """What one ticket of the lessor has: `free` to be reserved, `spent` and not told of yet, by kind."""

    ticket: int
    free: dict[str, Decimal]
    spent: dict[str, Decimal]
    running: bool

    def has(self, claim: Claim) -> bool:
        """Whether it was granted for what is claimed, be that 0, and has enough of it."""
        return claim.kind in self.free and self.free[claim.kind] >= claim.amount


class Leased:
    """A `Limiter` over another process's, for one event loop."""

    def __init__(self, lessor: Lessor) -> None:
        self._lessor = lessor
        self._loop = asyncio.get_running_loop()
        self._admissions: dict[str, int] = {}
        self._leases: dict[str, _Lease] = {}
        self._tickets: dict[int, tuple[_Lease, dict[str, Decimal]]] = {}
        self._next = 0
        self._rates, self._budgets = _Pace(self._loop), _Pace(self._loop)

    async def admit(self, key: str, rate: Rate | None, concurrency: int | None) -> bool:
        """Take a permit, or a request taken beforehand; return whether it was a permit.

        Raises RateReached, ConcurrencyReached, StoreError.
        """
        if concurrency is not None or rate is None:
            return await self._lessor.admit(key, rate, concurrency)
        wanted = self._rates.count(key)
        if left := self._admissions.get(key, 0):
            self._admissions[key] = left - 1
            return False
        if wanted < FEWEST or key in self._admissions:
            await self._lessor.admit_more(key, rate, 0)
            return False
        self._admissions[key] = 0  # the others of this moment ask for themselves
        try:
            self._admissions[key] = await self._lessor.admit_more(key, rate, wanted)
        finally:
            self._loop.call_later(LEASE_SECONDS, self._end_admissions, key)
        return False

    def release(self, key: str) -> None:
        """Give a permit back."""
        self._lessor.release(key)

    async def reserve(self, key: str, claims: Sequence[Claim]) -> int:
        """Return a ticket; raises BudgetReached, StoreError."""
        wanted, lease = self._budgets.count(key), self._leases.get(key)
        if lease is None and wanted >= FEWEST:
            lease = await self._lease(key, claims, wanted)
        elif lease is None or not all(lease.has(claim) for claim in claims):
            lease = _Lease(await self._lessor.reserve(key, claims), {}, {}, False)
        else:
            for claim in claims:
                lease.free[claim.kind] -= claim.amount
        self._next += 1
        self._tickets[self._next] = lease, {claim.kind: claim.amount for claim in claims}
        return self._next

    def settle(self, ticket: int, spent: Mapping[str, Decimal]) -> None:
        """Tell what was spent: at once, or as soon as the lease ends that it was reserved from."""
        lease, amounts = self._tickets.pop(ticket, (None, {}))
        if lease is None:
            return
        if not lease.running:
            told = {kind: spent.get(kind, amount) for kind, amount in amounts.items()}
            self._lessor.settle_part(lease.ticket, amounts, told)
            return
        for kind, amount in amounts.items():
            took = spent.get(kind, amount)
            lease.spent[kind] = lease.spent.get(kind, NOTHING) + took
            lease.free[kind] = lease.free.get(kind, NOTHING) + amount - took

    def close(self) -> None:
        """Give back what is left."""
        for key in tuple(self._admissions):
            self._end_admissions(key)
        for key, lease in tuple(self._leases.items()):
            self._end_lease(key, lease)

    async def _lease(self, key: str, claims: Sequence[Claim], wanted: int) -> _Lease:
        lease = self._leases[key] = _Lease(0, {}, {}, True)  # the others of this moment ask for themselves
        self._loop.call_later(LEASE_SECONDS, self._end_lease, key, lease)
        try:
            granted = await self._lessor.reserve_more(key, claims, wanted)
        except BaseException:
            self._end_lease(key, lease)
            raise
        lease.ticket, lease.free = granted.ticket, dict(granted.more)
        if not lease.running:  # it took that long
            self._give_back(lease)
        return lease

    def _end_admissions(self, key: str) -> None:
        if left := self._admissions.pop(key, 0):
            self._lessor.unused(key, left)

    def _end_lease(self, key: str, lease: _Lease) -> None:
        """Requests under way are settled one by one from now on."""
        if self._leases.get(key) is lease:
            del self._leases[key]
            lease.running = False
            self._give_back(lease)

    def _give_back(self, lease: _Lease) -> None:
        """Give back what is free, and tell what was spent."""
        spent = {kind: lease.spent.get(kind, NOTHING) for kind in lease.free}
        if spent:
            amounts = {kind: lease.free[kind] + took for kind, took in spent.items()}
            self._lessor.settle_part(lease.ticket, amounts, spent)


class _Pace:
    """How many requests each key had within the LEASE_SECONDS before."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._counts: dict[str, tuple[float, int, int]] = {}

    def count(self, key: str) -> int:
        """Count one more, and return how many there were in the time before."""
        now = self._loop.time()
        since, number, before = self._counts.get(key, (now, 0, 0))
        if now - since >= LEASE_SECONDS:
            since, number, before = now, 0, number if now - since < 2 * LEASE_SECONDS else 0
        self._counts[key] = since, number + 1, before
        return before
