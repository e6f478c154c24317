"""The gateway as a process: killed under load it loses nothing it acknowledged; stopped by SIGTERM it loses nothing."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import aiohttp
import pytest

from insource.backends.scripted import scripted_app
from insource.gateway.server import ServerThread
from insource.store.ledger_reader import LedgerReader
from insource.store.registry import Registry
from insource.types import Calibration

ROOT = Path(__file__).parents[2]
CALIBRATION = Calibration("band", 0.05, 0.95, 100, 0.5, 0.5, 50, 0, 0.04, 0.9)
READY_SECONDS = 2.0
SURE = {"model": "task:triage", "messages": [{"role": "user", "content": "sure"}]}
UP = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}], "stream": True}


class Process:
    """The gateway's process on a fixed port, started again after every kill."""

    def __init__(self, home, upstream):
        self.home, self.upstream = home, upstream
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    async def start(self):
        """Return once it says that it listens; the seconds from the start are what is returned."""
        script = Path(__file__).with_name("run_gateway.py")
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(script),
            str(self.home),
            str(self.port),
            self.upstream,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )
        begun = asyncio.get_running_loop().time()
        self.said = [(await self.process.stdout.readline()).decode()]
        return asyncio.get_running_loop().time() - begun

    async def end(self, number):
        self.process.send_signal(number)
        self.said += [line.decode() for line in await _lines(self.process.stdout)]
        return await self.process.wait()


async def _lines(stream):
    return [line async for line in stream]


async def load(url, acknowledged):
    """Send both kinds of request until the gateway is gone, keeping every identifier that came with a reply's head."""
    async with aiohttp.ClientSession(url) as client:
        with suppress(aiohttp.ClientError, ConnectionError):
            while True:
                for body in (SURE, UP):
                    async with client.post("/v1/chat/completions", json=body) as reply:
                        assert reply.status == 200
                        acknowledged.append(reply.headers["x-insource-request-id"])
                        await reply.read()


@pytest.fixture
def process(tmp_path):
    with Registry.open(tmp_path) as registry:
        version = registry.register("triage", "linear", "d" * 64, CALIBRATION, {}, datetime.now(UTC))
        registry.promote("triage", version.version, "tester", "test", datetime.now(UTC))
    with ServerThread(scripted_app({"hello": "Hi.", "sure": "yes"}), drain=1) as upstream:
        yield Process(tmp_path, upstream.url + "/v1")


async def kill_often(process, kills):
    acknowledged, starts, random = [], [], Random(1)
    for _ in range(kills):
        starts.append(await process.start())
        enough = len(acknowledged) + random.randrange(1, 60)
        jobs = [asyncio.ensure_future(load(process.url, acknowledged)) for _ in range(4)]
        while len(acknowledged) < enough and not any(job.done() for job in jobs):
            await asyncio.sleep(0)
        await process.end(signal.SIGKILL)
        await asyncio.gather(*jobs)
    starts.append(await process.start())
    assert await process.end(signal.SIGTERM) == 0
    with LedgerReader(process.home) as ledger:
        rows = list(ledger.rows())
        recorded = {row.decision.request_id for row in rows}
        unsettled = [row for row in rows if row.settlement is None]
        assert all(row.aborted for row in unsettled)
    assert len(acknowledged) >= kills and len(set(acknowledged)) == len(acknowledged)
    assert set(acknowledged) <= recorded
    return starts


async def test_three_kills_lose_nothing_acknowledged(process):
    await kill_often(process, 3)


@pytest.mark.slow
async def test_two_hundred_kills_lose_nothing_acknowledged_and_each_start_is_quick(process):
    starts = await kill_often(process, 200)
    assert sorted(starts)[int(len(starts) * 0.95)] < READY_SECONDS


async def test_sigterm_settles_all_and_closes(process):
    await process.start()
    acknowledged = []
    jobs = [asyncio.ensure_future(load(process.url, acknowledged)) for _ in range(4)]
    while len(acknowledged) < 50:
        await asyncio.sleep(0)
    assert await process.end(signal.SIGTERM) == 0
    await asyncio.gather(*jobs)
    with LedgerReader(process.home) as ledger:
        rows = {row.decision.request_id: row for row in ledger.rows()}
    assert set(acknowledged) <= set(rows)
    assert all(row.settlement is not None for row in rows.values())
    said = "".join(process.said)
    assert f"insource listens on {process.url}/v1 (loopback only)" in said
    assert "digests only, no texts; kept for 30 days" in said
    assert said.endswith("closed\n")


async def test_two_gateways_on_one_ledger_are_refused(process):
    await process.start()
    other = Process(process.home, process.upstream)
    other_start = asyncio.ensure_future(other.start())
    await other_start
    assert await other.process.wait() != 0
    async with aiohttp.ClientSession(process.url) as client, client.get("/readyz") as reply:
        assert reply.status == 200
    await process.end(signal.SIGTERM)
