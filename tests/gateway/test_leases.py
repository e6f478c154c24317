"""Limits on lease: workers that take beforehand overspend nothing, and the file is ahead of every reservation."""

import asyncio
import random
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from insource.errors import BudgetReached, InsourceError, RateReached, StoreFull
from insource.gateway import limits_leased
from insource.gateway.budgets import AHEAD, Claim
from insource.gateway.limits import LEASED, LimitKeeper
from insource.gateway.limits_leased import FEWEST, Leased
from insource.store.spending import read_spending
from tests.gateway.sharing import shared

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
PLACE = ("k", "money", "total")


def claim(amount, limit, per="total"):
    return Claim("money", "USD", Decimal(limit), per, Decimal(amount))


@asynccontextmanager
async def leased(limits, workers=1):
    """Workers with leases that last until they are ended by hand."""
    async with shared(limits, workers) as lessors:
        yield [Leased(lessor) for lessor in lessors], lessors


@pytest.fixture
def lasting(monkeypatch):
    monkeypatch.setattr(limits_leased, "LEASE_SECONDS", 0.02)


async def busy(worker, key="k", limit=1_000_000):
    """Have the worker find that a key is much used, and return tickets of the requests that it took for that."""
    tickets = []
    while not any(lease.free for lease in worker._leases.values()):
        tickets += [await worker.reserve(key, [claim(1, limit)]) for _ in range(FEWEST)]
        await asyncio.sleep(0.005)
    return tickets


async def heard(lessor):
    """Return once all that was said before has been heard."""
    await lessor.admit("other", None, None)


async def test_a_busy_worker_asks_once_for_many_and_settles_in_one(tmp_path, lasting):
    limits = LimitKeeper(tmp_path, lambda: NOON)
    async with leased(limits) as ((worker,), (lessor,)):
        tickets = await busy(worker)
        asked = lessor._next
        (lease,) = worker._leases.values()
        held = dict(lease.free)
        tickets += [await worker.reserve("k", [claim(1, 1_000_000)]) for _ in range(3)]
        assert lessor._next == asked and lease.free["money"] == held["money"] - 3
        for ticket in tickets:
            worker.settle(ticket, {"money": Decimal("0.25")})
            worker.settle(ticket, {"money": Decimal(9)})  # a ticket counts once
        worker.close()
        await heard(lessor)
        assert limits._spent[PLACE] == len(tickets) * Decimal("0.25") and not limits._held[PLACE]
    limits.close()
    assert read_spending(tmp_path) == {PLACE: len(tickets) * Decimal("0.25")}


async def test_what_costs_nothing_is_reserved_while_a_lease_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(limits_leased, "LEASE_SECONDS", 60.0)
    limits, free = LimitKeeper(tmp_path, lambda: NOON), [claim(0, 10)]
    async with leased(limits) as ((worker,), (lessor,)):
        worker._budgets._counts["k"] = (asyncio.get_running_loop().time(), 0, 100)
        tickets = await asyncio.gather(*(worker.reserve("k", free) for _ in range(3)))
        asked = lessor._next
        tickets.append(await worker.reserve("k", free))
        assert asked == lessor._next == 3 and len(worker._leases) == 1  # the last was taken from the lease
        for ticket in tickets:
            worker.settle(ticket, {"money": Decimal(0)})
        worker.close()
        await heard(lessor)
        assert not limits._spent[PLACE] and not limits._held[PLACE]
    limits.close()


async def test_what_ends_after_its_lease_is_settled_by_itself(tmp_path, lasting):
    limits = LimitKeeper(tmp_path, lambda: NOON)
    async with leased(limits) as ((worker,), (lessor,)):
        tickets = await busy(worker)
        while worker._leases:
            await asyncio.sleep(0.005)
        await heard(lessor)
        assert limits._held[PLACE] == len(tickets)  # what was not needed is given back, what is under way is held
        worker.settle(tickets[0], {})  # nobody knows what it took
        worker.settle(tickets[1], {"money": Decimal(3)})
        for ticket in tickets[2:]:
            worker.settle(ticket, {"money": Decimal(0)})
        await heard(lessor)
        assert limits._spent[PLACE] == 4 and not limits._held[PLACE]
    limits.close()


async def test_a_worker_that_dies_spends_at_most_its_lease(tmp_path, lasting):
    limits = LimitKeeper(tmp_path, lambda: NOON)
    async with leased(limits) as ((worker,), (lessor,)):
        tickets = await busy(worker)
        lessor.close()
        while limits._held[PLACE]:
            await asyncio.sleep(0)
        assert len(tickets) < limits._spent[PLACE] <= len(tickets) + 1_000_000 * AHEAD
    limits.close()


@pytest.mark.parametrize("broken", [False, True])
async def test_racing_workers_on_lease_overspend_nothing(tmp_path, lasting, monkeypatch, broken):
    """The control grants a lease without reserving it."""
    if broken:
        monkeypatch.setattr("insource.gateway.limits.replace", lambda claim, amount: claim)
    limits, chance, took = LimitKeeper(tmp_path, lambda: NOON), random.Random(6), [Decimal(0)]
    limit = 2_000

    async def caller(worker):
        refused = 0
        while refused < 3:
            try:
                ticket = await worker.reserve("k", [claim(1, limit)])
            except BudgetReached:
                refused += 1
                await asyncio.sleep(0.02)
                continue
            await asyncio.sleep(0)
            spent = Decimal(chance.randint(50, 100)) / 100
            took[0] += spent
            worker.settle(ticket, {"money": spent})

    async with leased(limits, 3) as (workers, lessors):
        await asyncio.gather(*(caller(worker) for worker in workers for _ in range(10)))
        for worker in workers:
            worker.close()
        for lessor in lessors:
            await heard(lessor)
        if broken:
            assert took[0] > limit or limits._spent[PLACE] != took[0]
        else:
            assert limit - 1 < took[0] <= limit and limits._spent[PLACE] == took[0]
    limits.close()
    if not broken:
        assert read_spending(tmp_path) == {PLACE: took[0]}


async def test_a_file_that_cannot_be_ahead_refuses(tmp_path):
    limits = LimitKeeper(tmp_path, lambda: NOON)
    await limits.reserve("k", [claim(1, 1_000)])

    async def full(amounts):
        raise StoreFull("no room")

    write, limits._spending.write = limits._spending.write, full
    await limits.reserve("k", [claim(1, 1_000)])  # it is ahead of this one
    async with leased(limits) as ((worker,), _):
        with pytest.raises(StoreFull):
            await worker.reserve("k", [claim(1, 1_000)])
    limits._spending.write = write
    assert limits._spent[PLACE] == 2
    limits.close()


async def test_a_rate_on_lease_holds_and_what_is_not_used_goes_back(tmp_path, lasting):
    now = [0.0]
    limits, rate = LimitKeeper(tmp_path, lambda: NOON, lambda: now[0]), (1_000, 60.0)
    async with leased(limits, 2) as (workers, lessors):
        let_in, asked = 0, 0
        while not workers[0]._admissions.get("k"):
            for _ in range(FEWEST):
                await workers[0].admit("k", rate, None)
                let_in, asked = let_in + 1, lessors[0]._next
            await asyncio.sleep(0.005)
        left = workers[0]._admissions["k"]
        assert 0 < left <= 1_000 * LEASED
        await workers[0].admit("k", rate, None)
        let_in += 1
        assert lessors[0]._next == asked and workers[0]._admissions["k"] == left - 1
        workers[0].close()
        await heard(lessors[0])
        assert limits._buckets["k"][0] == 1_000 - let_in
        with pytest.raises(RateReached, match="0 are left"):
            while True:
                await workers[let_in % 2].admit("k", rate, None)
                let_in += 1
        for worker in workers:
            worker.close()
        while True:
            try:
                await lessors[0].admit("k", rate, None)
                let_in += 1
            except InsourceError:
                break
        assert let_in <= 1_000
        now[0] = 1e6
        for _ in range(2):
            await lessors[0].admit("k", rate, None)
        assert limits._buckets["k"][0] == 998  # never more than the bucket holds


async def test_permits_are_counted_where_requests_at_once_are_bounded(tmp_path):
    limits = LimitKeeper(tmp_path, lambda: NOON)
    async with leased(limits) as ((worker,), (lessor,)):
        assert not await worker.admit("k", (100, 1.0), None)
        worker.release("k")
        assert await worker.admit("k", (100, 1.0), 2) and await worker.admit("k", None, 2)
        assert limits._taken["k"] == 2
        worker.release("k")
        await heard(lessor)
        assert limits._taken["k"] == 1


async def test_a_lease_that_comes_too_late_is_given_back(tmp_path, monkeypatch):
    monkeypatch.setattr(limits_leased, "LEASE_SECONDS", 0.02)
    limits = LimitKeeper(tmp_path, lambda: NOON)
    async with leased(limits) as ((worker,), (lessor,)):
        for _ in range(2):
            worker._budgets._counts["k"] = (asyncio.get_running_loop().time(), 0, 100)
            asking = asyncio.ensure_future(worker.reserve("k", [claim(1, 1_000_000)]))
            await asyncio.sleep(0)
            worker.close()  # as its end would
            ticket = await asking
            await heard(lessor)
            assert limits._held[PLACE] == 1
            worker.settle(ticket, {"money": Decimal(0)})
            await heard(lessor)
            assert not limits._held[PLACE] and not limits._spent[PLACE]
            worker._budgets._counts["k"] = (asyncio.get_running_loop().time(), 0, 100)
            asking = asyncio.ensure_future(worker.reserve("k", [claim(1, 1_000_000)]))
            await asyncio.sleep(0)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            while lessor._waiting:
                await asyncio.sleep(0)
            await heard(lessor)
            assert not limits._held[PLACE] and not worker._leases
    limits.close()
