"""A whole gateway as its users run it, `insource serve` with a real specialist, and, for controls, one that is broken.

The broken one is handed in as an application and serves from a thread. This file knows homes, processes and memory.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from starlette.types import ASGIApp

from insource.answers import learn_answers
from insource.backends.linear import LinearEngine
from insource.backends.specialist import write_specialist
from insource.cli.worker import open_parts
from insource.config import load
from insource.gateway.parts import Parts
from insource.gateway.server import ServerThread
from insource.inputs import InputSettings
from insource.risk.scores import Scorer
from insource.store.artifacts import ArtifactStore
from insource.store.ledger import Ledger
from insource.store.ledger_reader import LedgerReader
from insource.store.registry import Registry
from insource.types import Calibration
from reliability.load import NOON

LABELS = ("card", "refund", "transfer")
TASKS: Mapping[str, str] = {
    "triage": 'audit_rate = 0\nmoderation_safe = ["card"]\nmatch.system_prompt = ["Say what it is about."]\n',
    "best": 'audit_rate = 0\nsensitivity = "restricted"\nwhen_kept = "best"\n',
    "review": 'audit_rate = 0\nsensitivity = "restricted"\nwhen_kept = "review"\n',
    "secret": 'audit_rate = 0\nsensitivity = "restricted"\n',
}
"""What the gateway is given to do: each task with a specialist, sure of about half of what it is asked, but
`secret`."""

START_SECONDS = 60.0
_LISTENS = re.compile(rb"listens on http://[^\s]+:(\d+)/")


def make_home(home: Path, upstream: str, **gateway: object) -> Path:
    """Register a specialist for the tasks and write insource.toml; return the file's path."""
    digest = _publish(home)
    calibration = Calibration("band", 0.05, 0.95, 100, 0.5, 0.5, 50, 0, 0.04, 0.9)
    with Registry.open(home) as registry:
        for task in ("triage", "best", "review"):
            version = registry.register(task, "linear", digest, calibration, {}, NOON)
            registry.promote(task, version.version, "soak", "a served gateway", NOON)
    limits = {"port": 0, "max_body_mb": 1, "drain_s": 1, **gateway}
    lines = ["[gateway]", *(f"{name} = {value}" for name, value in limits.items())]
    lines += ["[store]", f'home = "{home}"', "[upstreams.stub]", f'base_url = "{upstream}"', 'model = "stub"']
    lines += [line for name, text in TASKS.items() for line in (f"[tasks.{name}]", text)]
    file = home / "insource.toml"
    file.write_text("\n".join(lines))
    return file


def _publish(home: Path) -> str:
    """Write a linear specialist whose weights are drawn, so that any text gets some answer; return its digest."""
    chance = np.random.default_rng(5)
    grams = sorted({a + b for a in "acdefinorstu " for b in "acdefinorstu "})
    engine = LinearEngine(
        ["card", "lost", "refund"], grams, np.ones(3 + len(grams), np.float32),
        chance.normal(0, 2, (3 + len(grams), len(LABELS))).astype(np.float32), np.zeros(len(LABELS), np.float32),
    )  # fmt: skip
    probabilities = chance.dirichlet(np.ones(len(LABELS)), 60)
    scorer = Scorer.fit(probabilities, probabilities.max(axis=1) < 0.6)
    store = ArtifactStore(home)
    with store.draft() as draft:
        engine.save(draft)
        manifest = write_specialist(
            draft, task="triage", family="linear", model={}, scorer=scorer, answers=learn_answers(LABELS * 20),
            inputs=InputSettings(), trunk=None,
        )  # fmt: skip
        return store.commit(draft, manifest)


def workers_of(supervisor: int) -> list[int]:
    """Return the process ids of a gateway's workers, in order: its children, without the steward.

    Nor one that has not become a program of its own yet, as it may be the steward, nor one that has ended.
    """
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    others = {b"", _command(str(supervisor))}
    commands = {int(word): _command(word) for word in children}
    return sorted(
        pid for pid, command in commands.items() if command not in others and b"steward" not in command.split(b"\0")
    )


def _command(pid: str) -> bytes:
    """Return a process's command; nothing of one that has ended, or is just about to become another program."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@dataclass(frozen=True)
class Served:
    """A gateway that serves on loopback: its port, and the process that watches its workers (None: a thread)."""

    port: int
    supervisor: int | None

    def workers(self) -> list[int]:
        """Return the process ids of its workers; this process's, where it serves from a thread."""
        if self.supervisor is None:
            return [os.getpid()]
        return workers_of(self.supervisor)

    def megabytes(self) -> float:
        """Return the resident memory of its workers, in MB of 10**6 bytes."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.workers())
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@asynccontextmanager
async def serving(file: Path) -> AsyncIterator[Served]:
    """Run `insource serve` with one worker; leaving stops it."""
    command = (sys.executable, "-m", "insource.cli.main", "--config", str(file), "serve")
    with file.with_name("gateway.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=log
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(START_SECONDS):
                said = b""
                while not (found := _LISTENS.search(said)):
                    line = await process.stdout.readline()
                    assert line, f"the gateway did not start: {said!r}, {file.with_name('gateway.log').read_text()}"
                    said += line
            yield Served(int(found[1]), process.pid)
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            await process.communicate()


@contextmanager
def serving_app(
    file: Path, make_app: Callable[[Parts], ASGIApp], server: type[ServerThread] = ServerThread
) -> Iterator[Served]:
    """Serve another application, made of the same parts, from a thread: for controls."""
    config = load(file)
    with (
        Ledger.open(config.home, clock=lambda: NOON) as ledger,
        open_parts(config, ledger) as parts,
        server(make_app(parts), drain=1, receipt=config.gateway.receipt_s) as running,
    ):
        yield Served(int(running.url.rpartition(":")[2]), None)


def worker_deaths(home: Path) -> int:
    """Return how many workers ended unasked, by the ledger of a gateway that has stopped."""
    with LedgerReader(home) as reader:
        return sum(act.what == "worker ended" for act in reader.acts())
