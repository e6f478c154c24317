"""The pool before real servers on loopback, on both event loops."""

import asyncio
import socket

import pytest

from insource.backends.http1_pool import Pool
from insource.backends.http1_reply import Broken, Failed, Stale
from tests.backends.http1_server import answering, before, on_both_loops, read, reset, says, sent

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def until(event):
    """Answers each request once `event` allows one more."""

    async def serve(server, reader, writer, number):
        while True:
            body = await server.request(reader)
            await event.acquire()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)

    return serve


@on_both_loops
async def test_one_connection_serves_one_after_the_other_the_last_used_first():
    async with before(answering) as (server, pool):
        for n in range(5):
            assert await read(await sent(pool, b"%d" % n)) == b"%d" % n
        assert (server.connections, pool.standing, pool.idle) == (1, 1, 1)
        await asyncio.gather(*(sent(pool) for _ in range(3)))
        assert (server.connections, pool.idle) == (3, 3)
        last = list(pool._idle)[-1]
        await sent(pool)
        assert list(pool._idle)[-1] is last and server.connections == 3


@on_both_loops
async def test_small_writes_leave_at_once():
    async with before(answering) as (_, pool):
        await sent(pool)
        (connection,) = pool._idle
        raw = connection._transport.get_extra_info("socket")
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


class Unfair(Pool):
    """Broken: the last to come is the first to be served."""

    async def _turn(self, *, first):
        return await super()._turn(first=True)


class Unlimited(Pool):
    """Broken: opens as many as are asked for."""

    async def _acquire(self, *, fresh):
        self._limit = self._places + 1
        return await super()._acquire(fresh=fresh)


async def order_of(kind):
    """Send eight requests over two connections; return the order they came in, and how many stood at most."""
    gate = asyncio.Semaphore(0)
    async with before(until(gate), pool_kind=kind, connections=2) as (server, pool):
        jobs = []
        for n in range(8):
            jobs.append(asyncio.ensure_future(sent(pool, b"%d" % n)))
            await asyncio.sleep(0)
        most = 0
        for n in range(8):
            wanted = min(2 + n, 8)
            await server.until(lambda wanted=wanted: len(server.requests) >= wanted)
            most = max(most, pool.standing)
            gate.release()
        await asyncio.gather(*jobs)
        return server.requests, most


@on_both_loops
async def test_no_more_connections_than_allowed_and_waiting_is_fair():
    requests, most = await order_of(Pool)
    assert sorted(requests[:2]) == [b"0", b"1"] and requests[2:] == [b"%d" % n for n in range(2, 8)] and most == 2
    assert (await order_of(Unfair))[0][2:] != requests[2:]
    assert (await order_of(Unlimited))[1] > 2


class Cancelling(Pool):
    """Cancels a job just as its turn comes, before it can know."""

    victim = None

    def _freed(self, connection):
        super()._freed(connection)
        if self.victim is not None:
            self.victim.cancel()


@on_both_loops
async def test_a_turn_that_is_not_taken_is_the_next_ones():
    gate = asyncio.Semaphore(0)
    async with before(until(gate), pool_kind=Cancelling, connections=1) as (server, pool):
        jobs = []
        for n in range(4):
            jobs.append(asyncio.ensure_future(sent(pool, b"%d" % n)))
            await asyncio.sleep(0)
        await server.until(lambda: len(server.requests) == 1)
        jobs[1].cancel()  # while it waits
        pool.victim = jobs[2]
        gate.release()
        gate.release()
        assert await read(await jobs[3]) == b"3"
        for job in jobs[1:3]:
            assert isinstance((await asyncio.gather(job, return_exceptions=True))[0], asyncio.CancelledError)
        assert server.requests == [b"0", b"3"] and pool._places == 1


@on_both_loops
async def test_the_place_of_a_lost_connection_goes_to_the_next():
    async with before(says(b"", then="reset"), connections=1) as (server, pool):
        results = await asyncio.gather(*(sent(pool) for _ in range(4)), return_exceptions=True)
        assert [type(result) for result in results] == [Broken] * 4
        assert server.connections == 4
        assert pool._places == 0


def races(second=b"", third=OK):
    """The first connection ends at its second request, after `second`; the next says `third`."""

    async def serve(server, reader, writer, number):
        await server.request(reader)
        if number == 1:
            writer.write(OK)
            await server.request(reader)
            writer.write(second)
            reset(writer) if not second else writer.close()
        elif third:
            writer.write(third)
        else:
            reset(writer)

    return serve


@on_both_loops
async def test_the_keep_alive_race_is_run_again_once():
    async with before(races()) as (server, pool):
        await sent(pool, b"a")
        assert await read(await sent(pool, b"b")) == b"ok"
        assert server.requests == [b"a", b"b", b"b"] and server.connections == 2


@on_both_loops
async def test_it_is_run_again_only_where_that_is_allowed():
    asked = []
    async with before(races(), resend=lambda: asked.append(1)) as (server, pool):
        await sent(pool, b"a")
        with pytest.raises(Stale):
            await sent(pool, b"b")
        assert server.requests == [b"a", b"b"] and asked == [1]
    async with before(races(), resend=lambda: True) as (server, pool):
        assert (await sent(pool, b"a")).sent == 1
        assert (await sent(pool, b"b")).sent == 2


@on_both_loops
async def test_it_is_run_again_when_all_places_are_taken_as_well():
    async with before(races(), connections=1) as (server, pool):
        await sent(pool, b"a")
        replies = await asyncio.gather(sent(pool, b"b"), sent(pool, b"c"))
        assert [await read(reply) for reply in replies] == [b"ok", b"ok"]
        assert server.requests == [b"a", b"b", b"c", b"b"] and server.connections == 3


@on_both_loops
async def test_what_is_no_race_is_sent_once():
    async def attempts(serve, first, **more):
        async with before(serve, **more) as (server, pool):
            for _ in range(first):
                await sent(pool)
            with pytest.raises(Failed) as caught:
                await sent(pool)
            return len(server.requests) - first, caught.value.sent

    assert await attempts(says(b"", then="reset"), 0) == (1, 1)  # a new connection
    assert await attempts(says(b"", then="eof"), 0) == (1, 1)
    assert await attempts(races(b"HT"), 1) == (1, 1)  # a reply had begun
    assert await attempts(races(), 1, race=-1.0) == (1, 1)  # long after the request
    assert await attempts(races(third=b""), 1) == (2, 2)  # once more, and not again


@on_both_loops
async def test_a_connection_that_the_other_side_ended_is_not_used():
    async def once(server, reader, writer, number):
        await server.request(reader)
        writer.write(OK)
        await server.more.wait()
        writer.write(server.parting)
        writer.close()

    for parting in (b"", b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n", b"\r\n"):
        async with before(once) as (server, pool):
            server.more, server.parting = asyncio.Event(), parting
            await sent(pool)
            server.more.set()
            while pool.standing:
                await asyncio.sleep(0)
            assert (pool.idle, pool._places) == (0, 0)
            assert await read(await sent(pool)) == b"ok"
            assert len(server.requests) == server.connections == 2


class Clock(asyncio.SelectorEventLoop):
    """A loop whose time is real, and more where it is told so."""

    ahead = 0.0

    def time(self):
        return super().time() + self.ahead


def test_idle_connections_are_closed():
    async def work():
        async with before(answering, idle=15.0) as (server, pool):
            await asyncio.gather(sent(pool), sent(pool))
            asyncio.get_running_loop().ahead += 10
            await sent(pool)
            assert pool.idle == 2
            asyncio.get_running_loop().ahead += 10
            await server.until(lambda: server.gone == 1)
            assert pool.idle == 1  # the one used ten seconds ago
            asyncio.get_running_loop().ahead += 10
            await server.until(lambda: server.gone == 2)
            assert (pool.idle, pool.standing, pool._places) == (0, 0, 0)

    with asyncio.Runner(loop_factory=Clock) as runner:
        runner.run(asyncio.wait_for(work(), 60))


@on_both_loops
async def test_cancelling_or_closing_cuts_the_connection_at_once():
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab"
    async with before(says(b"")) as (server, pool):
        job = asyncio.ensure_future(sent(pool))
        await server.until(lambda: server.requests)
        job.cancel()
        await server.until(lambda: server.gone == 1)
    async with before(says(head)) as (server, pool):
        reply = await sent(pool)
        assert await reply.read() == b"ab"
        reply.close()
        await server.until(lambda: server.gone == 1)
        with pytest.raises(Broken):
            await reply.read()


@on_both_loops
async def test_cancelling_while_connecting_gives_the_place_back():
    async with before(answering, connections=1) as (_, pool):
        for turns in range(6):
            job = asyncio.ensure_future(sent(pool))
            for _ in range(turns):
                await asyncio.sleep(0)
            job.cancel()
            await asyncio.gather(job, return_exceptions=True)
        while pool._places != pool.idle:
            await asyncio.sleep(0)
        assert await read(await sent(pool)) == b"x"


@on_both_loops
async def test_closing_ends_all():
    async with before(says(b""), connections=1) as (server, pool):
        jobs = [asyncio.ensure_future(sent(pool)) for _ in range(3)]
        await server.until(lambda: server.requests)
        await pool.close()
        assert pool.standing == 0
        results = await asyncio.gather(*jobs, return_exceptions=True)
        assert [type(result) for result in results] == [Broken] * 3
        with pytest.raises(Broken, match="closed here"):
            await sent(pool)
