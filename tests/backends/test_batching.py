"""Requests that arrive together share a queue and its threads; no one waits for another's text, error or absence."""

import asyncio
import gc
import threading

import numpy as np
import pytest

from insource.answers import learn_answers
from insource.backends import batching
from insource.backends.batching import Batcher
from insource.backends.specialist import Specialist
from insource.inputs import InputSettings
from insource.types import Message, Request

LONG = 30.0


class Gate:
    """Work that tells when it started and ends when it is let through."""

    def __init__(self):
        self.open = threading.Event()
        self.started = threading.Semaphore(0)
        self.seen = []

    def __call__(self, item):
        self.seen.append(item)
        self.started.release()
        assert self.open.wait(LONG)
        return item

    async def until_started(self, count=1):
        for _ in range(count):
            assert await asyncio.to_thread(self.started.acquire, timeout=LONG)


@pytest.fixture
def gate():
    made = Gate()
    yield made
    made.open.set()


@pytest.fixture
def batcher():
    made = Batcher(2)
    yield made
    made.close()


async def test_each_gets_its_own_result(batcher):
    assert await asyncio.gather(*(batcher.run(str, number) for number in range(200))) == [str(n) for n in range(200)]
    assert batcher.waiting == 0


async def test_a_lone_item_goes_at_once(batcher, gate):
    job = asyncio.ensure_future(batcher.run(gate, "only"))
    await gate.until_started()
    assert batcher.waiting == 0
    gate.open.set()
    assert await job == "only"


@pytest.mark.parametrize("threads", [1, 2])
async def test_no_more_than_its_threads_compute_at_once_and_first_come_is_first_served(gate, threads):
    batcher = Batcher(threads)
    jobs = [asyncio.ensure_future(batcher.run(gate, number)) for number in range(10)]
    await gate.until_started(threads)
    assert batcher.waiting == 10 - threads
    gate.open.set()
    assert await asyncio.gather(*jobs) == list(range(10))
    assert sorted(gate.seen) == list(range(10)) and (threads > 1 or gate.seen == list(range(10)))
    batcher.close()


async def test_nobody_waits_for_a_long_text_of_another(batcher, gate):
    long = asyncio.ensure_future(batcher.run(gate, "long"))
    await gate.until_started()
    assert await asyncio.gather(*(batcher.run(str, n) for n in range(50))) == [str(n) for n in range(50)]
    assert not long.done()
    gate.open.set()
    assert await long == "long"


async def test_with_a_single_thread_they_would(gate):
    """The test above with its guard broken."""
    batcher = Batcher(1)
    jobs = [asyncio.ensure_future(batcher.run(work, 0)) for work in (gate, *[str] * 50)]
    await gate.until_started()
    assert batcher.waiting == 50 and not any(job.done() for job in jobs)
    gate.open.set()
    await asyncio.gather(*jobs)
    batcher.close()


class Unheeding(batching._Waiting):
    """The guard broken on purpose: computes for those who have gone as well."""

    __slots__ = ()

    def compute(self):
        self.work(self.item)
        super().compute()


@pytest.mark.parametrize("kind", [batching._Waiting, pytest.param(Unheeding, marks=pytest.mark.xfail(strict=True))])
async def test_what_nobody_waits_for_is_not_computed(gate, kind):
    class Putting(Batcher):
        def _put(self, waiting):
            super()._put(kind(waiting.work, waiting.item, waiting.future, waiting.loop))

    batcher, computed = Putting(1), []
    busy = asyncio.ensure_future(batcher.run(gate, "busy"))
    await gate.until_started()
    jobs = [asyncio.ensure_future(batcher.run(computed.append, number)) for number in range(6)]
    await asyncio.sleep(0)
    for job in jobs[::2]:
        job.cancel()
    gate.open.set()
    await asyncio.gather(busy, *jobs, return_exceptions=True)
    await batcher.run(str, "all done before this")
    batcher.close()
    assert computed == [1, 3, 5]


@pytest.mark.parametrize("error", [ValueError("no"), KeyError("k"), SystemExit(3), MemoryError()])
async def test_an_error_is_its_own_items_alone(batcher, error):
    def work(item):
        if item == 3:
            raise error
        return item

    async def caught(item):
        try:
            return await batcher.run(work, item)
        except BaseException as raised:
            return raised

    assert [await caught(number) for number in range(6)] == [0, 1, 2, error, 4, 5]


async def test_what_no_future_can_carry_is_still_told(batcher):
    with pytest.raises(RuntimeError, match="StopIteration"):
        await batcher.run(lambda _: next(iter(())), None)


async def test_threads_are_reused_and_end_with_the_batcher():
    batcher, threads = Batcher(2), set()
    for _ in range(5):
        await asyncio.gather(*(batcher.run(lambda _: threads.add(threading.current_thread()), n) for n in range(40)))
    assert 1 <= len(threads) <= 2
    del batcher
    gc.collect()
    for thread in threads:
        await asyncio.to_thread(thread.join, LONG)
        assert not thread.is_alive()


async def test_closing_finishes_what_waits_and_a_later_item_starts_anew(batcher, gate):
    jobs = [asyncio.ensure_future(batcher.run(gate, number)) for number in range(5)]
    await gate.until_started(2)
    batcher.close()
    gate.open.set()
    assert await asyncio.gather(*jobs) == list(range(5))
    assert await batcher.run(str, 7) == "7"


def test_a_loop_that_closed_meanwhile_harms_nobody(gate):
    batcher = Batcher(1)

    async def leave():
        job = asyncio.ensure_future(batcher.run(gate, "left behind"))
        await gate.until_started()
        job.cancel()

    async def later():
        return await batcher.run(str, "next")

    asyncio.run(leave())
    gate.open.set()
    assert asyncio.run(later()) == "next"
    batcher.close()


class Recording:
    """An engine of two answers that notes its threads, and cannot read one text."""

    inline = False

    def __init__(self):
        self.threads = set()
        self.both = threading.Barrier(2)

    def probabilities(self, text):
        self.threads.add(threading.get_ident())
        if text.startswith("meet"):
            self.both.wait(LONG)
        if text == "bad":
            raise ValueError("a text that the engine cannot read")
        return np.array([0.2, 0.8]) if text.endswith("1") else np.array([0.8, 0.2])


class Top:
    """Scores by the top probability."""

    def score_one(self, probabilities):
        return float(probabilities.max())


def asking(text):
    return Request(text, (Message("user", text),))


@pytest.fixture
def specialist():
    engine = Recording()
    made = Specialist("triage@1", engine, Top(), learn_answers(["a", "b"] * 20), InputSettings(), None)
    made._batcher = Batcher(2)  # two also where the machine has a single core
    return made, engine


async def test_requests_to_a_specialist_are_computed_side_by_side(specialist):
    """Two texts that wait for each other: one thread alone, or a queue behind a barrier, would never end."""
    made, engine = specialist
    async with made:
        answers = await asyncio.gather(*(made.answer(asking(f"meet {n % 2}")) for n in range(20)))
    assert [answer.label for answer in answers] == ["b" if n % 2 else "a" for n in range(20)]
    assert len(engine.threads) == 2 and threading.get_ident() not in engine.threads


async def test_one_bad_text_fails_alone(specialist):
    made, _ = specialist
    async with made:
        texts = ["x 0", "bad", "x 1"]
        first, second, third = await asyncio.gather(*(made.answer(asking(t)) for t in texts), return_exceptions=True)
    assert (first.label, third.label) == ("a", "b") and isinstance(second, ValueError)
