"""A gateway's processes for tests: started, loaded, killed, and asked afterwards what the ledger holds."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import aiohttp

from insource.store.ledger_reader import LedgerReader

ROOT = Path(__file__).parents[2]
SURE = {"model": "task:triage", "messages": [{"role": "user", "content": "sure"}]}
UP = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}], "stream": True}
DEADLINE = 30.0


class Process:
    """The gateway's processes on a fixed port, started again after every kill."""

    def __init__(self, home, upstream, workers=1, **more):
        self.home, self.upstream = home, upstream
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.configure(workers=workers, **more)

    def configure(self, text=None, *, workers=1, drain_s=5, model="gpt-x", record="before_reply"):
        lines = text or (
            f'[gateway]\nhost = "127.0.0.1"\nport = {self.port}\nmax_concurrency = 64\nmax_body_mb = 1\n'
            f'drain_s = {drain_s}\nreceipt_s = 10\nworkers = {workers}\n[store]\nrecord = "{record}"\n'
            f'[upstreams.main]\nbase_url = "{self.upstream}"\nmodel = "{model}"\n'
        )
        (self.home / "insource.toml").write_text(lines)

    async def start(self, *broken):
        """Return once it says that it listens; the seconds from the start are what is returned."""
        script = Path(__file__).with_name("run_gateway.py")
        begun = asyncio.get_running_loop().time()
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(script),
            str(self.home),
            *broken,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )
        self.said = [(await self.process.stdout.readline()).decode()]
        return asyncio.get_running_loop().time() - begun

    def workers(self):
        """The process ids of the supervisor's children, by what the system says."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(word) for word in children.read_text().split()]

    async def end(self, number):
        with suppress(ProcessLookupError):
            self.process.send_signal(number)
        self.said += [line.decode() async for line in self.process.stdout]
        return await self.process.wait()


async def until(true):
    """Return once `true()` holds; fail after DEADLINE seconds."""
    async with asyncio.timeout(DEADLINE):
        while not true():
            await asyncio.sleep(0.01)


def gone(pid):
    """Whether a process has ended, be it that nobody has waited for it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


async def load(url, acknowledged, failed=None, stop=lambda: False):
    """Send both kinds of request until the gateway is gone, keeping every identifier that came with a reply's head.

    With `failed`, requests that fail are counted there, and the load goes on until `stop` says so.
    """
    while True:
        async with aiohttp.ClientSession(url) as client:
            with suppress(aiohttp.ClientError, ConnectionError):
                while not stop():
                    for body in (SURE, UP):
                        async with client.post("/v1/chat/completions", json=body) as reply:
                            assert reply.status == 200, await reply.text()
                            acknowledged.append(reply.headers["x-insource-request-id"])
                            await reply.read()
                return
        if failed is None:
            return
        failed.append(1)


def check_ledger(home, acknowledged):
    """Assert that every acknowledged request is on record once, and that what was not settled reads aborted."""
    with LedgerReader(home) as ledger:
        rows = list(ledger.rows())
        acts = ledger.acts()
    recorded = [row.decision.request_id for row in rows]
    assert len(set(acknowledged)) == len(acknowledged)
    assert len(set(recorded)) == len(recorded)
    assert set(acknowledged) <= set(recorded)
    assert all(row.aborted for row in rows if row.settlement is None)
    return rows, acts


async def restart_and_stop(process):
    """Start once more and stop: what was left open is aborted then, and the start shows that it can."""
    seconds = await process.start()
    assert await process.end(signal.SIGTERM) == 0
    return seconds
