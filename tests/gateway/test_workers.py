"""Several workers behind one ledger: killed, reloaded and drained as processes, and the parts that decide when."""

import asyncio
import importlib.util
import json
import os
import signal
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest

from insource.backends.scripted import scripted_app
from insource.config.given import Given
from insource.errors import ConfigError, StoreBusy
from insource.gateway.control import Message, error_told
from insource.gateway.reloading import check_fixed
from insource.gateway.running import PID_FILE, Running, find_running, read_status
from insource.gateway.server import ServerThread
from insource.gateway.supervisor import Pace
from insource.store.ledger import Ledger
from insource.store.registry import Registry
from insource.types import Calibration

_SPEC = importlib.util.spec_from_file_location("processes", Path(__file__).with_name("processes.py"))
p = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(p)

CALIBRATION = Calibration("band", 0.05, 0.95, 100, 0.5, 0.5, 50, 0, 0.04, 0.9)
CLIENTS = 6


class Gated:
    """An upstream whose reply begins at once and ends when it is told."""

    def __init__(self):
        self.begun, self.end = asyncio.Event(), asyncio.Event()
        self.loop = asyncio.get_running_loop()

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        self.loop.call_soon_threadsafe(self.begun.set)
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.end.wait(), self.loop))
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


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
async def process(home, upstream):
    process = p.Process(home, upstream, workers=2)
    yield process
    if process.process.returncode is None:
        await process.end(signal.SIGKILL)


async def kill_a_worker(process, times):
    acknowledged, failed, done = [], [[] for _ in range(CLIENTS)], []
    await process.start()
    jobs = [asyncio.ensure_future(p.load(process.url, acknowledged, one, lambda: bool(done))) for one in failed]
    for kill in range(times):
        enough = len(acknowledged) + 60
        await p.until(lambda n=enough: len(acknowledged) >= n)
        before = process.workers()
        os.kill(before[kill % 2], signal.SIGKILL)
        await p.until(lambda b=before: len(process.workers()) == 2 and set(process.workers()) != set(b))
    await asyncio.sleep(0)
    enough = len(acknowledged) + 60
    await p.until(lambda: len(acknowledged) >= enough)
    done.append(1)
    await asyncio.gather(*jobs)
    assert await process.end(signal.SIGTERM) == 0
    await p.restart_and_stop(process)
    rows, acts = p.check_ledger(process.home, acknowledged)
    assert max(map(len, failed)) <= times  # only connections to the worker that was killed break
    assert sum(act.what == "worker ended" and "signal 9" in act.detail for act in acts) == times
    assert any(row.settlement is not None for row in rows)


async def test_a_killed_worker_loses_nothing_acknowledged_and_is_started_again(process):
    await kill_a_worker(process, 1)


@pytest.mark.slow
async def test_thirty_killed_workers_lose_nothing_acknowledged(process):
    await kill_a_worker(process, 30)


async def test_control_a_writer_that_acknowledges_too_early_fails_the_check(process):
    await process.start("early")
    acknowledged = []
    jobs = [asyncio.ensure_future(p.load(process.url, acknowledged)) for _ in range(2)]
    await p.until(lambda: len(acknowledged) >= 10)
    await process.end(signal.SIGKILL)
    await asyncio.gather(*jobs)
    await p.restart_and_stop(process)
    with pytest.raises(AssertionError):
        p.check_ledger(process.home, acknowledged)


async def reload(process):
    """Have the gateway reload, and return what it says of it."""
    number = read_status(process.home).reload.number
    process.process.send_signal(signal.SIGHUP)
    await p.until(lambda: read_status(process.home).reload.number > number)
    return read_status(process.home).reload


async def metrics(url):
    async with aiohttp.ClientSession(url) as client, client.get("/metrics") as reply:
        return await reply.text()


async def test_a_configuration_is_taken_over_by_all_workers_or_by_none(process):
    await process.start()
    workers = process.workers()
    assert find_running(process.home) == process.process.pid
    assert (process.home / PID_FILE).stat().st_mode & 0o777 == 0o600
    good = (process.home / "insource.toml").read_text()
    process.configure(good + "[tasks.more]\n")
    assert (await reload(process)).result == "loaded"
    for text, says in [
        (good + "[tasks.x]\nno_such_key = 1\n", "no_such_key"),
        (good + "broken", "not TOML"),
        (good.replace("workers = 2", "workers = 3"), "gateway.workers"),
        (good + '[upstreams.more]\nbase_url = "http://127.0.0.1:1"\napi_key_env = "NO_SUCH_KEY"\n', "NO_SUCH_KEY"),
    ]:
        process.configure(text)
        told = await reload(process)
        assert told.result == "refused" and says in told.message
        acknowledged = []
        await p.load(process.url, acknowledged, None, lambda a=acknowledged: len(a) >= 2)
        assert len(acknowledged) == 2
    assert process.workers() == workers
    await p.until(lambda: True)
    text = await metrics(process.url)
    assert 'insource_config_reloads_total{result="loaded"}' in text
    async with aiohttp.ClientSession(process.url) as client:  # the good one is the one that is served
        async with client.get("/v1/models") as reply:
            assert "task:more" in [card["id"] for card in json.loads(await reply.text())["data"]]
    assert await process.end(signal.SIGTERM) == 0
    _, acts = p.check_ledger(process.home, [])
    told = [act.what for act in acts if act.what.startswith("configuration")]
    assert told == ["configuration loaded"] + ["configuration refused"] * 4


@pytest.mark.parametrize("ending", ["stream ends", "deadline", "second signal"])
async def test_sigterm_lets_streams_end_within_the_deadline(home, ending):
    gated = Gated()
    with ServerThread(gated, drain=1) as upstream:
        process = p.Process(home, upstream.url + "/v1", workers=1, drain_s=1 if ending == "deadline" else 60)
        await process.start()
        async with aiohttp.ClientSession(process.url) as client, aiohttp.ClientSession(process.url) as other:
            async with other.get("/readyz") as reply:
                assert reply.status == 200
            async with client.post("/v1/chat/completions", json=p.UP) as reply:
                assert await reply.content.readline() == b"data: 1\n"
                process.process.send_signal(signal.SIGTERM)
                await refused(process.url)
                if ending == "second signal":
                    process.process.send_signal(signal.SIGTERM)
                if ending != "stream ends":
                    assert b"[DONE]" not in await what_comes(reply)
                gated.end.set()
                if ending == "stream ends":
                    assert (await reply.read()).endswith(b"data: [DONE]\n\n")
        async with asyncio.timeout(p.DEADLINE):
            assert await process.process.wait() == (1 if ending == "second signal" else 0)
    await p.restart_and_stop(process)
    (row,), _ = p.check_ledger(home, [])
    assert row.aborted is (ending == "second signal")


async def what_comes(reply):
    """Return what is left of a reply that may break off."""
    read = b""
    with suppress(aiohttp.ClientError):
        async for chunk in reply.content.iter_any():
            read += chunk
    return read


async def refused(url):
    """Return once the gateway takes no new connection."""
    async with asyncio.timeout(p.DEADLINE):
        while True:
            try:
                async with aiohttp.ClientSession(url) as client, client.get("/readyz") as reply:
                    assert reply.status in (200, 503)
            except aiohttp.ClientError:
                return


async def test_what_keeps_a_worker_from_starting_keeps_the_gateway_from_it(home, upstream):
    process = p.Process(home, upstream)
    process.configure((home / "insource.toml").read_text() + 'api_key_env = "NO_SUCH_KEY"\n')
    await process.start()
    assert await process.process.wait() == 1
    assert process.said == [""]
    assert find_running(home) is None and not (home / PID_FILE).exists()


async def test_a_worker_that_is_killed_while_it_starts_does_not_end_the_gateway(process):
    starting = asyncio.ensure_future(process.start())
    await p.until(lambda: hasattr(process, "process") and len(process.workers()) == 2)
    killed = process.workers()[0]
    os.kill(killed, signal.SIGKILL)
    await starting
    assert process.said != [""] and killed not in process.workers() and len(process.workers()) == 2
    acknowledged, done = [], []
    job = asyncio.ensure_future(p.load(process.url, acknowledged, [], lambda: bool(done)))
    await p.until(lambda: len(acknowledged) >= 20)
    done.append(1)
    await job
    assert await process.end(signal.SIGTERM) == 0
    rows, acts = p.check_ledger(process.home, acknowledged)
    assert [act.detail for act in acts if act.what == "worker ended"] == [
        f"process {killed}, signal 9; A worker ended before it served; its log says why."
    ]


def test_a_worker_that_keeps_dying_is_started_ever_more_seldom():
    pace = Pace(first=0.1, longest=10.0, steady=5.0)
    pauses = [pace.after(deaths) for deaths in range(1, 12)]
    assert pace.after(0) == 0.0
    assert pauses[:4] == [0.1, 0.2, 0.4, 0.8]
    assert pauses == sorted(pauses) and pauses[-1] == 10.0 and pace.after(10_000) == 10.0


def test_a_stale_pid_file_names_nobody(tmp_path):
    now = datetime.now(UTC)
    assert find_running(tmp_path) is None
    with Running(tmp_path, "http://127.0.0.1:1", 2) as running:
        assert find_running(tmp_path) is None  # nobody holds the ledger: its process is gone
        with Ledger.open(tmp_path, clock=lambda: now):
            assert find_running(tmp_path) == os.getpid()
            (tmp_path / PID_FILE).write_text("1\n")
            assert find_running(tmp_path) is None  # another process's, left behind
        running.reloaded("refused", "why", now)
        assert read_status(tmp_path).reload.number == 1
    assert read_status(tmp_path) is None


@pytest.mark.parametrize(("text", "named"), [
    ("[gateway]\nport = 1", "gateway.port"), ("[gateway]\nworkers = 9", "gateway.workers"),
    ("[gateway]\nlog = 'json'", "gateway.log"), ("[store]\nretention_days = 3", "store.retention_days"),
    ("[store]\nrecord = 'after_reply'", "store.record"),
])  # fmt: skip
def test_what_cannot_change_while_running_is_named(text, named):
    given = Given("insource.toml", b"")
    changed = replace(given, data=text.encode())
    with pytest.raises(ConfigError, match=named):
        check_fixed(given.config({}), changed.config({}))
    check_fixed(given.config({}), replace(given, data=b"[gateway]\ndrain_s = 3").config({}))


def test_an_error_keeps_its_class_on_the_way():
    error = error_told(Message("refused", code="store_busy", message="it is held"))
    assert type(error) is StoreBusy and str(error) == "it is held"
