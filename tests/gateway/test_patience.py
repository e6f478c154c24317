"""A slow store: given up in time, left alone after five times, tried again; one that fails quickly is not slow."""

import asyncio

import pytest

from insource.errors import StoreError, StoreFull
from insource.gateway.patience import Patience, TimelyLedger
from insource.policy.breaker import Breaker


class Clock:
    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


class Ledger:
    """Never confirms while it hangs."""

    def __init__(self):
        self.hangs, self.rows = True, []

    async def append(self, decision, content=None, *, keep_text=False):
        self.rows.append((decision, content, keep_text))
        if self.hangs:
            await asyncio.Event().wait()


@pytest.fixture
def clock():
    return Clock()


def timely(ledger, clock, failures=5):
    return TimelyLedger(ledger, Patience("ledger", 0.001, Breaker(failures, 10.0, clock)))


async def five_times(ledger):
    for _ in range(5):
        with pytest.raises(StoreError, match="had not answered after"):
            await ledger.append("decision")


async def test_a_slow_ledger_is_given_up_then_left_alone_then_tried_again(clock):
    slow = Ledger()
    ledger = timely(slow, clock)
    await five_times(ledger)
    with pytest.raises(StoreError, match="left alone"):
        await ledger.append("decision")
    assert len(slow.rows) == 5
    clock.seconds, slow.hangs = 10.0, False
    await ledger.append("decision", "content", keep_text=True)
    assert slow.rows[-1] == ("decision", "content", True)
    await ledger.append("decision")


async def test_control_without_a_breaker_every_request_waits(clock):
    slow = Ledger()
    ledger = timely(slow, clock, failures=1_000)
    await five_times(ledger)
    with pytest.raises(StoreError, match="had not answered after"):
        await ledger.append("decision")
    assert len(slow.rows) == 6


@pytest.mark.parametrize("error", [StoreFull("full"), TimeoutError("its own")])
async def test_an_error_that_comes_in_time_is_no_slowness(clock, error):
    async def fails():
        raise error

    breaker = Breaker(1, 10.0, clock)
    with pytest.raises(type(error)) as raised:
        await Patience("registry", 60.0, breaker).call(fails)
    assert raised.value is error and breaker.state == "closed"


async def test_a_caller_that_leaves_is_no_slowness(clock):
    breaker = Breaker(1, 10.0, clock)
    job = asyncio.ensure_future(Patience("registry", 60.0, breaker).call(asyncio.Event().wait))
    await asyncio.sleep(0)
    job.cancel()
    (left,) = await asyncio.gather(job, return_exceptions=True)
    assert isinstance(left, asyncio.CancelledError) and breaker.state == "closed"


async def test_of_many_calls_only_the_late_ones_are_given_up():
    patience, done = Patience("ledger", 0.02), asyncio.Event()
    late = asyncio.ensure_future(patience.call(asyncio.Event().wait))
    await asyncio.sleep(0.01)
    soon = asyncio.ensure_future(patience.call(done.wait))
    with pytest.raises(StoreError, match="had not answered after"):
        await late
    done.set()
    assert await soon is True and late.cancelling() == 0


async def test_a_caller_that_leaves_at_the_very_moment_is_cancelled_and_the_store_was_slow():
    breaker = Breaker(1, 10.0)
    patience = Patience("ledger", 0.005, breaker)
    job = asyncio.ensure_future(patience.call(asyncio.Event().wait))
    await asyncio.sleep(0)
    patience._timer.cancel()
    await asyncio.sleep(0.01)
    job.cancel()
    patience._give_up()
    with pytest.raises(asyncio.CancelledError):
        await job
    assert breaker.state == "open"
