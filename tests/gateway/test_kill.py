"""The gateway as processes: killed under load it loses nothing it acknowledged; stopped by SIGTERM it loses nothing."""

import asyncio
import importlib.util
import signal
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import aiohttp
import pytest

from insource.backends.scripted import scripted_app
from insource.gateway.server import ServerThread
from insource.store.registry import Registry
from insource.types import Calibration

_SPEC = importlib.util.spec_from_file_location("processes", Path(__file__).with_name("processes.py"))
p = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(p)

CALIBRATION = Calibration("band", 0.05, 0.95, 100, 0.5, 0.5, 50, 0, 0.04, 0.9)
READY_SECONDS = 2.0


@pytest.fixture
def home(tmp_path):
    with Registry.open(tmp_path) as registry:
        version = registry.register("triage", "linear", "d" * 64, CALIBRATION, {}, datetime.now(UTC))
        registry.promote("triage", version.version, "tester", "test", datetime.now(UTC))
    return tmp_path


@pytest.fixture
def upstream():
    with ServerThread(scripted_app({"hello": "Hi.", "sure": "yes"}), drain=1) as server:
        yield server.url + "/v1"


@pytest.fixture
def process(home, upstream):
    return p.Process(home, upstream)


async def kill_often(process, kills):
    """Kill the first process, workers and all, at random moments under load."""
    acknowledged, starts, random = [], [], Random(1)
    for _ in range(kills):
        starts.append(await process.start())
        enough = len(acknowledged) + random.randrange(1, 60)
        jobs = [asyncio.ensure_future(p.load(process.url, acknowledged)) for _ in range(4)]
        while len(acknowledged) < enough and not any(job.done() for job in jobs):
            await asyncio.sleep(0)
        workers = process.workers()
        assert workers
        await process.end(signal.SIGKILL)
        async with asyncio.timeout(2.0):  # the promise: no worker outlives its supervisor by more
            while not all(map(p.gone, workers)):
                await asyncio.sleep(0.01)
        await asyncio.gather(*jobs)
    starts.append(await p.restart_and_stop(process))
    assert len(acknowledged) >= kills
    p.check_ledger(process.home, acknowledged)
    return starts


async def test_two_kills_lose_nothing_acknowledged(process):
    await kill_often(process, 2)


@pytest.mark.slow
async def test_two_hundred_kills_lose_nothing_acknowledged_and_each_start_is_quick(process):
    starts = await kill_often(process, 200)
    assert sorted(starts)[int(len(starts) * 0.95)] < READY_SECONDS


async def test_sigterm_settles_all_and_closes(process):
    await process.start()
    acknowledged = []
    jobs = [asyncio.ensure_future(p.load(process.url, acknowledged)) for _ in range(4)]
    while len(acknowledged) < 50:
        await asyncio.sleep(0)
    assert await process.end(signal.SIGTERM) == 0
    await asyncio.gather(*jobs)
    rows, acts = p.check_ledger(process.home, acknowledged)
    assert all(row.settlement is not None for row in rows)
    said = "".join(process.said)
    assert f"insource listens on {process.url}/v1 (loopback only)" in said
    assert "digests only, no texts; kept for 30 days" in said
    assert "never erased: rows of the ledger, which hold no text, and artifacts" in said
    assert said.endswith("closed\n")
    assert {path.name for path in process.home.glob("gateway.*")} == set()
    assert list(process.home.glob(".metrics-*")) == []


async def test_two_gateways_on_one_ledger_are_refused(process):
    await process.start()
    other = p.Process(process.home, process.upstream)
    await other.start()
    assert await other.process.wait() != 0
    async with aiohttp.ClientSession(process.url) as client, client.get("/readyz") as reply:
        assert reply.status == 200
    await process.end(signal.SIGTERM)


@pytest.mark.slow
async def test_twenty_rolling_restarts_lose_nothing_and_leave_nothing_open(process):
    process.configure(workers=2)
    acknowledged = []
    for _ in range(20):
        await process.start()
        enough = len(acknowledged) + 40
        jobs = [asyncio.ensure_future(p.load(process.url, acknowledged)) for _ in range(4)]
        while len(acknowledged) < enough and not all(job.done() for job in jobs):
            await asyncio.sleep(0)
        assert await process.end(signal.SIGTERM) == 0
        await asyncio.gather(*jobs)
    rows, _ = p.check_ledger(process.home, acknowledged)
    assert all(row.settlement is not None for row in rows)
