"""The companion process: started again when it dies, sooner or later; ended with the gateway; never its failure."""

import asyncio
import sys

import pytest

from insource.gateway.companion import Companion

SLEEPS = (sys.executable, "-c", "import time; time.sleep(600)")
DIES = (sys.executable, "-c", "raise SystemExit(7)")


class Watched:
    """A companion with what it told, and the pauses that it asked for."""

    def __init__(self, command, pauses=0.0):
        self.stop, self.ended, self.asked = asyncio.Event(), [], []
        self.some = asyncio.Event()

        def after(quick):
            self.asked.append(quick)
            return pauses

        def ended(pid, how):
            self.ended.append(how)
            self.some.set()

        self.companion = Companion(command, {}, name="steward", stop=self.stop, after=after, steady=1e9, ended=ended)


async def test_one_that_dies_is_started_again_and_later_each_time():
    watched = Watched(DIES)
    job = asyncio.ensure_future(watched.companion.run())
    async with asyncio.timeout(60):
        while len(watched.asked) < 3:
            watched.some.clear()
            await watched.some.wait()
    watched.stop.set()
    await job
    assert watched.asked[:3] == [1, 2, 3]
    assert set(watched.ended) == {"exit code 7"}


async def test_it_is_ended_with_the_gateway_even_in_a_pause():
    for command, pause in ((SLEEPS, 0.0), (DIES, 1e6)):
        watched = Watched(command, pause)
        job = asyncio.ensure_future(watched.companion.run())
        if command is DIES:
            await watched.some.wait()
        else:
            await asyncio.sleep(0)
        watched.stop.set()
        async with asyncio.timeout(60):
            await job


async def test_told_to_begin_again_it_does_so_at_once_and_nobody_hears_of_a_death():
    watched = Watched(SLEEPS)
    job = asyncio.ensure_future(watched.companion.run())
    async with asyncio.timeout(60):
        while watched.companion._process is None:
            await asyncio.sleep(0)
        first = watched.companion._process
        watched.companion.again()
        while watched.companion._process is first:
            await asyncio.sleep(0)
    watched.stop.set()
    await job
    assert watched.ended == [] and watched.asked == []


@pytest.mark.parametrize("command", [(), ("/nonexistent/command",)])
async def test_without_one_that_can_be_started_the_gateway_goes_on(command):
    watched = Watched(command, 1e6)
    job = asyncio.ensure_future(watched.companion.run())
    if command:
        await watched.some.wait()
        assert "cannot be started" in watched.ended[0] or "not started" in watched.ended[0]
        watched.stop.set()
    async with asyncio.timeout(60):
        await job
