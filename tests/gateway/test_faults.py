"""Upstream faults and clients that leave: a typed end, one settlement, nothing left behind."""

import asyncio
import json

import aiohttp
import pytest

from insource.backends.scripted import scripted_app
from insource.types import Reason


async def until_gone(receive):
    """Wait in the upstream until its client (the gateway) closes the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
    return True


def settlements(house):
    house.stop()
    with house.reader() as ledger:
        return [row.settlement for row in ledger.rows()]


async def test_a_silent_upstream_is_a_504(house):
    house.raw.gate = until_gone
    house.start(timeout=0.05)
    async with house.client() as client, client.post("/v1/chat/completions", json={}) as reply:
        error = (await reply.json())["error"]
        assert (reply.status, error["code"]) == (504, "upstream_timeout")
        assert "kept silent for 0.05 s" in error["message"]
        assert reply.headers["x-insource-reason"] == "no_task"
    (settlement,) = settlements(house)
    assert (settlement.status, settlement.detail, settlement.cost) == (504, "upstream_timeout", None)
    assert len(house.raw.left) == 1


async def test_an_upstream_that_refuses_connections_is_a_502(house):
    house.start(upstream="http://127.0.0.1:1/v1")
    async with house.client() as client, client.post("/v1/chat/completions", json={}) as reply:
        assert (reply.status, (await reply.json())["error"]["code"]) == (502, "upstream_unreachable")
    assert settlements(house)[0].status == 502


async def test_a_reply_that_breaks_off_stays_broken_off(house):
    house.raw.headers = [(b"content-type", b"application/json"), (b"content-length", b"100")]
    house.raw.chunks = [b'{"choices":', lambda receive: asyncio.sleep(0, True)]
    house.start()
    async with house.client() as client, client.post("/v1/chat/completions", json={}) as reply:
        assert reply.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await reply.read()
    (settlement,) = settlements(house)
    assert (settlement.status, settlement.detail) == (200, "upstream_unreachable after the reply had begun")
    assert settlement.cost is None  # unknown, not zero


async def test_an_upstream_that_falls_silent_in_a_stream_ends_it(house):
    house.raw.headers = [(b"content-type", b"text/event-stream")]
    house.raw.chunks = [b'data: {"choices":[]}\n\n', until_gone]
    house.start(timeout=0.05)
    async with house.client() as client, client.post("/v1/chat/completions", json={}) as reply:
        first, last = filter(bytes.strip, (await reply.read()).split(b"\n\n"))
    assert first == b'data: {"choices":[]}'
    assert json.loads(last.strip().removeprefix(b"data: "))["error"]["code"] == "upstream_timeout"
    assert settlements(house)[0].detail == "upstream_timeout after the reply had begun"


@pytest.mark.parametrize("window", ["before the head", "in a stream"])
async def test_a_client_that_leaves_stops_the_upstream(house, window):
    arrived = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def gate(receive):
        loop.call_soon_threadsafe(arrived.set)
        return await until_gone(receive)

    if window == "before the head":
        house.raw.gate = gate
    else:
        house.raw.headers = [(b"content-type", b"text/event-stream")]
        house.raw.chunks = [b'data: {"choices":[],"usage":{"prompt_tokens":3}}\n\n', gate]
    house.start()
    async with house.client() as client:
        job = asyncio.ensure_future(client.post("/v1/chat/completions", json={}))
        await arrived.wait()
        if window != "before the head":
            await (await job).content.readany()
            (await job).close()
        job.cancel()
        await asyncio.wait((job,))
    (settlement,) = settlements(house)
    assert len(house.raw.left) == 1
    assert (settlement.status, settlement.detail) == (499, "the client left")
    assert (settlement.usage is not None) is (window != "before the head")


@pytest.mark.parametrize("seed", [1, 2])
async def test_scripted_faults_always_end_in_a_typed_reply_and_one_settlement(house, chat, seed):
    house.promote(house.register())
    house.start(upstream=scripted_app({"unsure": "yes"}, fault_rate=0.7, seed=seed), timeout=0.1)
    statuses = []
    async with house.client() as client:
        for n in range(24):
            async with client.post("/v1/chat/completions", json=chat("unsure", seed=n)) as reply:
                try:
                    await reply.read()
                    statuses.append(reply.status)
                except aiohttp.ClientPayloadError:
                    statuses.append("broken off")
    assert set(statuses) == {200, 429, 500, 504, "broken off"}
    settled = settlements(house)
    assert [settlement.status for settlement in settled] == [200 if s == "broken off" else s for s in statuses]


async def test_a_failing_specialist_is_a_reason_and_no_error(house, chat):
    house.promote(house.register())
    house.answers = {}
    house.start(upstream=scripted_app({"sure": "yes"}))
    async with house.client() as client, client.post("/v1/chat/completions", json=chat("sure")) as reply:
        assert (reply.status, reply.headers["x-insource-reason"]) == (200, Reason.SPECIALIST_FAILED.value)


async def test_a_stop_lets_what_is_under_way_finish(house):
    arrived, go = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def gate(receive):
        loop.call_soon_threadsafe(arrived.set)
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(go.wait(), loop))

    house.raw.gate = gate
    house.start()
    async with house.client() as client:
        job = asyncio.ensure_future(client.post("/v1/chat/completions", json={}))
        await arrived.wait()
        stopping = asyncio.ensure_future(asyncio.to_thread(house.server.__exit__, None, None, None))
        go.set()
        reply = await job
        assert (reply.status, await reply.read()) == (200, b"{}")
    await stopping
    assert settlements(house)[0].status == 200


async def test_a_stop_is_bounded_where_a_stream_never_ends(house):
    arrived = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def hold(receive):
        loop.call_soon_threadsafe(arrived.set)
        return await until_gone(receive)

    house.raw.headers = [(b"content-type", b"text/event-stream")]
    house.raw.chunks = [b"data: {}\n\n", hold]
    house.start(drain=1)
    async with house.client() as client:
        reply = await client.post("/v1/chat/completions", json={})
        await arrived.wait()
        await asyncio.to_thread(house.server.__exit__, None, None, None)
        reply.close()
    (settlement,) = settlements(house)
    assert settlement.detail in ("broken off by the gateway", "the client left")
