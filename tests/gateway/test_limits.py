"""Bad input and limits: each gets its status and a message in the envelope."""

import asyncio
import io
import json

import pytest

from insource.types import Reason


async def raw(house, data, *, end=False):
    """Send bytes on a socket of their own and return what comes back until it closes."""
    reader, writer = await asyncio.open_connection(*house.url.removeprefix("http://").split(":"))
    writer.write(data)
    if end:
        writer.write_eof()
    reply = await reader.read()
    writer.close()
    return reply


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b'{"a": "\xff"}', "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[1]", "JSON list; an object was expected"),
        (b'"x"', "JSON str; an object was expected"),
        (bytes(range(256)), "not valid JSON"),
    ],
)
async def test_what_is_no_json_object_is_a_400(house, body, says):
    house.start()
    async with house.client() as client, client.post("/v1/chat/completions", data=body) as reply:
        error = (await reply.json())["error"]
        assert (reply.status, error["code"]) == (400, "invalid_request")
        assert says in error["message"]
    assert not house.raw.received


async def test_a_body_over_the_limit_is_a_413_declared_or_not(house):
    house.start()
    async with house.client() as client:
        async with client.post("/v1/chat/completions", data=io.BytesIO(b"x" * (2**20 + 1))) as reply:
            assert reply.status == 413
            assert "at most 1048576 are taken" in (await reply.json())["error"]["message"]

    async def pieces():
        for _ in range(17):
            yield b"x" * 2**16

    async with house.client() as client, client.post("/v1/chat/completions", data=pieces()) as reply:
        assert reply.status == 413


async def test_a_body_within_the_limit_goes_up_whole(house):
    house.start()
    body = json.dumps({"model": "m", "pad": "x" * (2**20 - 100)}).encode()
    async with house.client() as client, client.post("/v1/chat/completions", data=body) as reply:
        assert reply.status == 200
    assert house.raw.received[0].body == body


async def test_a_body_that_does_not_come_is_a_408(house):
    house.start(limits={"receipt_s": 0.05})
    reply = await raw(house, b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n{")
    assert reply.startswith(b"HTTP/1.1 408")
    assert b"request_too_slow" in reply


async def test_headers_that_do_not_come_close_the_connection(house):
    house.start(limits={"receipt_s": 0.05})
    assert await raw(house, b"POST /v1/chat/completions HTTP/1.1\r\nhost") == b""
    assert await raw(house, b"") == b""


async def test_what_is_no_http_is_a_400_in_the_envelope(house):
    house.start()
    reply = await raw(house, b"\x00\x01\x02 nonsense\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 400")
    assert json.loads(reply.split(b"\r\n\r\n", 1)[1])["error"]["code"] == "invalid_request"


async def test_the_request_above_the_limit_is_refused_at_once(house):
    arrived, go = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def gate(receive):
        loop.call_soon_threadsafe(arrived.set)
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(go.wait(), loop))

    house.raw.gate = gate
    house.start(limits={"max_concurrency": 1})
    async with house.client() as client:
        first = asyncio.ensure_future(client.post("/v1/chat/completions", json={}))
        await arrived.wait()
        async with client.post("/v1/chat/completions", json={}) as reply:
            assert (reply.status, reply.headers["retry-after"]) == (429, "1")
            assert (await reply.json())["error"]["code"] == "overloaded"
        go.set()
        async with await first as reply:
            assert (reply.status, await reply.read()) == (200, b"{}")
        assert await _until_let_in(client) == 200  # the permit is given back just after the last byte
    assert len(house.raw.received) == 2


async def _until_let_in(client, tries=200):
    """Ask until the gateway takes a request, and return its status; the last refusal where it never does."""
    for _ in range(tries):
        async with client.post("/v1/chat/completions", json={}) as reply:
            await reply.read()
        if reply.status != 429:
            break
    return reply.status


async def test_ten_megabytes_in_one_text_are_answered_like_any(house, scripted, chat):
    house.promote(house.register())
    house.start(upstream=scripted, limits={"max_body_mb": 16})
    async with house.client() as client:
        body = io.BytesIO(json.dumps(chat("x" * 10 * 2**20)).encode())
        async with client.post("/v1/chat/completions", data=body) as reply:
            assert reply.status == 404  # the scripted upstream does not know it; the gateway passed it on
            assert reply.headers["x-insource-reason"] == "specialist_failed"


async def test_a_full_disk_refuses_instead_of_answering_unrecorded(house, scripted, chat):
    house.promote(house.register())
    house.start(upstream=scripted, max_pages=60)
    acknowledged, refused = [], []
    async with house.client() as client:
        while len(refused) < 20:
            for body in (chat("sure"), chat("hello", system=None)):
                async with client.post("/v1/chat/completions", json=body) as reply:
                    value = await reply.json()
                    number = reply.headers["x-insource-request-id"]
                    if reply.status == 200:
                        acknowledged.append((number, body["messages"][-1]["content"]))
                    else:
                        assert (reply.status, value["error"]["code"]) == (507, "store_full")
                        refused.append(number)
        async with client.get("/metrics") as reply:
            text = await reply.text()
    assert f'insource_ledger_failures_total{{code="store_full"}} {len(refused)}.0' in text
    went_up = [number for number, text in acknowledged if text == "hello"]
    assert scripted.state.invoice.requests == len(went_up)  # nothing leaves unrecorded either
    with house.reader() as ledger:
        assert [row.decision.request_id for row in ledger.rows()] == [number for number, _ in acknowledged]
    house.ledger._connection.execute("PRAGMA max_page_count = 1000000")
    async with house.client() as client, client.post("/v1/chat/completions", json=chat("sure")) as reply:
        assert reply.status == 200


async def test_health_readiness_and_metrics(house, scripted, chat):
    house.promote(house.register())
    house.start(upstream=scripted)
    async with house.client() as client:
        async with client.post("/v1/chat/completions", json=chat("sure")) as reply:
            assert reply.status == 200
        for path in ("/healthz", "/readyz"):
            async with client.get(path) as reply:
                assert reply.status == 200
        async with client.get("/metrics") as reply:
            text = await reply.text()
    assert 'insource_requests_total{outcome="accepted",reason="above_threshold",status="200",task="triage"} 1.0' in text
    assert 'insource_active_version{task="triage"} 1.0' in text


async def test_refused_requests_have_no_decision(house):
    house.start()
    async with house.client() as client, client.post("/v1/chat/completions", data=b"{") as reply:
        assert reply.status == 400
    house.stop()
    with house.reader() as ledger:
        assert [row.decision.reason for row in ledger.rows()] == [] != [Reason.NO_TASK]
