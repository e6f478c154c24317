import asyncio
import gc
import gzip
from contextlib import asynccontextmanager

import pytest

from insource.backends.reply import read_reply
from insource.backends.upstream import Upstream
from insource.errors import ConfigError, RequestError, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from insource.types import Message, Request, Usage

BODY = b'{"model":"m","messages":[{"role":"user","content":"hello"}]}'
HELLO = Request("r1", (Message("user", "hello"),), "m", body=BODY)
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@asynccontextmanager
async def before(*replies, kind=Upstream, path="", host="127.0.0.1", **more):
    """An upstream before a server that answers each request with the next reply, the last one for ever."""
    heads, bodies, gone, jobs = [], [], asyncio.Event(), []

    async def serve(reader, writer):
        jobs.append(asyncio.current_task())
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
                heads.append(head)
                length = next((line[16:] for line in head if line.startswith("content-length: ")), "0")
                bodies.append(await reader.readexactly(int(length)))
                writer.write(replies[min(len(heads), len(replies)) - 1])
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            gone.set()
            writer.close()

    server = await asyncio.start_server(serve, host, 0)
    port = server.sockets[0].getsockname()[1]
    where = f"[{host}]" if ":" in host else host
    try:
        async with kind("u", f"http://{where}:{port}{path}", **more) as upstream:
            upstream.heads, upstream.bodies, upstream.gone, upstream.authority = heads, bodies, gone, f"{where}:{port}"
            yield upstream
    finally:
        server.close()
        for job in jobs:
            job.cancel()


async def everything(answer):
    return b"".join([chunk async for chunk in answer.relay.chunks])


@pytest.mark.parametrize(
    ("base", "path", "address"),
    [
        ("https://api.example.com/v1", "/v1/chat/completions", "https://api.example.com/v1/chat/completions"),
        ("https://api.example.com/v1/", "/v1/models?a=%2F", "https://api.example.com/v1/models?a=%2F"),
        ("http://10.0.0.1:8000", "/v1/models", "http://10.0.0.1:8000/v1/models"),
        ("http://[::1]:8000/v1", "/v1/models", "http://[::1]:8000/v1/models"),
        ("https://api.example.com/openai/v1", "/v1/files/a%20b", "https://api.example.com/openai/v1/files/a%20b"),
        ("https://b\u00fccher.example/k\u00e9y/v1", "/v1/x", "https://xn--bcher-kva.example/k%C3%A9y/v1/x"),
        ("https://api.example.com/v1", "//evil.example/x", "https://api.example.com/v1//evil.example/x"),
        ("https://api.example.com/v1", "@evil.example/x", "https://api.example.com/v1/@evil.example/x"),
        ("https://api.example.com/v1", "/v1@evil.example", "https://api.example.com/v1/@evil.example"),
    ],
)
def test_the_host_is_the_configurations_whatever_the_path(base, path, address):
    assert Upstream("u", base).address(path) == address


async def mirrored(headers, **more):
    """Return the headers that the upstream got for these."""
    async with before(OK, **more) as upstream:
        await everything(await upstream.answer(Request("r", (), headers=headers, body=b"x")))
        (head,) = upstream.heads
        assert head[0] == "POST /v1/chat/completions HTTP/1.1" and upstream.bodies == [b"x"]
        got = [tuple(line.split(": ", 1)) for line in head[1:]]
        assert len(dict(got)) == len(got) and got[0] == ("host", upstream.authority)
        return dict(got[1:])


async def test_headers_go_up_but_for_those_of_the_connection_and_ours():
    sent = {
        "authorization": "Bearer mine",
        "content-type": "application/json",
        "user-agent": "client/1",
        "x-anything": "kept \xe9",
        "x-insource-task": "triage",
        "X-Insource-Sensitivity": "public",
        "connection": "keep-alive, x-hop",
        "x-hop": "1",
        "te": "trailers",
        "transfer-encoding": "chunked",
        "Transfer-Encoding": "chunked",
        "content-length": "999",
        "host": "elsewhere",
        "accept-encoding": "br, gzip",
        "proxy-authorization": "secret",
    }
    kept = {name: sent[name] for name in ("authorization", "content-type", "user-agent", "x-anything")}
    assert await mirrored(sent) == {**kept, "accept-encoding": "gzip", "content-length": "1"}


async def test_nothing_is_added_that_the_client_did_not_send():
    assert await mirrored({}) == {"accept-encoding": "identity", "content-length": "1"}


@pytest.mark.parametrize(("header", "line"), [
    ("authorization", "Bearer ours"), ("x-api-key", "ours"), ("api-key", "ours"),
])  # fmt: skip
async def test_a_configured_key_replaces_the_clients(header, line):
    theirs = {"authorization": "Bearer theirs", "x-api-key": "theirs", "api-key": "theirs"}
    got = await mirrored(theirs, api_key="ours", key_header=header)
    assert got == {header: line, "accept-encoding": "identity", "content-length": "1"}
    assert theirs.items() <= (await mirrored(theirs)).items()


@pytest.mark.parametrize("key", ["", "ours\n", "k y", "a\r\nx: y", "\xe9", "\u20ac"])
def test_a_key_that_no_header_can_carry_is_refused_before_all(key):
    with pytest.raises(ConfigError, match="Correct the variable that api_key_env names") as caught:
        Upstream("u", "http://127.0.0.1:1", api_key=key)
    assert not key.strip() or repr(key)[1:-1] not in str(caught.value)


UNSENDABLE = [
    {"headers": {"x-a": "1\r\nx-b: 2"}},
    {"headers": {"x-a": "1\nx-b: 2"}},
    {"headers": {"x-a": "1\rx-b: 2"}},
    {"headers": {"x-a": "1\0"}},
    {"headers": {"x-a": "\u20ac"}},
    {"headers": {"x-a\r\nx-b": "2"}},
    {"headers": {"x-a: 1\r\nx-b": "2"}},
    {"headers": {"host:": "elsewhere"}},
    {"headers": {"content-length ": "3"}},
    {"headers": {"\u20ac": "1"}},
    {"headers": {"": "1"}},
    {"path": "/v1/x HTTP/1.1\r\nx-b: 2\r\n\r\nGET /y"},
    {"path": "/v1/a b"},
    {"path": "/v1/a\0"},
    {"path": "/v1/a#b"},
    {"path": "/v1/\u20ac"},
    {"method": "GET /y HTTP/1.1\r\nx-b: 2\r\n\r\nPOST"},
    {"method": ""},
    {"method": "CONNECT"},
]


async def refuses(given, kind=Upstream):
    """Whether the request is refused without a byte on the wire, and without a word of it in the error."""
    async with before(OK, kind=kind) as upstream:
        try:
            await upstream.answer(Request("r", (), body=b"x", **given))
        except RequestError as error:
            assert "x-b" not in str(error) and "nothing was sent" in str(error)
            return upstream._pool.standing == 0
        return False


@pytest.mark.parametrize("given", UNSENDABLE)
async def test_what_could_break_out_of_its_place_is_refused(given):
    assert await refuses(given)


class Trusting(Upstream):
    """Broken: puts on the wire whatever it is given."""

    def _head(self, request):
        lines = [f"{request.method} {request.path} HTTP/1.1", *map(": ".join, request.headers.items())]
        return "\r\n".join([*lines, "content-length: 1", "", ""]).encode("latin-1", "replace")


@pytest.mark.parametrize("given", [UNSENDABLE[0], UNSENDABLE[6], UNSENDABLE[11]])
async def test_the_check_finds_a_break_out(given):
    assert not await refuses(given, Trusting)


@pytest.mark.parametrize(("method", "body", "length"), [
    ("GET", b"", None), ("GET", b"x", "1"), ("POST", b"", "0"), ("PUT", b"", "0"), ("DELETE", b"", None),
])  # fmt: skip
async def test_a_length_is_sent_where_there_is_a_body_or_should_be(method, body, length):
    async with before(OK) as upstream:
        await upstream.answer(Request("r", (), method=method, path="/v1/models?a=b", body=body))
        head = dict(line.split(": ", 1) for line in upstream.heads[0][1:])
        assert upstream.heads[0][0] == f"{method} /v1/models?a=b HTTP/1.1"
        assert head.get("content-length") == length


async def test_the_base_paths_v1_is_taken_once_on_the_wire():
    async with before(OK, path="/openai/v1", host="::1") as upstream:
        await upstream.answer(HELLO)
        assert upstream.heads[0][:2] == ["POST /openai/v1/chat/completions HTTP/1.1", f"host: {upstream.authority}"]


async def test_replies_are_relayed_and_can_be_read():
    content = b'{"choices":[{"message":{"content":"Hi."}}],"usage":{"prompt_tokens":2,"completion_tokens":1}}'
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(content)
    async with before(head + content) as upstream:
        answer = await upstream.answer(HELLO)
        assert answer.relay.whole == content and answer.seconds["upstream_head"] > 0
        reply = await read_reply(answer)
        assert (answer.served_by, reply.status, reply.content, reply.usage) == ("u", 200, "Hi.", Usage(2, 1))
        assert [len(await everything(a)) for a in await upstream.answer_many([HELLO] * 3)] == [len(content)] * 3
        assert upstream._pool.standing == 1


@pytest.mark.parametrize("status", [301, 307, 404, 429, 500, 503])
async def test_a_reply_of_any_status_is_relayed_and_nothing_is_followed(status):
    raw = b"HTTP/1.1 %d X\r\nlocation: http://127.0.0.1:1/\r\nretry-after: 7\r\ncontent-length: 2\r\n\r\n{}" % status
    async with before(raw) as upstream:
        answer = await upstream.answer(HELLO)
        assert (answer.relay.status, await everything(answer)) == (status, b"{}")
        assert dict(answer.relay.headers)["retry-after"] == "7" and len(upstream.heads) == 1


async def test_compressed_bytes_are_relayed_as_they_are():
    packed = gzip.compress(b"x" * 100)
    raw = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed) + packed
    async with before(raw) as upstream:
        answer = await upstream.answer(HELLO)
        assert await everything(answer) == packed
        assert dict(answer.relay.headers)["content-encoding"] == "gzip"


@pytest.mark.parametrize(("status", "method"), [(204, "POST"), (304, "POST"), (200, "HEAD")])
async def test_no_body_is_a_whole_body_of_nothing(status, method):
    async with before(b"HTTP/1.1 %d X\r\ncontent-length: 5\r\n\r\n" % status) as upstream:
        answer = await upstream.answer(Request("r", (), method=method))
        assert answer.relay.whole == b"" and await everything(answer) == b""


async def test_nobody_there_is_unreachable():
    async with Upstream("u", "http://127.0.0.1:1") as upstream:
        with pytest.raises(UpstreamUnreachable, match="'u' cannot be reached .* Check base_url"):
            await upstream.answer(HELLO)


async def test_no_connection_in_time_is_a_timeout():
    async with before(OK) as plain, Upstream("u", f"https://{plain.authority}", connect=0.05) as upstream:
        with pytest.raises(UpstreamTimeout, match="no connection within 0.05 s. Check .*connect_timeout_s"):
            await upstream.answer(HELLO)  # what speaks no TLS waits for an end that never comes


@pytest.mark.parametrize(("raw", "says"), [
    (b"", "kept silent for 0.05 s. Check it, or raise timeout_s"),
    (b"HTTP/1.1 200 OK\r\nx: ", "sent no whole head for 0.05 s"),
    (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab", "kept silent for 0.05 s"),
])  # fmt: skip
async def test_silence_is_a_timeout(raw, says):
    async with before(raw, silence=0.05) as upstream:
        with pytest.raises(UpstreamTimeout, match=says):
            await everything(await upstream.answer(HELLO))
        await upstream.gone.wait()


async def test_a_reply_that_never_ends_is_a_timeout():
    async with before(HALF, whole=0.05) as upstream:
        with pytest.raises(UpstreamTimeout, match="had not ended its reply after 0.05 s. Check it, or raise reply_s"):
            await everything(await upstream.answer(HELLO))
        await upstream.gone.wait()


@pytest.mark.parametrize("reply", [b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nbroken header\r\n\r\n", b"\0" * 100])
async def test_what_is_no_http_is_an_upstream_error(reply):
    async with before(reply) as upstream:
        with pytest.raises(UpstreamUnreachable, match="asked once and not again") as caught:
            await upstream.answer(HELLO)
        assert "nonsense" not in str(caught.value) and "hello" not in str(caught.value)
        await upstream.gone.wait()


async def test_a_body_that_breaks_off_raises_in_the_middle():
    chunks = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\nzz\r\n"
    async with before(chunks) as upstream:
        answer = await upstream.answer(HELLO)
        assert answer.relay.whole is None
        got = []
        with pytest.raises(UpstreamUnreachable, match="broke off before its reply was complete"):
            async for chunk in answer.relay.chunks:
                got.append(chunk)
        assert got == [b"ab"]


HALF = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab"


@pytest.mark.parametrize("how", ["close", "cancel", "drop", "leave"])
async def test_whoever_leaves_stops_the_upstream(how):
    async with before(HALF) as upstream:
        answer = await upstream.answer(HELLO)
        if how == "close":
            await answer.relay.close()
        elif how == "cancel":
            job = asyncio.ensure_future(everything(answer))
            await asyncio.sleep(0)
            job.cancel()
        elif how == "drop":
            del answer
            gc.collect()
        else:
            await upstream.__aexit__(None, None, None)
        await upstream.gone.wait()


async def test_close_after_the_end_keeps_the_connection():
    async with before(OK) as upstream:
        for _ in range(3):
            answer = await upstream.answer(HELLO)
            assert await everything(answer) == b"ok"
            await answer.relay.close()
        assert (upstream._pool.standing, upstream._pool.idle) == (1, 1) and not upstream.gone.is_set()


async def test_a_closed_upstream_says_so():
    upstream = Upstream("u", "http://127.0.0.1:1")
    with pytest.raises(UpstreamError, match="'u' is closed"):
        await upstream.answer(HELLO)
    assert not (await upstream.health()).ready
