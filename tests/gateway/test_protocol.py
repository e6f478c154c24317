"""The connection: what is no request, does not end, or stands in the wrong place."""

import asyncio
import json
import socket
from contextlib import suppress

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from insource.errors import Overloaded
from insource.gateway.body import ROOM_BYTES, read_body
from insource.gateway.protocol import HEAD_BYTES, LEAST_BYTES, Connection, Protocol, Room
from insource.gateway.server import ServerThread

LINE = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
WHOLE = LINE + b"content-length: 2\r\n\r\n{}"


async def connect(house):
    return await asyncio.open_connection(*house.url.removeprefix("http://").split(":"))


async def raw(house, *pieces):
    """Send pieces, each in a turn of its own, and return what comes back until the connection closes."""
    loop = asyncio.get_running_loop()
    with socket.create_connection(("127.0.0.1", int(house.url.rpartition(":")[2]))) as client:
        client.setblocking(False)
        reply = b""
        with suppress(ConnectionError):
            for piece in pieces:
                await loop.sock_sendall(client, piece)
        with suppress(ConnectionError):
            while data := await loop.sock_recv(client, 2**16):
                reply += data
    return reply


@pytest.mark.parametrize(
    "head",
    [
        (
            b"POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\norigin: http://evil.example\r\n\r\n{",
            b"403",
        ),
        (b"GET /healthz HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n{", b"200"),
    ],
)
async def test_a_body_that_trickles_after_the_reply_closes_the_connection(house, head):
    house.start(limits={"receipt_s": 0.05})
    assert (await raw(house, head[0])).startswith(b"HTTP/1.1 " + head[1])


async def test_blank_lines_between_requests_close_the_connection(house):
    house.start(limits={"receipt_s": 0.05})
    reader, writer = await connect(house)
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
    await reader.readuntil(b'{"status":"ok"}')
    writer.write(b"\r\n")
    assert await reader.read() == b""
    writer.close()


class Stock(ServerThread):
    """uvicorn without our protocol."""

    def __init__(self, app):
        super().__init__(app, drain=1)
        self._server.config.http = HttpToolsProtocol


def test_control_stock_uvicorn_takes_trailers_for_headers():
    seen = []

    async def app(scope, receive, send):
        if scope["type"] == "http":
            while (await receive()).get("more_body"):
                pass
            seen.append(dict(scope["headers"]))
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body"})

    for server in (Stock, ServerThread):
        with (
            server(app) as running,
            socket.create_connection(("127.0.0.1", int(running.url.rpartition(":")[2]))) as client,
        ):
            client.sendall(LINE + b"transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nx-late: 1\r\n\r\n")
            assert client.recv(99).startswith(b"HTTP/1.1 200")
    assert [b"x-late" in headers for headers in seen] == [True, False]


@pytest.mark.parametrize("size", [HEAD_BYTES - 500, HEAD_BYTES + 1, 4 * HEAD_BYTES])
@pytest.mark.parametrize("pieces", [1, 7])
async def test_a_head_has_a_bound_however_it_comes(house, size, pieces):
    house.start()
    data = LINE + b"connection: close\r\nx: " + b"y" * size + b"\r\ncontent-length: 2\r\n\r\n{}"
    step = -(-len(data) // pieces)
    reply = await raw(house, *(data[at : at + step] for at in range(0, len(data), step)))
    assert reply.startswith(b"HTTP/1.1 200" if size < HEAD_BYTES else b"HTTP/1.1 431")
    assert len(house.raw.received) == (size < HEAD_BYTES)


@pytest.mark.parametrize("framing", [b"1;" + b"e" * 2 * HEAD_BYTES, b"1\r\n{\r\n0\r\nx: " + b"t" * 3 * HEAD_BYTES])
async def test_a_bodys_framing_has_a_bound(house, framing):
    house.start()
    reply = await raw(house, LINE + b"transfer-encoding: chunked\r\n\r\n", framing)
    assert reply.startswith(b"HTTP/1.1 431")
    assert json.loads(reply.split(b"\r\n\r\n", 1)[1])["error"]["code"] == "invalid_request"


async def test_garbage_behind_a_request_does_not_take_its_replys_place(house):
    house.start()
    reply = await raw(house, WHOLE * 2 + b"\x00garbage\r\n\r\n")
    assert reply.count(b"HTTP/1.1 200") == 2 and b"400 Bad" not in reply
    assert len(house.raw.received) == 2


async def test_a_broken_body_is_refused_though_the_endpoint_waits_for_it(house):
    house.start()
    reply = await raw(house, LINE + b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n", b"no size\r\n")
    assert reply.startswith(b"HTTP/1.1 400") and reply.count(b"\r\ncontent-length") == 1
    assert not house.raw.received


@pytest.mark.parametrize(
    "pieces",
    [
        (b"content-length: 2\r\n\r\n{}",),
        (b"content-length: 2\r\n\r\n", b"{", b"}"),
        (b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n", b"1\r\n}\r\n0\r\n\r\n"),
        (b"content-length: 2\r\n\r\n{}" + WHOLE,),
    ],
)
async def test_a_client_that_asks_for_an_upgrade_is_served_without(house, pieces):
    house.start()
    head = LINE + b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"
    reply = await raw(house, head, *pieces)
    assert reply.startswith(b"HTTP/1.1 200") and b"connection: close" in reply
    assert [received.body for received in house.raw.received] == [b"{}"]


async def test_a_get_that_asks_for_an_upgrade_is_served_without(house):
    house.start()
    reply = await raw(
        house, b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    )
    assert reply.startswith(b"HTTP/1.1 200")


async def test_a_client_that_leaves_a_pipeline_is_gone_for_the_request_that_is_served(house):
    left = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def gate(receive):
        loop.call_soon_threadsafe(writer.transport.abort)
        gone = (await receive())["type"] == "http.disconnect"
        loop.call_soon_threadsafe(left.set)
        return gone

    house.raw.gate = gate
    house.start()
    _, writer = await connect(house)
    writer.write(WHOLE * 3)
    await left.wait()
    house.stop()
    with house.reader() as ledger:
        assert [row.settlement.status for row in ledger.rows()] == [499]


async def test_an_absolute_targets_host_is_the_host(house):
    house.start()
    target = LINE.replace(b" /v1", b" http://evil.example/v1") + b"connection: close\r\ncontent-length: 2\r\n\r\n{}"
    assert (await raw(house, target)).startswith(b"HTTP/1.1 403")
    assert not house.raw.received


async def test_a_body_that_trickles_keeps_no_permit(house):
    house.start(limits={"max_concurrency": 1})
    _, writer = await connect(house)
    writer.write(LINE + b"content-length: 100000\r\n\r\n" + b"{" * 70_000)
    async with house.client() as client:
        for _ in range(3):
            async with client.post("/v1/chat/completions", json={}) as reply:
                await reply.read()
            if reply.status == 200:
                break
        assert reply.status == 200
    writer.transport.abort()


async def test_bodies_that_are_received_have_room_for_so_much_together():
    room = Room()
    room.held = ROOM_BYTES
    messages = [{"type": "http.request", "body": b"x", "more_body": True}] * 2

    async def receive():
        return messages.pop()

    with pytest.raises(Overloaded, match="are being received"):
        await read_body(receive, Connection(room), None, max_bytes=100, seconds=5)
    assert room.held == ROOM_BYTES
    assert await read_body(receive_last, Connection(room), None, max_bytes=100, seconds=5) == b"x"


async def receive_last():
    return {"type": "http.request", "body": b"x"}


class Pipe:
    """A transport whose client takes as much as it is told."""

    def __init__(self):
        self.unsent, self.aborted = 10 * LEAST_BYTES, False

    def get_write_buffer_size(self):
        return self.unsent

    def get_extra_info(self, name):
        return None

    def abort(self):
        self.aborted = True


@pytest.mark.parametrize(("takes", "cut"), [(LEAST_BYTES, False), (LEAST_BYTES - 1, True), (0, True)])
async def test_a_client_must_take_something_in_its_time(takes, cut):
    protocol = Protocol.__new__(Protocol)
    protocol.transport, protocol.loop = Pipe(), asyncio.get_running_loop()
    protocol._watch_reader()
    protocol.transport.unsent -= takes
    protocol._forget_reader()
    protocol._check_reader()
    assert protocol.transport.aborted is cut
    protocol._forget_reader()
