"""Limits at both ends of a socket: shared by all workers, given back by those that die or are not waited for."""

import asyncio
import socket
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from insource.errors import BudgetReached, ConcurrencyReached, StoreError
from insource.gateway.budgets import Claim
from insource.gateway.limits import LimitKeeper
from insource.gateway.limits_leased import Leased
from insource.gateway.limits_shared import LimitsClient
from insource.store.spending import read_spending
from insource.types import Key, Limits
from tests.gateway.sharing import shared

NOW = datetime(2026, 11, 22, 23, 59, tzinfo=UTC)


def claim(amount, limit=10):
    return Claim("money", "USD", Decimal(limit), "day", Decimal(amount))


def kept(home):
    return LimitKeeper(home, lambda: NOW, lambda: 0.0)


async def test_the_last_unit_is_spent_once_by_all_workers_together(tmp_path):
    limits = kept(tmp_path)
    async with shared(limits, 4) as clients:
        asked = [clients[n % 4].reserve("k", [claim("0.1", 1)]) for n in range(200)]
        found = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(one, int) for one in found) == 10
    assert all(isinstance(one, int | BudgetReached) for one in found)
    limits.close()
    assert read_spending(tmp_path) == {("k", "money", "2026-11-22"): Decimal(1)}


async def test_keepers_that_do_not_know_of_each_other_each_spend_the_budget(tmp_path):
    """Why all workers share one keeper: with one for each, four spend it four times."""
    limits = [kept(tmp_path / str(n)) for n in range(4)]
    for one in limits:
        (tmp_path / str(limits.index(one))).mkdir()
    asked = [limits[n % 4].reserve("k", [claim("0.1", 1)]) for n in range(200)]
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(one, dict) for one in found) == 40
    for one in limits:
        one.close()


async def test_a_worker_that_dies_gives_its_permits_back_and_keeps_its_reservations_spent(tmp_path):
    limits = kept(tmp_path)
    async with shared(limits, 2) as (one, other):
        await one.admit("k", None, 1)
        await one.reserve("k", [claim(6)])
        with pytest.raises(ConcurrencyReached):
            await other.admit("k", None, 1)
        one.close()
        while limits._taken["k"]:
            await asyncio.sleep(0)
        await other.admit("k", None, 1)
        with pytest.raises(BudgetReached) as refused:
            await other.reserve("k", [claim(6)])
        assert refused.value.retry_after == 60.0  # nobody holds it any more: it is spent
    limits.close()


async def test_what_nobody_waits_for_any_more_goes_back(tmp_path):
    limits = kept(tmp_path)
    async with shared(limits) as (client,):
        for asking in (client.admit("k", None, 1), client.reserve("k", [claim(6)])):
            job = asyncio.ensure_future(asking)
            await asyncio.sleep(0)
            job.cancel()
        while client._waiting or limits._taken["k"] or any(limits._held.values()):
            await asyncio.sleep(0.001)
        await client.reserve("k", [claim(10)])
    limits.close()


RATE = (6_400, 60.0)
ASKED = {
    "admit": lambda client: client.admit("k", None, 1),
    "admit at a rate": lambda client: client.admit("k", RATE, 2),
    "admit many": lambda client: client.admit_more("k", RATE, 50),
    "reserve": lambda client: client.reserve("k", [claim(6)]),
}


@pytest.mark.parametrize("what", ["admit at a rate", "admit many"])
async def test_requests_of_a_rate_that_nobody_waits_for_go_back_and_no_permit_of_another(tmp_path, what):
    limits = kept(tmp_path)
    async with shared(limits) as (client,):
        await client.admit("k", RATE, 2)
        job = asyncio.ensure_future(ASKED[what](client))
        await asyncio.sleep(0)
        job.cancel()
        while client._waiting:
            await asyncio.sleep(0.001)
        await client.admit("other", None, None)  # what was sent before has been heard by then
        assert limits._buckets["k"][0] == 6_399 and limits._taken["k"] == 1


async def test_what_cannot_be_given_back_is_logged_and_answers_nobody(tmp_path, caplog):
    limits = kept(tmp_path)
    async with shared(limits) as (client,):
        client.unused("unknown", 1)
        await client.admit("k", None, 1)
        assert limits._taken["k"] == 1 and "limits could not be given back or settled" in caplog.text


@pytest.mark.parametrize("what", ASKED)
async def test_what_arrives_just_before_its_request_is_cancelled_goes_back(tmp_path, what):
    limits = kept(tmp_path)
    async with shared(limits) as (client,):
        job, arrived = asyncio.ensure_future(ASKED[what](client)), client._told

        def told(body):
            arrived(body)
            job.cancel()  # the answer is there, and whoever waits has not run yet

        client._link._told = told
        with pytest.raises(asyncio.CancelledError):
            await job
        client._link._told = arrived
        await client.admit("other", None, None)  # what was sent before has been heard by then
        assert not limits._taken["k"] and not any(limits._held.values())
        assert limits._buckets.get("k", RATE)[0] == 6_400
        await client.reserve("k", [claim(10)])
    limits.close()


async def test_without_the_process_that_keeps_them_nothing_is_admitted(tmp_path):
    here, there = socket.socketpair()
    client = await LimitsClient.connect(here)
    waiting = asyncio.ensure_future(client.admit("k", None, 1))
    await asyncio.sleep(0)
    there.close()
    for asked in (waiting, client.reserve("k", [claim(1)])):
        with pytest.raises(StoreError, match="is gone"):
            await asked


@pytest.mark.parametrize("workers", [False, True])
async def test_a_bound_that_a_reload_sets_is_not_widened_by_requests_let_in_before_it(tmp_path, house, workers):
    """`workers`: over a socket and on lease, as a worker asks the supervisor."""
    limits = kept(tmp_path)
    house.start()
    gateway, key = house.gateway, Key("k", "k", NOW, "ada", limits=Limits(rate=(100_000, 60.0)))
    async with shared(limits) as (client,):
        gateway._limits = Leased(client) if workers else limits.session()
        before = [gateway.admitted(key) for _ in range(3)]
        for one in before:
            await one.__aenter__()
        config = gateway.config
        gateway.generation.config = replace(config, gateway=replace(config.gateway, key_concurrency=2))
        after = [gateway.admitted(key) for _ in range(2)]
        for one in after:
            await one.__aenter__()
        for one in before:
            await one.__aexit__(None, None, None)
        with pytest.raises(ConcurrencyReached, match="at most 2"):
            async with gateway.admitted(key):
                pass
        for one in after:
            await one.__aexit__(None, None, None)
        async with gateway.admitted(key):
            assert limits._taken["k"] == 1
        await client.admit("other", None, None)
        assert not limits._taken["k"]
