"""The ledger over a socket: what a worker's client and the server promise each other."""

import asyncio
import logging
import socket
import threading
from contextlib import asynccontextmanager

import msgspec
import pytest

from insource.errors import Overloaded, StoreError, StoreFull
from insource.store import columns
from insource.store.frames import LARGEST, SentJob, Splitter, frame, wire_job
from insource.store.insert import COLUMNS
from insource.store.ledger_client import LedgerClient
from insource.store.ledger_reader import LedgerReader
from insource.store.ledger_server import LedgerServer
from insource.store.rows import RowMaker


@asynccontextmanager
async def joined(ledger, noon, **more):
    """A client and the server it is connected to."""
    here, there = socket.socketpair()
    server = LedgerServer(ledger)
    await server.serve(there)
    client = await LedgerClient.connect(here, clock=lambda: noon, **more)
    try:
        yield client, server
    finally:
        await client.close()
        server.close()
        await left(server)


async def left(server):
    async with asyncio.timeout(10):
        while server.connections:
            await asyncio.sleep(0)


def rows(ledger):
    with LedgerReader(ledger.path.parent) as reader:
        return {row.decision.request_id: row for row in reader.rows()}


async def test_everything_arrives_as_it_would_in_the_writers_own_process(open_ledger, make, noon):
    ledger = open_ledger()
    async with joined(ledger, noon) as (client, _):
        await client.append(make.decision(1), make.content(1), keep_text=True)
        await client.append(make.decision(2), make.content(2))
        settled = client.settle(make.settlement(1))
        audited = client.audit(make.audit(1), make.content(1, reference="card"))
        acted = client.act("mia", "promote", "triage@3", "better")
        await asyncio.gather(settled, audited, acted)
        assert client.waiting == 0 and client.lost == 0
    found = rows(ledger)
    assert found["r-1"].decision == make.decision(1) and found["r-1"].settlement == make.settlement(1)
    assert found["r-1"].audits == (make.audit(1),) and found["r-1"].content.text == make.content(1).text
    assert found["r-2"].content is None and found["r-2"].content_digest is not None
    with LedgerReader(ledger.path.parent) as reader:
        assert reader.acts("triage@3")[0].who == "mia"
        assert reader.proves(make.content(2))


async def test_a_decision_is_durable_when_append_returns(open_ledger, make, noon):
    ledger = open_ledger()
    async with joined(ledger, noon) as (client, _):
        for n in range(20):
            await client.append(make.decision(n))
            assert f"r-{n}" in rows(ledger)


async def test_control_a_server_that_answers_too_early_is_caught(open_ledger, make, noon):
    class Early:
        """Answers every job and writes none."""

        def put(self, jobs):
            for job in jobs:
                job.resolve()

    ledger = open_ledger()
    async with joined(Early(), noon) as (client, _):
        await client.append(make.decision(1))
        assert "r-1" not in rows(ledger)


async def test_many_clients_write_at_once_and_each_learns_of_its_own(open_ledger, make, noon):
    ledger = open_ledger()
    server = LedgerServer(ledger)
    clients = []
    for _ in range(3):
        here, there = socket.socketpair()
        await server.serve(there)
        clients.append(await LedgerClient.connect(here, clock=lambda: noon))
    await clients[0].append(make.decision("same"))
    results = await asyncio.gather(
        *(client.append(make.decision(f"{k}-{n}")) for k, client in enumerate(clients) for n in range(50)),
        clients[1].append(make.decision("same")),
        return_exceptions=True,
    )
    assert [result for result in results if result is not None] == [results[-1]]
    assert isinstance(results[-1], StoreError) and "refused a row" in str(results[-1])
    assert len(rows(ledger)) == 151
    for client in clients:
        await client.close()
    server.close()
    await left(server)


async def test_one_row_that_cannot_be_sent_fails_alone(open_ledger, make, noon):
    async with joined(open_ledger(), noon) as (client, _):
        results = await asyncio.gather(
            *(client.append(make.decision(name)) for name in ("a", "\ud800", "b")), return_exceptions=True
        )
        assert [type(result) for result in results] == [type(None), StoreError, type(None)]
        assert "cannot be sent" in str(results[1])


async def test_too_many_unacknowledged_rows_are_refused(open_ledger, make, noon):
    async with joined(open_ledger(), noon, bound=2) as (client, _):
        first = [asyncio.ensure_future(client.append(make.decision(n))) for n in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="2 rows wait"):
            await client.append(make.decision(3))
        with pytest.raises(Overloaded):
            client.note(make.decision(3))
        await client.settle(make.settlement(0))  # belongs to work already admitted
        await asyncio.gather(*first)
        await client.append(make.decision(3))


async def test_the_writers_own_bound_refuses_decisions_but_no_settlement(open_ledger, make, noon):
    ledger, held, free = open_ledger(bound=2), threading.Event(), threading.Event()
    ledger._commits.submit(lambda: held.set() or free.wait(10), patient=False)  # holds up the writer's thread
    assert held.wait(10)
    ledger.act("mia", "look", "x"), ledger.act("mia", "look", "y")
    async with joined(ledger, noon) as (client, _):
        try:
            with pytest.raises(Overloaded):
                await client.append(make.decision(1))
            acted = client.act("mia", "look", "z")
        finally:
            free.set()
        await acted


async def test_when_the_server_is_gone_everything_fails_and_stays_so(open_ledger, make, noon):
    class Silent:
        def put(self, jobs):
            """Take jobs and never answer."""

    told = []
    here, there = socket.socketpair()
    server = LedgerServer(Silent())
    await server.serve(there)
    client = await LedgerClient.connect(here, clock=lambda: noon, gone=lambda: told.append(1))
    waiting = [asyncio.ensure_future(client.append(make.decision(n))) for n in range(3)]
    client.settle(make.settlement(1))
    client.note(make.decision(9))
    await asyncio.sleep(0)
    server.close()
    for result in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(result, StoreError) and "process is gone" in str(result)
    assert told == [1] and client.waiting == 0 and client.lost == 2 and client.failing is not None
    with pytest.raises(StoreError, match="is gone"):
        await client.append(make.decision(4))
    for queue in (client.note, lambda _: client.settle(make.settlement(4)), lambda _: client.act("a", "b", "c")):
        with pytest.raises(StoreError, match="is gone"):
            queue(make.decision(4))
    with pytest.raises(StoreError, match="is gone"):
        await client.purge(noon)
    await client.close()


async def test_a_noted_decision_that_fails_is_counted_and_shows_until_a_row_is_written(open_ledger, make, noon):
    async with joined(open_ledger(), noon) as (client, _):
        client.note(make.decision(1))
        await client.settle(make.settlement(1))
        assert client.failing is None
        client.note(make.decision(1))
        await until(lambda: client.waiting == 0)
        assert isinstance(client.failing, StoreError) and client.lost == 1
        await client.append(make.decision(2))
        assert client.failing is None


async def test_in_the_writers_own_process_too(open_ledger, make):
    ledger = open_ledger()
    ledger.note(make.decision(1))
    ledger.note(make.decision(1))
    await until(lambda: ledger.waiting == 0 and ledger.lost == 1)
    assert isinstance(ledger.failing, StoreError)
    await ledger.append(make.decision(2))
    assert ledger.failing is None and set(rows(ledger)) == {"r-1", "r-2"}


async def test_a_full_disk_is_told_as_such(open_ledger, make, noon):
    async with joined(open_ledger(max_pages=40), noon) as (client, _):
        with pytest.raises(StoreFull):
            for n in range(1_000):
                await client.append(make.decision(n, detail="x" * 3_000))


async def until(true):
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0)


async def test_contents_are_erased_by_the_servers_clock_not_the_clients(open_ledger, make, noon, later):
    async with joined(open_ledger(), noon) as (client, _):
        await client.append(make.decision(1), make.content(1), keep_text=True)
        assert await client.purge(later) == 0  # the server's clock stands at noon
        client.settle(make.settlement(1))
        assert await client.purge(noon) == 0


GOOD = wire_job(RowMaker(None)._rows("acts", lambda noun, digest: noun, (1, "a", "b", "c", None), None, False), True)


@pytest.mark.parametrize(
    "body",
    [
        b"\xc1",
        msgspec.msgpack.encode("hello"),
        msgspec.msgpack.encode((0, [(True, None, None, None, None, None)])),
        msgspec.msgpack.encode((0, [(True, None, None, None, (1, "a", "b", "c"), None)])),
        msgspec.msgpack.encode((0, [(True, None, None, None, ("1", "a", "b", "c", None), None)])),
        msgspec.msgpack.encode((0, [(*GOOD[:-1], (b"", None, None, None, 1, None, 1))])),
        msgspec.msgpack.encode((0, [(*GOOD, "more")])),
        msgspec.msgpack.encode((-1, [GOOD])),
    ],
)
async def test_what_is_no_row_ends_that_connection_and_no_other(open_ledger, make, noon, body, caplog):
    ledger = open_ledger()
    async with joined(ledger, noon) as (client, server):
        here, there = socket.socketpair()
        await server.serve(there)
        loop = asyncio.get_running_loop()
        with here, caplog.at_level(logging.ERROR, "insource.store"):
            here.setblocking(False)
            await loop.sock_sendall(here, frame(body))
            async with asyncio.timeout(10):
                try:
                    assert await loop.sock_recv(here, 1) == b""
                except ConnectionResetError:
                    pass
        assert "its connection is closed" in caplog.text
        await client.append(make.decision(1))


async def test_control_a_row_is_taken(open_ledger, noon):
    async with joined(open_ledger(), noon) as (_, server):
        here, there = socket.socketpair()
        await server.serve(there)
        loop = asyncio.get_running_loop()
        with here:
            here.setblocking(False)
            await loop.sock_sendall(here, frame(msgspec.msgpack.encode((0, [GOOD]))))
            async with asyncio.timeout(10):
                assert await loop.sock_recv(here, 1) == b"\0"


async def test_a_flood_is_read_no_further_until_some_is_answered(make, noon):
    class Slow:
        def __init__(self):
            self.jobs = []

        def put(self, jobs):
            self.jobs += jobs

    slow = Slow()
    here, there = socket.socketpair()
    server = LedgerServer(slow, most_unanswered=10)
    await server.serve(there)
    client = await LedgerClient.connect(here, clock=lambda: noon)
    for n in range(10):
        client.note(make.decision(n))
    await until(lambda: len(slow.jobs) == 10)
    for n in range(10, 15):
        client.note(make.decision(n))
        for _ in range(20):
            await asyncio.sleep(0)
    assert len(slow.jobs) == 10
    for job in slow.jobs[:10]:
        job.resolve()
    await until(lambda: len(slow.jobs) == 15)
    for job in slow.jobs[10:]:
        job.resolve()
    await client.close()
    server.close()
    await left(server)


def test_frames_are_cut_wherever_the_bytes_were():
    stream = b"".join(frame(bytes([n]) * n) for n in range(20))
    for step in (1, 3, 7, len(stream)):
        splitter = Splitter()
        found = [body for at in range(0, len(stream), step) for body in splitter.feed(stream[at : at + step])]
        assert found == [bytes([n]) * n for n in range(20)]
    with pytest.raises(ValueError, match="was announced"):
        list(Splitter().feed((LARGEST + 1).to_bytes(4, "big")))


def test_the_shapes_on_the_wire_are_those_of_the_tables():
    from typing import get_args, get_type_hints

    hints = get_type_hints(SentJob)
    names = dict(zip(("decision", "settlement", "audit", "act", "feedback", "content"), COLUMNS, strict=True))
    for field, table in names.items():
        (row,) = [part for part in get_args(hints[field]) if part is not type(None)]
        added = 2 if table == "contents" else 1  # the number is the writer's, as is the key of the day
        assert len(get_args(row)) == len(COLUMNS[table].split(",")) - added, table
    assert columns.DECISION in COLUMNS["decisions"]
