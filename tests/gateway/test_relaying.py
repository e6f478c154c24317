"""What a relay costs the loop, and what it counts of the upstreams it asks."""

import asyncio

from insource.backends.reply import ReplyReader
from insource.gateway.relaying import SLICE_BYTES, read_along

TINY = b'data: {"choices":[]}\n\n' * 4_000
EVENTS = [("content-type", "text/event-stream")]


async def turns_beside(reading):
    """How often another job gets its turn while something is read."""
    turns, done = 0, False

    async def beside():
        nonlocal turns
        while not done:
            turns += 1
            await asyncio.sleep(0)

    job = asyncio.ensure_future(beside())
    await asyncio.sleep(0)
    before = turns
    await reading
    seen, done = turns - before, True
    await job
    return seen


async def test_a_long_chunk_of_short_events_lets_others_have_their_turn():
    reader = ReplyReader(200, EVENTS)
    assert await turns_beside(read_along(reader, TINY)) >= len(TINY) // SLICE_BYTES


async def test_control_read_at_once_it_lets_nobody():
    async def at_once():
        ReplyReader(200, EVENTS).feed(TINY)

    assert await turns_beside(at_once()) == 0


async def test_slices_read_as_the_whole_does_wherever_they_cut():
    text = b"".join(b'data: {"choices":[{"index":0,"delta":{"content":"%d,"}}]}\n\n' % n for n in range(600))
    text += b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    sliced, whole = ReplyReader(200, EVENTS), ReplyReader(200, EVENTS)
    await read_along(sliced, text)
    whole.feed(text)
    assert sliced.finish() == whole.finish() and whole.finish().content.startswith("0,1,2,")


async def test_what_interrupts_it_finds_the_whole_chunk_read():
    text = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n' * 600
    reader, whole = ReplyReader(200, EVENTS), ReplyReader(200, EVENTS)
    job = asyncio.ensure_future(read_along(reader, text))
    await asyncio.sleep(0)
    job.cancel()
    await asyncio.wait((job,))
    whole.feed(text)
    assert job.cancelled() and reader.finish() == whole.finish()


async def test_attempts_repeats_and_failures_are_counted_where_they_happen(house):
    house.raw.status = 500
    house.start(retries=1)
    async with house.client() as client, client.post("/v1/chat/completions", json={}) as reply:
        await reply.read()
        assert reply.status == 500
    value = house.gateway.metrics.value
    assert len(house.raw.received) == 2
    assert value("insource_upstream_attempts_total", upstream="main") == 2
    assert value("insource_upstream_retries_total", upstream="main") == 1
    assert value("insource_upstream_failures_total", upstream="main", code="500") == 2


async def test_an_upstream_that_cannot_be_reached_was_asked_all_the_same(house):
    house.start(upstream="http://127.0.0.1:9/v1")
    async with house.client() as client, client.post("/v1/chat/completions", json={}) as reply:
        await reply.read()
    value = house.gateway.metrics.value
    assert value("insource_upstream_attempts_total", upstream="main") == 1
    assert value("insource_upstream_failures_total", upstream="main", code="upstream_unreachable") == 1
