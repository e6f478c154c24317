"""Connections of the pool with the other side: nobody there, TLS, hostile servers, large bodies."""

import asyncio
import socket
import ssl

import pytest

from insource.backends.http1 import HELD_BYTES
from insource.backends.http1_pool import Pool
from insource.backends.http1_reply import Broken, ConnectTimeout, Silent, Stale, Unreachable
from tests.backends.http1_server import CERTIFICATE, answering, before, on_both_loops, read, says, sent, server_tls


@on_both_loops
async def test_nobody_there():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        pool = Pool(*taken.getsockname())
        with pytest.raises(Unreachable, match="ConnectionRefusedError"):
            await sent(pool)
        assert (pool.standing, pool._places) == (0, 0)


@pytest.mark.parametrize(("host", "why"), [("fe80::1%nowhere", "gaierror"), ("a" * 70 + ".invalid", "UnicodeError")])
async def test_a_name_that_leads_nowhere(host, why):
    pool = Pool(host, 1)
    with pytest.raises(Unreachable, match=why):
        await sent(pool)
    assert pool._places == 0


@on_both_loops
async def test_a_connection_that_never_stands_is_given_up():
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        pool = Pool(*full.getsockname(), connect=0.05)
        with pytest.raises(ConnectTimeout):
            await sent(pool)
        assert (pool.standing, pool._places) == (0, 0)
        for filler in fillers:
            filler.close()


@on_both_loops
async def test_tls_is_verified(tmp_path):
    theirs = server_tls(tmp_path)
    trusting = ssl.create_default_context(cadata=CERTIFICATE)
    for host in ("127.0.0.1", "::1"):
        async with before(answering, host=host, server_tls=theirs, tls=trusting) as (server, pool):
            for _ in range(2):
                assert await read(await sent(pool, bytes(500_000))) == bytes(500_000)
            assert server.connections == 1
    async with before(answering, server_tls=theirs, tls=ssl.create_default_context()) as (server, pool):
        with pytest.raises(Unreachable, match="SSLCertVerificationError"):
            await sent(pool)
        assert not server.requests and not pool._places


@on_both_loops
async def test_a_handshake_that_fails_or_hangs_is_given_up(tmp_path):
    async def plain(server, reader, writer, number):
        await reader.readexactly(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async def mute(server, reader, writer, number):
        pass

    tls = ssl.create_default_context()
    async with before(plain, tls=tls) as (_, pool):
        with pytest.raises(Unreachable):
            await sent(pool)
        assert not pool._places
    async with before(mute, tls=tls, connect=0.05) as (server, pool):
        with pytest.raises(ConnectTimeout):
            await sent(pool)
        assert not pool._places
        await server.until(lambda: server.gone == 1)


@on_both_loops
@pytest.mark.parametrize(("raw", "then", "failure"), [
    (b"", None, Silent),
    (b"HTTP/1.1 200 OK\r\n", None, Silent),
    (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab", None, Silent),
    (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab", "eof", Broken),
    (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab", "reset", Broken),
    (b"HTTP/1.1 200 OK\r\n\r\nab", None, Silent),
    (b"", "eof", Broken),
    (b"", "reset", Broken),
    (b"HTTP/1.1 200 O", "reset", Broken),
])  # fmt: skip
async def test_a_hostile_server_ends_in_a_failure_and_leaves_nothing(raw, then, failure):
    async with before(says(raw, then=then), silence=0.05) as (server, pool):
        with pytest.raises(failure) as caught:
            await read(await sent(pool))
        assert type(caught.value) is failure
        await server.until(lambda: server.gone == 1)
        while pool.standing:
            await asyncio.sleep(0)
        assert (server.connections, len(server.requests), pool._places) == (1, 1, 0)


@on_both_loops
async def test_a_reply_until_the_end_of_the_connection_is_whole_with_it():
    async with before(says(b"HTTP/1.1 200 OK\r\n\r\nab", then="eof")) as (_, pool):
        assert await read(await sent(pool)) == b"ab"


@on_both_loops
async def test_a_large_body_arrives_and_an_early_reply_is_seen():
    body = bytes(range(256)) * 32_768
    async with before(answering) as (_, pool):
        assert await read(await sent(pool, body)) == body

    async def refusing(server, reader, writer, number):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig")
        await server.may_read.wait()

    async with before(refusing) as (server, pool):
        server.may_read = asyncio.Event()
        reply = await sent(pool, body)
        assert (reply.status, await read(reply), pool.idle) == (413, b"big", 0)
        server.may_read.set()


@on_both_loops
async def test_what_waits_for_its_reader_is_bounded():
    async def flood(server, reader, writer, number):
        await server.request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(128):
            writer.write(bytes(128 * 1024))
            await writer.drain()
        writer.write_eof()

    async with before(flood) as (_, pool):
        reply = await sent(pool)
        got, most = 0, 0
        while chunk := await reply.read():
            got, most = got + len(chunk), max(most, len(chunk))
            for _ in range(20):
                await asyncio.sleep(0)
        assert got == 128 * 128 * 1024 and most <= 2 * HELD_BYTES


def test_stale_is_a_kind_of_broken():
    assert issubclass(Stale, Broken)
