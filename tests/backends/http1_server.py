"""A server whose every connection a test scripts, and a pool before it."""

import asyncio
import functools
import inspect
import socket
import ssl
from contextlib import asynccontextmanager

import pytest
import uvloop

from insource.backends.http1_pool import Pool

HEAD = b"POST /v1/x HTTP/1.1\r\nhost: u\r\ncontent-length: %d\r\n\r\n"

# For these tests only, valid for 127.0.0.1, ::1 and localhost until 2126; nothing else trusts it.
CERTIFICATE = """-----BEGIN CERTIFICATE-----
MIIBqzCCAVKgAwIBAgIUGcF8BwWRlyX7QL+WPlR/5evH7YAwCgYIKoZIzj0EAwIw
EzERMA8GA1UEAwwIbG9vcGJhY2swIBcNMjYxMTIyMDMyNjE3WhgPMjEyNjEwMjkw
MzI2MTdaMBMxETAPBgNVBAMMCGxvb3BiYWNrMFkwEwYHKoZIzj0CAQYIKoZIzj0D
AQcDQgAEqnBD3rETqnP8uTaD0K+cGlNYDv5x14tHu+ozCki7qFm52/zggd/qIWzf
IteEYY4KEWrQanDnvfKHHjwmtBrIRKOBgTB/MB0GA1UdDgQWBBSm/UrUdhdKURxJ
LujdJL2zdZawcDAfBgNVHSMEGDAWgBSm/UrUdhdKURxJLujdJL2zdZawcDAPBgNV
HRMBAf8EBTADAQH/MCwGA1UdEQQlMCOHBH8AAAGHEAAAAAAAAAAAAAAAAAAAAAGC
CWxvY2FsaG9zdDAKBggqhkjOPQQDAgNHADBEAiB3GqGwTCLGYjXzhooyBG3p7BAE
67Q6qccbOUH49YSrNAIgdX1qR7K+ZSepz1AKTG2qY9q74mrQmyN+aDSUoe5sp6o=
-----END CERTIFICATE-----
"""
KEY = """-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgnsYZacJ1O6fADzXR
j77ugAUZNrmF3VHmnizcQmx24EuhRANCAASqcEPesROqc/y5NoPQr5waU1gO/nHX
i0e76jMKSLuoWbnb/OCB3+ohbN8i14RhjgoRatBqcOe98ocePCa0GshE
-----END PRIVATE KEY-----
"""


def on_both_loops(test):
    @functools.wraps(test)
    def run(new_loop, **given):
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(asyncio.wait_for(test(**given), 20))

    parameters = list(inspect.signature(test).parameters.values())
    new_loop = inspect.Parameter("new_loop", inspect.Parameter.KEYWORD_ONLY)
    run.__signature__ = inspect.Signature([*parameters, new_loop])
    del run.__wrapped__
    loops = [asyncio.new_event_loop, uvloop.new_event_loop]
    return pytest.mark.parametrize("new_loop", loops, ids=["asyncio", "uvloop"])(run)


class Server:
    """Accepts connections, reads requests, and lets `serve(server, reader, writer, number)` do the rest."""

    def __init__(self, serve):
        self.serve, self.connections, self.requests, self.gone = serve, 0, [], 0
        self.changed = asyncio.Event()
        self.jobs = set()

    async def accept(self, reader, writer):
        self.connections += 1
        self.jobs.add(asyncio.current_task())
        try:
            await self.serve(self, reader, writer, self.connections)
            await reader.read()  # until the other side leaves
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            self.gone += 1
            self.changed.set()

    async def request(self, reader):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        self.requests.append(body)
        self.changed.set()
        return body

    async def until(self, met):
        while not met():
            self.changed.clear()
            await self.changed.wait()


@asynccontextmanager
async def before(serve, *, pool_kind=Pool, server_tls=None, host="127.0.0.1", **more):
    server = Server(serve)
    listening = await asyncio.start_server(server.accept, host, 0, ssl=server_tls)
    port = listening.sockets[0].getsockname()[1]
    pool = pool_kind(host, port, **more)
    try:
        yield server, pool
        await pool.close()
        assert pool.standing == 0
        await server.until(lambda: server.gone == server.connections)
    finally:
        listening.close()
        for job in server.jobs:
            job.cancel()


async def sent(pool, body=b"x", **more):
    return await pool.exchange(HEAD % len(body), body, **more)


async def read(reply):
    chunks = []
    while chunk := await reply.read():
        chunks.append(chunk)
    return b"".join(chunks)


async def answering(server, reader, writer, number):
    while True:
        body = await server.request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()


def says(raw, *, then=None):
    async def serve(server, reader, writer, number):
        await server.request(reader)
        writer.write(raw)
        if then == "eof":
            writer.write_eof()
        elif then == "reset":
            reset(writer)

    return serve


def reset(writer):
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()


def server_tls(folder):
    (folder / "both.pem").write_text(CERTIFICATE + KEY)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "both.pem")
    return context
