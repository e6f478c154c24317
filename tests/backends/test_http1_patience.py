"""One HTTP/1.1 exchange in time: silence, trickles, cancelling, and bodies that wait for room."""

import asyncio

import pytest

from insource.backends.http1 import HELD_BYTES, Connection
from insource.backends.http1_reply import Endless, Silent
from tests.backends.http1_wire import HEAD, OK, Wire, opened, run


async def fails_after(seconds, kind, *steps):
    """Whether the exchange has failed with Silent after the steps, with so many seconds before each."""
    connection, wire, _ = opened(kind, silence=10.0)
    reply = connection.send(HEAD, b"", bodyless=False)
    for step in steps:
        await asyncio.get_running_loop().pass_(seconds)
        step(wire, reply)
    failed = isinstance(reply.failure, Silent) and wire.closing
    reply.close()
    await asyncio.sleep(0)
    return failed


def says(raw):
    return lambda wire, reply: wire.hand(raw)


def nothing(wire, reply):
    pass


class Patient(Connection):
    """Broken: waits for ever."""

    def _watch(self):
        return None


class Trickled(Connection):
    """Broken: every byte of a head starts the wait anew."""

    def data_received(self, data):
        self._since = self._loop.time()
        super().data_received(data)


HEAD_ONLY = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(("steps", "broken"), [
    ([nothing] * 3, Patient),
    ([says(HEAD_ONLY)] + [nothing] * 3, Patient),
    ([says(HEAD_ONLY), says(b"1\r\na\r\n")] + [nothing] * 3, Patient),
    ([says(HEAD_ONLY[n : n + 1]) for n in range(6)], Trickled),
])  # fmt: skip
def test_silence_and_a_trickled_head_are_cut_off(steps, broken):
    assert run(fails_after(4.0, Connection, *steps))
    assert not run(fails_after(4.0, broken, *steps))


def test_a_trickled_body_passes_and_a_slow_reader_is_no_silence():
    assert not run(fails_after(9.0, Connection, says(HEAD_ONLY), *[says(b"1\r\na\r\n")] * 5))
    flood = b"%x\r\n" % (HELD_BYTES + 1) + b"x" * (HELD_BYTES + 1) + b"\r\n"
    assert not run(fails_after(9.0, Connection, says(HEAD_ONLY), says(flood), *[nothing] * 9))


@pytest.mark.parametrize("steps", [
    [says(HEAD_ONLY)] + [says(b"1\r\na\r\n")] * 5,  # steadily
    [says(HEAD_ONLY), says(b"%x\r\n" % (HELD_BYTES + 1) + b"x" * (HELD_BYTES + 1) + b"\r\n")] + [nothing] * 4,  # unread
    [nothing] * 6,
])  # fmt: skip
def test_a_reply_is_cut_off_where_it_is_not_whole_in_time(steps):
    async def failure(whole):
        connection = Connection(60.0, lambda _: None, lambda _: None, whole=whole)
        wire = Wire(connection)
        for exchange in (OK, None):  # the second runs on the first one's timer
            reply = connection.send(HEAD, b"", bodyless=False)
            if exchange is not None:
                wire.hand(exchange)
                await asyncio.get_running_loop().pass_(4.0)
        for step in steps:
            assert reply.failure is None
            await asyncio.get_running_loop().pass_(5.0)
            step(wire, reply)
        failed = reply.failure
        reply.close()
        await asyncio.sleep(0)
        return failed

    assert isinstance(run(failure(30.0)), Endless)
    assert run(failure(float("inf"))) is None  # the guard taken out


def test_one_timer_serves_many_exchanges():
    async def work():
        connection, wire, freed = opened(silence=10.0)
        timers = set()
        for _ in range(50):
            reply = connection.send(HEAD, b"", bodyless=False)
            timers.add(id(connection._timer))
            wire.hand(OK)
            await reply.head()
        assert len(timers) == 1 and len(freed) == 50
        await asyncio.get_running_loop().pass_(11)
        assert connection._timer is None and connection.alive  # nobody waits, so nothing is late

    run(work())


def test_cancelling_the_wait_cuts_the_connection():
    async def work():
        for raw in (b"", HEAD_ONLY):
            connection, wire, _ = opened()
            reply = connection.send(HEAD, b"", bodyless=False)
            wire.hand(raw) if raw else None
            job = asyncio.ensure_future(reply.read() if raw else reply.head())
            await asyncio.sleep(0)
            assert not wire.closing
            job.cancel()
            assert isinstance((await asyncio.gather(job, return_exceptions=True))[0], asyncio.CancelledError)
            assert wire.closing

    run(work())


def test_bytes_that_nobody_asked_for_end_the_connection():
    class Deaf(Connection):
        """Broken: keeps quiet about them."""

        def data_received(self, data):
            if self._reply is not None:
                super().data_received(data)

    async def ends(kind):
        connection, wire, _ = opened(kind)
        reply = connection.send(HEAD, b"", bodyless=False)
        wire.hand(OK)
        await reply.head()
        wire.hand(OK)
        return wire.closing

    assert run(ends(Connection))
    assert not run(ends(Deaf))


def test_a_large_body_waits_for_room_and_an_early_reply_ends_it():
    async def work():
        connection, wire, freed = opened()
        body = bytes(1_000_000)
        reply = connection.send(HEAD, body, bodyless=False)
        assert b"".join(wire.written) == HEAD + body  # nothing told it to wait
        wire.hand(OK)
        assert freed == [connection]
        wire.written.clear()
        connection.pause_writing()
        reply = connection.send(HEAD, body, bodyless=False)
        assert wire.written == [HEAD]
        connection.resume_writing()
        connection.pause_writing()
        wire.hand(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
        await reply.head()
        assert (reply.status, reply.whole) == (413, b"")

    run(work())


@pytest.mark.parametrize("left", ["in the transport", "with us"])
def test_a_connection_whose_request_is_not_out_is_not_used_again(left):
    async def work():
        connection, wire, freed = opened()
        if left == "with us":
            connection.pause_writing()
        else:
            wire.waiting = 10
        reply = connection.send(HEAD, bytes(100_000), bodyless=False)
        wire.hand(OK)
        await reply.head()
        assert reply.whole == b"hello" and not freed and wire.closing
        wire.waiting = 0
        connection.resume_writing()
        assert b"".join(wire.written) == HEAD + (b"" if left == "with us" else bytes(100_000))

    run(work())


def test_taking_bytes_is_no_silence():
    async def work():
        loop = asyncio.get_running_loop()
        connection, wire, _ = opened(silence=10.0)
        connection.pause_writing()
        reply = connection.send(HEAD, bytes(1_000_000), bodyless=False)
        for _ in range(5):
            await loop.pass_(9)
            connection.resume_writing()
            connection.pause_writing()
        assert reply.failure is None
        await loop.pass_(11)
        assert isinstance(reply.failure, Silent) and wire.closing

    run(work())
