"""A served gateway that may be killed at any moment and started again on the same port: processes and readiness.

It knows processes, signals and `/readyz`; what is asked meanwhile, and what must be left of it, the promises say.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from reliability.raw_http import Wire
from reliability.running_gateway import LONGEST
from reliability.served import workers_of

PROJECT = Path(__file__).parents[1]
READY = b"GET /readyz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n"


def free_port() -> int:
    """Return a port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Killable:
    """The gateway of an insource.toml whose port is `port`; its processes are a group of their own."""

    file: Path
    port: int
    started: float = 0.0
    _process: asyncio.subprocess.Process = field(init=False)

    async def start(self) -> None:
        """Start `insource serve` and return at once."""
        command = (sys.executable, "-m", "insource.cli.main", "--config", str(self.file), "serve")
        with self.file.with_name("gateway.log").open("ab") as log:
            self.started = time.monotonic()
            self._process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, "PYTHONPATH": str(PROJECT)},
            )  # fmt: skip

    async def ready(self) -> float | None:
        """Return how many seconds after the start `/readyz` says so; None where it ended or took too long."""
        while self._process.returncode is None and time.monotonic() < self.started + LONGEST:
            with suppress(OSError):
                wire = await Wire.open(self.port)
                reply = await wire.ask(READY, LONGEST)
                wire.cut()
                if reply is not None and reply.status == 200:
                    return time.monotonic() - self.started
            await asyncio.sleep(0.005)
        return None

    @property
    def pid(self) -> int:
        """The process id of the supervisor, which writes the ledger."""
        return self._process.pid

    def workers(self) -> list[int]:
        """Return the process ids of its workers."""
        with suppress(FileNotFoundError):
            return workers_of(self.pid)
        return []

    def kill(self) -> None:
        """Kill the supervisor; the system ends its workers then."""
        self._process.kill()

    def kill_all(self) -> None:
        """Kill all its processes at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    async def ended(self) -> int:
        """Return the exit code of the supervisor."""
        return await self._process.wait()

    async def stop(self) -> int:
        """Have it end as it should, and return its exit code; one that does not in time is killed."""
        with suppress(ProcessLookupError):
            self._process.terminate()
        with suppress(TimeoutError):
            return await asyncio.wait_for(self.ended(), LONGEST)
        self.kill_all()
        return await self.ended()


def kill(pid: int) -> None:
    """Kill a process that may have ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def serves(pid: int) -> bool:
    """Whether a process has ever had a connection of a client or an upstream: more sockets than it was born with."""
    with suppress(OSError):
        links = [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()]
        return sum(link.startswith("socket:") for link in links) > 4
    return False
