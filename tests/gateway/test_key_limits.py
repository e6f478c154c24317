"""Limits of keys: rates, requests at once, and budgets that are never overspent, whatever races or is killed."""

import asyncio
import socket
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from insource.backends.scripted import scripted_app
from insource.errors import BudgetReached, ConcurrencyReached, RateReached, StoreError, StoreFull
from insource.gateway.limits import Claim, Limits, until_next, window_of
from insource.gateway.limits_shared import LimitsClient, LimitsServer
from insource.store.spending import read_spending
from insource.types import Key
from insource.types import Limits as KeyLimits

NOW = datetime(2026, 11, 22, 23, 59, tzinfo=UTC)


def claim(amount, limit=10, kind="money", per="day"):
    return Claim(kind, "USD", Decimal(limit), per, Decimal(amount))


def kept(home, **more):
    now = [0.0]
    return Limits(home, lambda: more.get("time", NOW), lambda: now[0]), now


async def test_a_rate_holds_and_says_when_the_next_may_come(tmp_path):
    limits, now = kept(tmp_path)
    for _ in range(5):
        limits.admit("k", (5, 60.0), None)
    with pytest.raises(RateReached, match="5 requests in 60 s; 0 are left") as refused:
        limits.admit("k", (5, 60.0), None)
    assert refused.value.retry_after == pytest.approx(12.0)
    limits.admit("other", (5, 60.0), None)
    now[0] = 12.0
    limits.admit("k", (5, 60.0), None)
    with pytest.raises(RateReached):
        limits.admit("k", (5, 60.0), None)
    now[0] = 1e6  # never more than the bucket holds
    for _ in range(5):
        limits.admit("k", (5, 60.0), None)
    with pytest.raises(RateReached):
        limits.admit("k", (5, 60.0), None)


async def test_a_refusal_of_one_limit_takes_nothing_of_the_other(tmp_path):
    limits, _ = kept(tmp_path)
    session = limits.session()
    await session.admit("k", (2, 60.0), 1)
    for _ in range(3):
        with pytest.raises(ConcurrencyReached, match="at most 1 may be at once"):
            await session.admit("k", (2, 60.0), 1)
    session.release("k")
    session.release("k")  # once too often gives nothing back
    await session.admit("k", (2, 60.0), 1)
    assert limits._taken["k"] == 1


async def test_a_budget_is_reserved_first_and_settled_afterwards(tmp_path):
    limits, _ = kept(tmp_path)
    session = limits.session()
    ticket = await session.reserve("k", [claim(6), claim(100, 150, "tokens", "total")])
    with pytest.raises(
        BudgetReached, match="4 USD are left of this key's 10 a day; the request may take up to 6"
    ) as it:
        await session.reserve("k", [claim(6)])
    assert it.value.retry_after == 1.0  # others under way hold it
    session.settle(ticket, {"money": Decimal("0.5")})
    session.settle(ticket, {"money": Decimal(0)})  # a ticket counts once
    limits.close()
    spent = {("k", "money", "2026-11-22"): Decimal("0.5"), ("k", "tokens", "total"): Decimal(100)}
    assert read_spending(tmp_path) == spent  # what was not told of stays as it was reserved
    again, _ = kept(tmp_path)
    await again.reserve("k", [claim("9.5")])
    with pytest.raises(BudgetReached) as it:
        await again.reserve("k", [claim("10.1")])
    with pytest.raises(BudgetReached, match="50 USD are left of this key's 150 in total"):
        await again.reserve("k", [claim(51, 150, "tokens", "total")])
    later, _ = kept(tmp_path, time=datetime(2026, 11, 23, tzinfo=UTC))
    await later.reserve("k", [claim(10)])
    again.close()
    later.close()


async def test_what_cannot_be_written_is_not_reserved(tmp_path):
    limits, _ = kept(tmp_path)
    await limits.reserve("k", [claim(1)])

    async def full(amounts):
        raise StoreFull("no room")

    before, limits._spending.write = limits._spending.write, full
    with pytest.raises(StoreFull):
        await limits.reserve("k", [claim(9)])
    limits._spending.write = before
    await limits.reserve("k", [claim(9)])
    limits.close()


def test_windows_and_their_ends():
    assert [window_of(per, NOW) for per in ("day", "month", "total")] == ["2026-11-22", "2026-11", "total"]
    assert until_next("day", NOW) == 60.0
    assert until_next("month", NOW) == 8 * 86_400 + 60
    assert until_next("month", datetime(2026, 12, 31, tzinfo=UTC)) == 86_400


@asynccontextmanager
async def shared(limits, workers=1):
    server, clients = LimitsServer(limits), []
    for _ in range(workers):
        here, there = socket.socketpair()
        await server.serve(there)
        clients.append(await LimitsClient.connect(here))
    yield clients
    for client in clients:
        client.close()


async def test_the_last_unit_is_spent_once_by_all_workers_together(tmp_path):
    limits, _ = kept(tmp_path)
    async with shared(limits, 4) as clients:
        asked = [clients[n % 4].reserve("k", [claim("0.1", 1)]) for n in range(200)]
        found = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(one, int) for one in found) == 10
    assert all(isinstance(one, int | BudgetReached) for one in found)
    limits.close()
    assert read_spending(tmp_path) == {("k", "money", "2026-11-22"): Decimal(1)}


async def test_a_reservation_that_is_not_checked_where_it_is_kept_overspends(tmp_path):
    """The control: workers that each look for themselves, as a proxy does that writes what was spent later."""
    limits = [kept(tmp_path / str(n))[0] for n in range(4)]
    for one in limits:
        (tmp_path / str(limits.index(one))).mkdir()
    asked = [limits[n % 4].reserve("k", [claim("0.1", 1)]) for n in range(200)]
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(one, dict) for one in found) == 40
    for one in limits:
        one.close()


async def test_a_worker_that_dies_gives_its_permits_back_and_keeps_its_reservations_spent(tmp_path):
    limits, _ = kept(tmp_path)
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
    limits, _ = kept(tmp_path)
    async with shared(limits) as (client,):
        for asking in (client.admit("k", None, 1), client.reserve("k", [claim(6)])):
            job = asyncio.ensure_future(asking)
            await asyncio.sleep(0)
            job.cancel()
        while client._waiting or limits._taken["k"] or any(limits._held.values()):
            await asyncio.sleep(0.001)
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


def bearer(house, **limits):
    wanted = Key("", "app", datetime.now(UTC), "ada", limits=KeyLimits(**limits))
    return {"authorization": f"Bearer {house.registry.create_key(wanted, 'a test')[1]}"}


async def ask(client, headers, body):
    async with client.post("/v1/chat/completions", headers=headers, json=body) as reply:
        return reply.status, dict(reply.headers), await reply.json(content_type=None)


async def test_over_http_a_limit_is_429_with_what_is_left_and_when(house, chat):
    house.start()
    headers = bearer(house, rate=(2, 3_600.0))
    async with house.client() as client:
        told = [await ask(client, headers, chat("hello")) for _ in range(3)]
    assert [status for status, _, _ in told] == [200, 200, 429]
    _, sent, body = told[-1]
    assert body["error"]["code"] == "rate_reached" and "0 are left" in body["error"]["message"]
    assert 1_700 < int(sent["Retry-After"]) <= 1_800


async def test_a_request_is_settled_at_what_it_took(house, chat):
    house.start(upstream=scripted_app({"hello": "Hi, how can I help?"}))
    headers = bearer(house, money=(Decimal("0.01"), "day"), tokens=(100_000, "total"))
    async with house.client() as client:
        status, _, body = await ask(client, headers, chat("hello", system=None, max_tokens=50))
        assert status == 200
        usage = body["usage"]
        refused = await ask(client, headers, chat("hello", system=None))
        assert refused[0] == 400 and refused[2]["error"]["code"] == "cost_unknown"
        dear = await ask(client, headers, chat("hello", system=None, max_tokens=5_000))
        assert dear[0] == 429 and dear[2]["error"]["code"] == "budget_reached"
    house.stop()
    tokens = usage["prompt_tokens"] + usage["completion_tokens"]
    cost = (usage["prompt_tokens"] * Decimal(2) + usage["completion_tokens"] * Decimal(8)) / 1_000_000
    spent = {kind: amount for (_, kind, _), amount in read_spending(house.home).items()}
    assert spent == {"money": cost, "tokens": Decimal(tokens)}
    with house.reader() as reader:
        (row,) = reader.rows()  # what was refused was not decided
        assert row.settlement.cost == cost


@pytest.mark.parametrize(("status", "spent"), [(500, Decimal(0)), (200, None)])
async def test_an_upstreams_error_costs_nothing_and_a_reply_without_usage_what_was_reserved(house, chat, status, spent):
    house.start()
    house.raw.status = status
    headers = bearer(house, money=(Decimal(1), "day"))
    body = chat("hello", system=None, max_tokens=100)
    async with house.client() as client:
        assert (await ask(client, headers, body))[0] == status
    house.stop()
    (found,) = read_spending(house.home).values()
    assert found == spent if spent is not None else found > Decimal("0.0008")


async def test_an_answer_of_a_specialist_takes_nothing_of_a_budget(house, chat):
    house.promote(house.register())
    house.start()
    headers = bearer(house, money=(Decimal("0"), "total"))
    async with house.client() as client:
        assert (await ask(client, headers, chat("sure")))[0] == 200
        assert (await ask(client, headers, chat("unsure", max_tokens=1)))[0] == 429
    assert not house.raw.received
