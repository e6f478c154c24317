"""`insource serve` as a process with a log to read, and clients that keep asking it while something is done to it.

It knows processes, signals and plain requests; what is done meanwhile, the promises say.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from insource.gateway.running import Status, read_status
from reliability.raw_http import Reply, Wire
from reliability.served import workers_of

LONGEST = 30.0
_LISTENS = re.compile(rb"listens on http://[^\s]+:(\d+)/")
PLAIN = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Where is my parcel?"}]}


def post(body: object, *headers: str) -> bytes:
    """Return a request for a chat completion."""
    data = json.dumps(body).encode()
    more = "".join(f"{header}\r\n" for header in headers)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n{more}"
    return f"{head}content-length: {len(data)}\r\n\r\n".encode() + data


@dataclass
class RunningGateway:
    """A gateway's processes, its home and its port."""

    home: Path
    port: int
    process: asyncio.subprocess.Process

    def workers(self) -> list[int]:
        """Return the process ids of its workers."""
        return workers_of(self.process.pid)

    def signal(self, number: signal.Signals) -> None:
        """Signal the supervisor."""
        self.process.send_signal(number)

    def status(self) -> Status:
        """What it says of itself."""
        status = read_status(self.home)
        assert status is not None, "it runs"
        return status

    def log(self) -> str:
        """All that it has logged."""
        return (self.home / "gateway.log").read_text("utf-8", "replace")

    async def get(self, path: str) -> Reply | None:
        """Ask for a page on a connection of its own; None where nobody answers."""
        with suppress(OSError):
            wire = await Wire.open(self.port)
            try:
                return await wire.ask(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode(), LONGEST)
            finally:
                wire.cut()
        return None


@asynccontextmanager
async def running(file: Path, module: str = "insource.cli.main", *variables: str) -> AsyncIterator[RunningGateway]:
    """Run `insource --config FILE serve`, or a broken build's module in its place; what still runs is killed."""
    command = (sys.executable, "-m", module, "--config", str(file), "serve")
    variables_set = dict(variable.split("=", 1) for variable in variables)
    places = os.pathsep.join([str(Path(__file__).parents[1]), *(path for path in sys.path if path)])
    with (file.parent / "gateway.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=log,
            env={**os.environ, "PYTHONPATH": places, **variables_set},
        )  # fmt: skip
    assert process.stdout is not None
    try:
        said = b""
        async with asyncio.timeout(LONGEST):
            while not (found := _LISTENS.search(said)):
                line = await process.stdout.readline()
                assert line, f"the gateway did not start: {(file.parent / 'gateway.log').read_text()}"
                said += line
        yield RunningGateway(file.parent, int(found[1]), process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def until(true: Callable[[], bool], seconds: float = LONGEST) -> bool:
    """Wait until `true()` holds; return whether it did in time."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.005)
    return True


@dataclass
class Clients:
    """Clients that send plain requests one after another: half on one connection, half on a new one for each.

    `answered` are the ids of the requests that were answered whole, with 200; `failed` says what became of others.
    `pause` is what a client does between two requests, in seconds.
    """

    port: int
    number: int
    pause: float = 0.0
    answered: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    _stopped: bool = False
    _jobs: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self) -> None:
        """Begin."""
        self._stopped = False
        self._jobs = [asyncio.ensure_future(self._ask(number % 2 == 0)) for number in range(self.number)]

    async def stop(self) -> None:
        """Have every client finish its last request."""
        self._stopped = True
        await asyncio.gather(*self._jobs)

    async def more(self, number: int, seconds: float = LONGEST) -> bool:
        """Wait until that many more requests were answered; return whether that was in time."""
        enough = len(self.answered) + number
        return await until(lambda: len(self.answered) >= enough, seconds)

    async def _ask(self, keep: bool) -> None:
        wire: Wire | None = None
        while not self._stopped:
            try:
                wire = wire or await Wire.open(self.port)
                reply = await wire.ask(post(PLAIN), LONGEST)
            except OSError as error:
                wire = None
                self.failed.append(f"no connection: {error}")
                await asyncio.sleep(0.01)
                continue
            if reply is not None and reply.status == 200:
                self.answered.append(reply.headers["x-insource-request-id"])
            else:
                kind = "kept" if keep else "new"
                self.failed.append(f"{reply.status} {reply.body[:200]!r}" if reply else f"cut on a {kind} connection")
            if reply is None or not keep or reply.headers.get("connection") == "close":
                wire.cut()
                wire = None
            await asyncio.sleep(self.pause)
        if wire is not None:
            wire.cut()
