"""Limits of keys: rates, requests at once, and budgets that are never overspent, whatever races or is killed."""

import asyncio
import json
import threading
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from insource.backends.scripted import scripted_app
from insource.cascade.choice import Choice
from insource.errors import BudgetReached, ConcurrencyReached, RateReached, StoreError, StoreFull
from insource.gateway.budgets import Claim, until_next, window_of
from insource.gateway.limits import LimitKeeper
from insource.gateway.recorder import Exchange, Recorder
from insource.gateway.taken import Taken
from insource.gateway.wire import read
from insource.store.spending import Spending, read_spending
from insource.types import Decision, Key, Limits, Outcome, Reason, Request

NOW = datetime(2026, 11, 22, 23, 59, tzinfo=UTC)


def claim(amount, limit=10, kind="money", per="day"):
    return Claim(kind, "USD", Decimal(limit), per, Decimal(amount))


def kept(home, **more):
    now = [0.0]
    return LimitKeeper(home, lambda: more.get("time", NOW), lambda: now[0]), now


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


class Failing(Spending):
    """The file of a disk that is full once."""

    def _commit(self, jobs):
        if not self.full.is_set():
            super()._commit(jobs)
            return
        for job in jobs:
            job.error = StoreFull("no room")
        self.full.clear()
        self.refused.set()


async def test_more_than_was_reserved_is_written_as_soon_as_there_is_room(tmp_path):
    limits, _ = kept(tmp_path)
    limits._spending = spending = Failing.open(tmp_path)
    spending.full, spending.refused = threading.Event(), threading.Event()
    session = limits.session()
    ticket = await session.reserve("k", [claim(1)])
    spending.full.set()
    session.settle(ticket, {"money": Decimal(3)})
    assert await asyncio.to_thread(spending.refused.wait, 30)
    limits.close()
    assert read_spending(tmp_path) == {("k", "money", "2026-11-22"): Decimal(3)}


async def test_what_cannot_be_written_says_where(tmp_path):
    spending = Spending.open(tmp_path)
    spending.close()
    with pytest.raises(StoreError, match="file of what keys spent is closed"):
        await spending.write({})


def test_windows_and_their_ends():
    assert [window_of(per, NOW) for per in ("day", "month", "total")] == ["2026-11-22", "2026-11", "total"]
    assert until_next("day", NOW) == 60.0
    assert until_next("month", NOW) == 8 * 86_400 + 60
    assert until_next("month", datetime(2026, 12, 31, tzinfo=UTC)) == 86_400


class Stuck:
    """A ledger in which nothing ever becomes durable."""

    failing = None

    async def append(self, *row, **more):
        await asyncio.Event().wait()


async def test_what_was_reserved_for_a_request_that_is_cancelled_before_it_is_on_record_goes_back(tmp_path, house):
    house.start()
    limits, _ = kept(tmp_path)
    session = limits.session()
    taken = Taken(session, await session.reserve("k", [claim(6)]))
    recorder = Recorder(Stuck(), house.gateway.metrics, house.parts)
    decision = Decision("r", NOW, Outcome.ESCALATED, Reason.NO_TASK)
    exchange = Exchange(Request("r", ()), None, {}, Choice(decision), 0.0, taken=taken)
    job = asyncio.ensure_future(recorder.decided(exchange))
    await asyncio.sleep(0)
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    await session.reserve("k", [claim(10)])
    limits.close()


async def test_a_request_is_priced_by_the_configuration_that_serves_it(tmp_path, house):
    house.start()
    before = house.gateway.config
    main = before.upstreams["main"]
    house.gateway.generation.config = replace(before, upstreams={"other": replace(main, name="other")})  # reloaded
    wanted = Key("k", "k", NOW, "ada", limits=Limits(tokens=(1_000, "total")))
    body = b'{"model":"m","max_tokens":10,"messages":[{"role":"user","content":"hello"}]}'
    request = replace(read("chat", "r", body, {}, "/v1/chat/completions"), key=wanted)
    choice = Choice(Decision("r", NOW, Outcome.ESCALATED, Reason.NO_TASK))
    assert await house.gateway.reserve(before, request, None, choice) is not None
    house.stop()
    assert read_spending(house.home) == {("k", "tokens", "total"): Decimal(len(body) + 10)}


def bearer(house, **limits):
    wanted = Key("", "app", datetime.now(UTC), "ada", limits=Limits(**limits))
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


async def test_an_upstreams_error_after_another_attempt_takes_what_was_reserved(house, chat):
    house.start(retries=1)
    house.raw.status = 500
    headers = bearer(house, money=(Decimal(1), "day"))
    async with house.client() as client:
        assert (await ask(client, headers, chat("hello", system=None, max_tokens=100)))[0] == 500
    house.stop()
    (found,) = read_spending(house.home).values()
    assert len(house.raw.received) == 2 and found > Decimal("0.0008")


@pytest.mark.parametrize("thoughts", [0, 3])
async def test_a_stream_that_breaks_off_takes_what_was_reserved(house, thoughts):
    house.start()
    house.raw.headers = [(b"content-type", b"text/event-stream")]
    events = [{"type": "message_start", "message": {"content": [], "usage": {"input_tokens": 10, "output_tokens": 1}}}]
    events += [{"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "word"}}] * thoughts
    house.raw.chunks = [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events]
    headers = bearer(house, tokens=(100_000, "total"))
    body = {"model": "m", "max_tokens": 5_000, "stream": True, "messages": [{"role": "user", "content": "hello"}]}
    async with house.client() as client, client.post("/v1/messages", headers=headers, json=body) as reply:
        await reply.read()
    house.stop()
    (found,) = read_spending(house.home).values()
    assert found > 5_000


async def test_an_answer_of_a_specialist_takes_nothing_of_a_budget(house, chat):
    house.promote(house.register())
    house.start()
    headers = bearer(house, money=(Decimal("0"), "total"))
    async with house.client() as client:
        assert (await ask(client, headers, chat("sure")))[0] == 200
        assert (await ask(client, headers, chat("unsure", max_tokens=1)))[0] == 429
    assert not house.raw.received
