"""One promise's run on disk: a file of finished chunks that a kill at any point cannot spoil.

It knows chunks and lines; it does not know what a promise tries. Each line is one chunk, written once it is finished.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from reliability.harness import Promise, Tally

PROJECT = Path(__file__).parents[1]
FOLDER = "INSOURCE_SOAK"

Tell = Callable[[int, int, float | None], None]
"""Called with the cases done, their number, and the seconds that are probably left (None: not known yet)."""


@dataclass
class Soak:
    """What has been run so far: the tally, the cases that are done, the seconds they took, and the builds tried."""

    tally: Tally = field(default_factory=Tally)
    done: set[int] = field(default_factory=set)
    seconds: float = 0.0
    builds: list[str] = field(default_factory=list)


class Busy(Exception):
    """Another process runs this promise."""


def folder() -> Path:
    """Return where the states lie: $INSOURCE_SOAK, or .soak in the project."""
    return Path(os.environ.get(FOLDER) or PROJECT / ".soak")


def soak(promise: Promise, cases: int, state: Path, tell: Tell, *, fresh: bool = False) -> Soak:
    """Run the first `cases` cases of a promise, without those that `state` says are done, and return all of them.

    Raises Busy where another process runs the same state.
    """
    with _held(state, fresh):
        found = read_state(state)
        left = [case for case in range(cases) if case not in found.done]
        build, started = build_digest(), time.monotonic()
        for chunk in _chunks(left, promise.chunk):
            behind = left.index(chunk.start)
            spent = time.monotonic() - started
            tell(cases - len(left) + behind, cases, spent / behind * (len(left) - behind) if behind else None)
            before = time.monotonic()
            with tempfile.TemporaryDirectory(prefix=f"soak-{promise.id}-") as scratch:
                tally = promise.try_cases(chunk, Path(scratch))
            _append(state, chunk, tally, time.monotonic() - before, build)
        return read_state(state)


def read_state(state: Path) -> Soak:
    """Return what the whole lines of a state say; a half-written last line says nothing."""
    found = Soak()
    for line in _whole_lines(state):
        chunk = json.loads(line)
        found.tally.add(Tally.from_json(chunk["tally"]))
        found.done.update(range(chunk["start"], chunk["stop"]))
        found.seconds += chunk["seconds"]
        if chunk["build"] not in found.builds:
            found.builds.append(chunk["build"])
    return found


def build_digest() -> str:
    """Return twelve digits that stand for every source file of the package and of the harnesses."""
    digest = sha256()
    for path in sorted([*(PROJECT / "insource").rglob("*.py"), *(PROJECT / "reliability").glob("*.py")]):
        digest.update(str(path.relative_to(PROJECT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def show_progress(done: int, cases: int, seconds_left: float | None) -> None:
    """Write the progress over the line before, where a person looks on."""
    left = "" if seconds_left is None else f", {time_told(seconds_left)} left"
    told = f"{done:,} of {cases:,} cases{left}"
    sys.stderr.write(f"\r{told:<60}" if sys.stderr.isatty() else f"{told}\n")
    sys.stderr.flush()


def time_told(seconds: float) -> str:
    """Return seconds as a person says them."""
    minutes, hours = seconds / 60, seconds / 3600
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if hours < 2 else f"{hours:.1f} h"


def _chunks(left: list[int], size: int) -> Iterator[range]:
    """Cut the cases that are left into runs of at most `size` that follow each other."""
    start = 0
    for place in range(1, len(left) + 1):
        whole = place - start == size
        if place == len(left) or whole or left[place] != left[place - 1] + 1:
            yield range(left[start], left[place - 1] + 1)
            start = place


def _append(state: Path, chunk: range, tally: Tally, seconds: float, build: str) -> None:
    line = {
        "start": chunk.start, "stop": chunk.stop, "seconds": round(seconds, 3), "build": build,
        "tally": tally.to_json(),
    }  # fmt: skip
    with state.open("ab") as file:
        file.write(json.dumps(line).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _whole_lines(state: Path) -> list[bytes]:
    lines = state.read_bytes().splitlines(keepends=True) if state.exists() else []
    return [line for line in lines if line.endswith(b"\n")]


@contextmanager
def _held(state: Path, fresh: bool) -> Iterator[None]:
    """Keep other processes off a state, and cut off what a kill left half-written."""
    state.parent.mkdir(parents=True, exist_ok=True)
    with state.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy(f"{state} is being written by another process. Wait for it, or end it.") from error
        file.truncate(0 if fresh else sum(map(len, _whole_lines(state))))
        yield
