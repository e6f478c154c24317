"""Workers that race for what is left of a key's budget, over sockets to its keeper: on lease, or request by request.

Two keepers are broken on purpose. It knows limits and their sockets; what a race proves, the promise says.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from msgspec.structs import replace

from insource.errors import InsourceError
from insource.gateway.budgets import Claim
from insource.gateway.limits import Limiter, LimitKeeper
from insource.gateway.limits_leased import LEASE_SECONDS, Leased
from insource.gateway.limits_shared import LimitsClient, LimitsServer
from insource.store.spending import FILE, Place, Spending

AT_ONCE = 200
WORKERS = 4
MOST = Decimal(1)
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
PLACE: Place = ("k", "money", "total")
LEASED_TIMES = 2_000
"""How many times as large a budget is that leases are granted of: they are of a thousandth of it each."""
LEFT = Decimal("0.12")
"""The share of such a budget that is left when a race begins; leases are granted until a tenth of it is."""
WAVES, MOST_WAVES = 2, 100
TRIES = 100


class Later(LimitKeeper):
    """A broken build: it looks at what was spent, and writes down what a request took when it is over."""

    def take(self, key: str, claims: Sequence[Claim]) -> dict[Place, Decimal]:
        """Look, and reserve nothing."""
        self._opened()
        places = {(key, claim.kind, claim.per): claim for claim in claims}
        for place, claim in places.items():
            self._check(place, claim, NOON)
            self._spent.setdefault(place, Decimal(0))
        return dict.fromkeys(places, Decimal(0))


class Unreserved(LimitKeeper):
    """The other broken build: of a lease it reserves the first request's part only."""

    def take(self, key: str, claims: Sequence[Claim]) -> dict[Place, Decimal]:
        """Reserve what one request may take."""
        return super().take(key, [replace(claim, amount=min(claim.amount, MOST)) for claim in claims])


class Worker:
    """One worker's end; `leased` of its requests asked nobody."""

    def __init__(self, client: LimitsClient, on_lease: bool) -> None:
        self.client = client
        self._limiter: Limiter = Leased(client) if on_lease else client
        self._asked = 0

    @property
    def leased(self) -> int:
        """How many were taken from what it had beforehand."""
        return self._asked - self.client._next

    async def ask(self, limit: Decimal, cost: Decimal, dies: bool = False) -> Decimal | None:
        """Return what a request took, None where it was refused; it may take MOST and takes `cost`."""
        self._asked += 1
        try:
            ticket = await self._limiter.reserve(PLACE[0], [Claim("money", "USD", limit, "total", MOST)])
        except InsourceError:  # the budget is reached; or its worker died, and nobody has heard of the reservation
            return None
        await asyncio.sleep(0)  # the upstream's turn
        if dies:
            self.client.close()
        else:
            self._limiter.settle(ticket, {"money": cost})
        return cost

    async def until_leased(self, limit: Decimal) -> None:
        """Ask for what costs nothing until a lease is granted, as it is to a worker that is busy."""
        for _ in range(TRIES):
            await asyncio.gather(*(self.ask(limit, Decimal(0)) for _ in range(AT_ONCE // WORKERS)))
            if self.leased:
                return
            await asyncio.sleep(LEASE_SECONDS / 4)


class Race:
    """One race for `left` of the budget `limit`; two keepers after one another, the second from what a kill left."""

    def __init__(self, case: int, home: Path, kind: type[LimitKeeper], on_lease: bool) -> None:
        self._chance = random.Random(case)
        self._home, self._kind, self._on_lease = home, kind, on_lease
        self.limit = MOST * (self._chance.randint(15, 20) * LEASED_TIMES if on_lease else self._chance.randint(1, 10))
        self.left = self.limit * LEFT if on_lease else self.limit
        self.spent = Decimal(0)
        self.granted = self.refused = self.leased = 0

    async def run(self) -> None:
        """Race over the first keeper, kill it, and over the second."""
        first, second = self._home / "first", self._home / "second"
        first.mkdir(parents=True)
        before = Spending.open(first)
        await before.write({PLACE: self.limit - self.left})
        before.close()
        killed = [await self._over(first, WAVES if self._on_lease else 1)]
        second.mkdir()
        for file in first.glob(f"{FILE}*"):  # what the system has of a process that was killed
            shutil.copy(file, second)
        killed.append(await self._over(second, MOST_WAVES if self._on_lease else 1))
        for limits in killed:  # only now: the first wrote nothing more before its file was taken
            limits.close()

    async def _over(self, home: Path, waves: int) -> LimitKeeper:
        """Have workers send waves of requests, until none is granted; one of them may die."""
        limits = self._kind(home, lambda: NOON)
        workers = await self._workers(LimitsServer(limits))
        if self._on_lease:
            await asyncio.gather(*(worker.until_leased(self.limit) for worker in workers))
        before = sum(worker.leased for worker in workers)
        dies = workers[self._chance.randrange(WORKERS)] if self._chance.random() < 0.5 else None
        for _ in range(waves):
            if not await self._wave(workers, dies):
                break
            if self._on_lease:  # what is settled is heard; what was taken from a lease is told at its end only
                await asyncio.gather(*(worker.ask(self.limit, Decimal(0)) for worker in workers))
        for worker in workers:
            worker.client.close()
        self.leased += sum(worker.leased for worker in workers) - before
        return limits

    async def _workers(self, server: LimitsServer) -> list[Worker]:
        workers = []
        for _ in range(WORKERS):
            here, there = socket.socketpair()
            await server.serve(there)
            workers.append(Worker(await LimitsClient.connect(here), self._on_lease))
        return workers

    async def _wave(self, workers: list[Worker], dies: Worker | None) -> int:
        """Send AT_ONCE requests at once; return how many were granted."""
        turns = [workers[number % WORKERS] for number in range(AT_ONCE)]
        least = 50 if self._on_lease else 1
        costs = [Decimal(self._chance.randint(least, 100)) / 100 for _ in turns]
        asked = [worker.ask(self.limit, cost, worker is dies) for worker, cost in zip(turns, costs, strict=True)]
        found = [cost for cost in await asyncio.gather(*asked) if cost is not None]
        self.spent += sum(found, Decimal(0))
        self.granted += len(found)
        self.refused += AT_ONCE - len(found)
        return len(found)
