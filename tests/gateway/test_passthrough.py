"""What belongs to no task goes up and comes back byte for byte."""

import asyncio
import gzip
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yarl import URL

from insource.types import Reason

COMPLETION = b'{"choices":[{"message":{"content":"ok"}}],"usage":{"prompt_tokens":7,"completion_tokens":2}}'
STRANGE = (
    b'{ "model" : "gpt-4o",  "new_field":{"deep":[1.50,2e3]}, "tools":[{"type":"function","function":{"name":"f"}}],\n'
    b'"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBO"}},'
    b'{"type":"text","text":"\xc3\xa9\\u00e9"}]}] }'
)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/chat/completions", STRANGE),
        ("POST", "/v1/chat/completions?api-version=2026%2F01", b'{"messages":"odd","model":7}'),
        ("POST", "/v1/embeddings", b'{"input":"x"}'),
        ("POST", "/v1/audio/transcriptions", bytes(range(256)) * 40),
        ("GET", "/v1/models/gpt-4o", b""),
        ("GET", "/v1/chat/completions?limit=2", b""),
        ("DELETE", "/v1/files/a%20b", b""),
        ("PUT", "/v1/anything/new", b"\x00\xff"),
    ],
)
async def test_requests_go_up_as_they_came(house, method, path, body):
    house.start()
    house.raw.chunks = [COMPLETION]
    sent = {"authorization": "Bearer mine", "openai-organization": "org", "content-type": "x/y", "x-insource-task": ""}
    async with house.client() as client:
        async with client.request(method, URL(house.url + path, encoded=True), data=body, headers=sent) as reply:
            assert (reply.status, await reply.read()) == (200, COMPLETION)
            assert reply.headers["x-insource-reason"] == "no_task"
            assert reply.headers["x-insource-served-by"] == "main"
    (got,) = house.raw.received
    headers = {name.decode(): value.decode() for name, value in got.headers}
    assert (got.method, got.path.decode(), got.body) == (method, path, body)
    assert {name: headers.get(name) for name in sent} == {**sent, "x-insource-task": None}
    assert headers["host"] not in house.url
    house.stop()
    with house.reader() as ledger:
        (row,) = ledger.rows()
    assert (row.decision.reason, row.settlement.status) == (Reason.NO_TASK, 200)
    assert (row.settlement.usage.prompt_tokens, row.settlement.usage.completion_tokens) == (7, 2)


@given(body=st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.lists(st.floats(allow_nan=False))))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_json_object_goes_up_untouched(house, body):
    if not hasattr(house, "url"):
        house.start()
    sent = json.dumps(body, allow_nan=False, default=str).encode() if _finite(body) else b"{}"

    async def go():
        async with house.client() as client, client.post("/v1/chat/completions", data=sent) as reply:
            await reply.read()

    asyncio.run(go())
    assert house.raw.received[-1].body == sent


def _finite(body):
    return all(abs(x) != float("inf") for value in body.values() if isinstance(value, list) for x in value)


@pytest.mark.parametrize("status", [200, 400, 401, 404, 429, 500, 503, 302])
async def test_the_upstreams_own_status_and_headers_come_back(house, status):
    house.start()
    house.raw.status = status
    house.raw.chunks = [b'{"error":', b'{"message":"theirs"}}']
    house.raw.headers = [
        (b"content-type", b"application/json"),
        (b"retry-after", b"17"),
        (b"x-ratelimit-remaining", b"3"),
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
        (b"location", b"http://127.0.0.1:9/elsewhere"),
        (b"x-insource-served-by", b"a liar"),
    ]
    async with house.client() as client:
        async with client.post("/v1/chat/completions", json={}, allow_redirects=False) as reply:
            assert await reply.read() == b'{"error":{"message":"theirs"}}'
            assert reply.status == status
            assert reply.headers["retry-after"] == "17"
            assert reply.headers.getall("set-cookie") == ["a=1", "b=2"]
            assert reply.headers.getall("x-insource-served-by") == ["main"]
    assert len(house.raw.received) == 1  # no retry, no redirect followed


async def test_compressed_replies_come_back_compressed_and_are_still_read(house):
    house.start()
    packed = gzip.compress(COMPLETION)
    house.raw.headers = [(b"content-type", b"application/json"), (b"content-encoding", b"gzip")]
    house.raw.chunks = [packed[:9], packed[9:]]
    async with house.client() as client:
        async with client.post("/v1/chat/completions", json={}, headers={"accept-encoding": "gzip, br"}) as reply:
            assert await reply.read() == packed
    assert (b"accept-encoding", b"gzip") in house.raw.received[0].headers
    house.stop()
    with house.reader() as ledger:
        assert next(ledger.rows()).settlement.usage.prompt_tokens == 7


async def test_a_stream_comes_back_event_by_event(house):
    house.start()
    seen = [asyncio.Event() for _ in range(3)]
    loop = asyncio.get_running_loop()

    def after(event):
        async def wait(receive):
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(event.wait(), loop))

        return wait

    events = [b'data: {"choices":[{"delta":{"content":"%d"}}]}\n\n' % n for n in range(3)]
    house.raw.headers = [(b"content-type", b"text/event-stream")]
    house.raw.chunks = [
        events[0],
        after(seen[0]),
        events[1],
        after(seen[1]),
        events[2],
        after(seen[2]),
        b"data: [DONE]\n\n",
    ]
    got = []
    async with house.client() as client, client.post("/v1/chat/completions", json={"stream": True}) as reply:
        async for chunk in reply.content.iter_any():
            got.append(chunk)
            if len(got) <= 3:
                seen[len(got) - 1].set()  # the upstream sends the next only now: nothing was held back
    assert got == [*events, b"data: [DONE]\n\n"]


async def test_task_names_are_replaced_by_the_upstreams_model(house, chat):
    house.start()
    house.raw.chunks = [COMPLETION]
    body = b'{"model": "task:triage", "messages":[{"role":"user","content":"x"}], "seed": 1.0}'
    async with house.client() as client, client.post("/v1/chat/completions", data=body) as reply:
        await reply.read()
    assert json.loads(house.raw.received[0].body) == {**json.loads(body), "model": "gpt-x"}
    assert b'"seed":1.0' in house.raw.received[0].body


@pytest.mark.parametrize("path", ["/v1/../admin", "/v1/%2e%2e/admin", "/v1/a/..%2fb"])
async def test_a_path_cannot_leave_the_api(house, path):
    house.start()
    reader, writer = await asyncio.open_connection(*house.url.removeprefix("http://").split(":"))
    writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
    reply = await reader.read()
    writer.close()
    assert reply.split()[1] in (b"400", b"404")
    assert not house.raw.received


async def test_what_is_not_the_api_is_a_404_in_the_envelope(house):
    house.start()
    async with house.client() as client:
        for method, path, status in (("GET", "/nothing", 404), ("POST", "/healthz", 405)):
            async with client.request(method, path) as reply:
                assert reply.status == status
                assert (await reply.json())["error"]["code"] == "invalid_request"
