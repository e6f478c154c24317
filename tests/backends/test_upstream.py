import asyncio

import pytest

from insource.backends.reply import read_reply
from insource.backends.scripted import scripted_app
from insource.backends.upstream import Upstream
from insource.errors import UpstreamError, UpstreamTimeout, UpstreamUnreachable
from insource.gateway.server import ServerThread
from insource.types import Message, Request, Usage

BODY = b'{"model":"m","messages":[{"role":"user","content":"hello"}]}'
HELLO = Request("r1", (Message("user", "hello"),), "m", body=BODY)


class Mirror:
    """Sends back the headers it was sent, one a line, and closes keep-alive or not as told."""

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        body = b"\n".join(name + b": " + value for name, value in scope["headers"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"keep-alive", b"timeout=5")]})
        await send({"type": "http.response.body", "body": body})


@pytest.mark.parametrize(
    ("base", "path", "address"),
    [
        ("https://api.example.com/v1", "/v1/chat/completions", "https://api.example.com/v1/chat/completions"),
        ("https://api.example.com/v1/", "/v1/models?a=%2F", "https://api.example.com/v1/models?a=%2F"),
        ("http://10.0.0.1:8000", "/v1/models", "http://10.0.0.1:8000/v1/models"),
        ("https://api.example.com/openai/v1", "/v1/files/a%20b", "https://api.example.com/openai/v1/files/a%20b"),
        ("https://api.example.com/v1", "//evil.example/x", "https://api.example.com/v1//evil.example/x"),
        ("https://api.example.com/v1", "@evil.example/x", "https://api.example.com/v1/@evil.example/x"),
        ("https://api.example.com/v1", "/v1@evil.example", "https://api.example.com/v1/@evil.example"),
    ],
)
def test_the_host_is_the_configurations_whatever_the_path(base, path, address):
    assert str(Upstream("u", base).address(path)) == address


async def mirrored(headers, **more):
    with ServerThread(Mirror(), drain=1) as server:
        async with Upstream("u", server.url, **more) as upstream:
            answer = await upstream.answer(Request("r", (), headers=headers, body=b"x"))
            raw = b"".join([chunk async for chunk in answer.relay.chunks])
    return dict(line.split(": ", 1) for line in raw.decode().split("\n")), dict(answer.relay.headers)


async def test_headers_go_up_but_for_those_of_the_connection_and_ours():
    sent = {
        "authorization": "Bearer mine",
        "content-type": "application/json",
        "user-agent": "client/1",
        "x-anything": "kept",
        "x-insource-task": "triage",
        "connection": "keep-alive, x-hop",
        "x-hop": "1",
        "te": "trailers",
        "transfer-encoding": "chunked",
        "content-length": "999",
        "host": "elsewhere",
        "accept-encoding": "br, gzip",
        "proxy-authorization": "secret",
    }
    got, back = await mirrored(sent)
    kept = {name: sent[name] for name in ("authorization", "content-type", "user-agent", "x-anything")}
    assert {name: got[name] for name in got if name not in ("host", "content-length", "accept")} == {
        **kept,
        "accept-encoding": "gzip",
    }
    assert got["content-length"] == "1" and got["host"] != "elsewhere"
    assert "keep-alive" not in back


async def test_nothing_is_added_that_the_client_did_not_send():
    got, _ = await mirrored({})
    assert set(got) == {"host", "content-length", "accept-encoding"}
    assert got["accept-encoding"] == "identity"


async def test_a_configured_key_replaces_the_clients():
    got, _ = await mirrored({"authorization": "Bearer theirs"}, api_key="ours")
    assert got["authorization"] == "Bearer ours"


async def test_replies_are_relayed_and_can_be_read():
    with ServerThread(scripted_app({"hello": "Hi."}), drain=1) as server:
        async with Upstream("u", server.url + "/v1") as upstream:
            answer = await upstream.answer(HELLO)
            reply = await read_reply(answer)
    assert (answer.served_by, reply.status, reply.content, reply.usage) == ("u", 200, "Hi.", Usage(2, 1))


async def test_nobody_there_is_unreachable():
    async with Upstream("u", "http://127.0.0.1:1") as upstream:
        with pytest.raises(UpstreamUnreachable, match="'u' cannot be reached .* Check base_url"):
            await upstream.answer(HELLO)


async def test_silence_is_a_timeout():
    app = scripted_app({"hello": "Hi."}, fault_rate=1.0, seed=1)
    with ServerThread(app, drain=1) as server:
        async with Upstream("u", server.url + "/v1", silence=0.05) as upstream:
            seen = set()
            for _ in range(16):
                try:
                    seen.add((await read_reply(await upstream.answer(HELLO))).status)
                except UpstreamError as error:
                    seen.add(type(error))
    assert seen == {500, 429, UpstreamTimeout, UpstreamUnreachable}


@pytest.mark.parametrize(
    "reply", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nbroken header\r\n\r\n", b"HTTP/1.1 200 OK\r\n"]
)
async def test_what_is_no_http_is_an_upstream_error(reply):
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, Upstream("u", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as upstream:
        with pytest.raises(UpstreamError, match="asked once and not again"):
            await upstream.answer(HELLO)


async def test_a_closed_upstream_says_so():
    upstream = Upstream("u", "http://127.0.0.1:1")
    with pytest.raises(UpstreamError, match="'u' is closed"):
        await upstream.answer(HELLO)
