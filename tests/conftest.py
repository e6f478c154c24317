"""What several rooms' tests share: made-up ticket traffic with a fixed seed, and tiny encoders."""

import asyncio
import json
import os
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import uvicorn.server
from hypothesis import HealthCheck, settings

from insource.backends.onnx import Trunk
from insource.training.tiny_encoder import write_tiny_base

os.environ.pop("COLUMNS", None)  # else tables are as narrow as whoever runs the tests has them
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")  # a busy machine is no failure

WORDS = {
    "card": "card stolen lost blocked swallowed expired",
    "refund": "refund money back charge returned twice",
    "transfer": "transfer send sent bank account iban",
    "login": "password login locked code reset email",
}


class Prompt:
    """asyncio as uvicorn sees it in this process, with short waits.

    Its servers look ten times a second whether they are to stop, and then wait a tenth more: idle time, hundreds of
    times over, in every test that stops one.
    """

    __getattr__ = staticmethod(partial(getattr, asyncio))

    @staticmethod
    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds / 20)


uvicorn.server.asyncio = Prompt()

LONGEST = ("test_docs.py", "test_promises.py")
MEMORY, ROOM = Path("/dev/shm"), 2**31


def pytest_configure(config):
    """Keep what a run with `-m "not slow"` writes in memory, where the machine has room: it is no test of a disk.

    `scripts/test` is such a run. What a power cut or a failing disk does is simulated (`reliability.disk`), so no test
    needs a real sync; every other run, such as `scripts/test --all`, writes to the disk, and so does `scripts/soak`.
    """
    room = os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= ROOM
    if room and config.option.markexpr == "not slow":
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


def pytest_collection_modifyitems(items):
    """Put the longest files first: of two processes that take file by file, none then ends long before the other."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


def make_tickets(
    n: int, *, seed: int = 0, noise: float = 0.0, answers: int = 3, told: float = 0.45, words: int = 9
) -> list[dict[str, str]]:
    """Make `n` lines; `told` is the share of words that give the answer away, `noise` that of wrong answers."""
    chance = random.Random(seed)
    names = list(WORDS)[:answers]
    lines = []
    for _ in range(n):
        gold = chance.choice(names)
        pool = WORDS[gold].split()
        text = " ".join(
            chance.choice(pool) if chance.random() < told else f"w{chance.randrange(500)}" for _ in range(words)
        )
        lines.append({"text": text, "answer": chance.choice(names) if chance.random() < noise else gold, "gold": gold})
    return lines


@pytest.fixture(scope="session")
def tickets() -> Callable[..., list[dict[str, str]]]:
    return make_tickets


@pytest.fixture
def write_traffic(tmp_path: Path) -> Callable[..., Path]:
    """Writes lines (mappings, or bytes as they are) to a file and returns its path."""

    def write(lines: list[object], name: str = "may.jsonl") -> Path:
        path = tmp_path / name
        path.write_bytes(
            b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)
        )
        return path

    return write


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random encoder, to be named as a recipe's base."""
    folder = tmp_path_factory.mktemp("base")
    write_tiny_base(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_trunk(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Trunk:
    """A loaded trunk made of it."""
    from insource.training.base_models import from_folder
    from insource.training.encoder_graph import build_trunk

    folder = tmp_path_factory.mktemp("trunk")
    build_trunk(from_folder(tiny_base), folder, "int8")
    return Trunk.load(folder)
