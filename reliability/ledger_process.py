"""The ledger's process as the gateway's supervisor runs it, by itself: it serves sockets that it inherits.

Its syncs are counted: by strace where it can trace here, else by a file layer under SQLite that passes everything on.

`python -m reliability.ledger_process HOME sound|unsynced traced|counted DESCRIPTOR ...` says "ready", serves until its
input ends, and then prints what the layer has counted.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw

STRACE = ("strace", "-f", "--seccomp-bpf", "-qq", "-y", "-e", "trace=fsync,fdatasync", "-e", "signal=none")
_SYNC = re.compile(r"\bf(?:data)?sync\(\d+<([^>]*)>")


@dataclass
class LedgerProcess:
    """A running one: the other ends of its sockets; once it has ended, its syncs by file and who counted them."""

    clients: list[socket.socket]
    syncs: Counter[str]
    by: str


@contextmanager
def ledger_process(home: Path, clients: int, *, broken: bool, tracer: Sequence[str] | None = None) -> Iterator[
    LedgerProcess
]:  # fmt: skip
    """Run it; leaving ends it, everything queued being written. `broken` has SQLite sync nothing once it is open.

    `tracer` is strace with its options, () for none; None finds out.
    """
    tracer, trace = can_trace() if tracer is None else tracer, home.parent / "syncs"
    pairs = [socket.socketpair() for _ in range(clients)]
    theirs = [there for _, there in pairs]
    command = [*((*tracer, "-o", str(trace)) if tracer else ()), sys.executable, "-m", "reliability.ledger_process",
               str(home), "unsynced" if broken else "sound", "traced" if tracer else "counted"]  # fmt: skip
    places = os.pathsep.join([str(Path(__file__).parents[1]), *(path for path in sys.path if path)])
    process = subprocess.Popen(
        [*command, *(str(there.fileno()) for there in theirs)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        pass_fds=[there.fileno() for there in theirs], env={**os.environ, "PYTHONPATH": places}, text=True,
    )  # fmt: skip
    for there in theirs:
        there.close()
    found = LedgerProcess([here for here, _ in pairs], Counter(), "strace" if tracer else "a file layer")
    assert process.stdout is not None and process.stdin is not None
    try:
        assert process.stdout.readline() == "ready\n", "the ledger's process did not start"
        yield found
    finally:
        process.stdin.close()
        counted = process.stdout.read()
        process.stdout.close()
        process.wait()
    if tracer:
        found.syncs.update(Path(file).name for file in _SYNC.findall(trace.read_text("utf-8", "replace")))
    else:
        found.syncs.update({name: int(number) for name, number in map(str.split, counted.splitlines())})


def can_trace() -> tuple[str, ...]:
    """Return strace with its options where there is one that may trace, else ()."""
    if shutil.which(STRACE[0]) is None:
        return ()
    tried = subprocess.run([*STRACE, "-o", os.devnull, sys.executable, "-c", ""], capture_output=True, check=False)
    return STRACE if tried.returncode == 0 else ()


class _Layer(apsw.VFS):
    """SQLite's own files, whose syncs are counted by the file's name."""

    def __init__(self) -> None:
        self.below, self.syncs = apsw.vfs_names()[0], Counter[str]()
        super().__init__("counted", self.below, makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        return _File(self, name, flags)


class _File(apsw.VFSFile):
    def __init__(self, layer: _Layer, name: Any, flags: list[int]) -> None:
        super().__init__(layer.below, name, flags)
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self.name, self.syncs = Path(path or "-").name, layer.syncs

    def xSync(self, flags: int) -> None:  # noqa: N802
        super().xSync(flags)
        self.syncs[self.name] += 1


async def _serve(home: Path, broken: bool, descriptors: Sequence[int]) -> None:
    from insource.store.ledger import Ledger
    from insource.store.ledger_server import LedgerServer

    with Ledger.open(home, clock=lambda: datetime.now(UTC)) as ledger:
        if broken:
            ledger._connection.execute("PRAGMA synchronous = OFF")
        server = LedgerServer(ledger)
        for descriptor in descriptors:
            await server.serve(socket.socket(fileno=descriptor))
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


def _main(home: str, how: str, counting: str, *descriptors: str) -> None:
    from insource.gateway.control import new_loop
    from insource.gateway.supervisor import SWITCH_SECONDS

    layer = _Layer() if counting == "counted" else None
    sys.setswitchinterval(SWITCH_SECONDS)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(_serve(Path(home), how == "unsynced", [int(each) for each in descriptors]))
    for name, number in layer.syncs.items() if layer else ():
        sys.stdout.write(f"{name} {number}\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
