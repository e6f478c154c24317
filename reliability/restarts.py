"""Processes that write a ledger with its proofs and die by kill -9 at a given point, forked from one that stands ready.

`python -m reliability.restarts` reads one order a line and answers each with how its process ended. What counts is
appended to a file outside the home: every note when it is signed, and when a file has it. It judges nothing.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial, wraps
from pathlib import Path
from typing import Any, Self

from insource.errors import StoreError
from insource.store.ledger import Ledger
from insource.store.proof import folder as folders
from insource.store.proof import keeper as keepers
from insource.store.proof import publisher as publishers
from insource.store.proof.folder import ProofFolder
from insource.store.proof.keeper import Keeper
from insource.store.proof.note import Checkpoint, PrivateKey
from insource.store.proof.publisher import Publisher
from insource.store.proof.tiles import TileFolder
from insource.types import Decision, Outcome, Reason, Settlement
from reliability.load import NOON

PUBLISH_SECONDS = 0.001
STEPS: dict[str, tuple[Any, str]] = {
    "start": (Keeper, "begin"),
    "head": (Keeper, "write_head"),
    "commit": (Keeper, "committed"),
    "tile": (TileFolder, "write"),
    "signature": (PrivateKey, "sign"),
    "checkpoint": (ProofFolder, "keep"),
    "witness": (Publisher, "_show"),
    "sync of a file": (os, "fsync"),
    "next key": (ProofFolder, "make_next"),
    "succession": (Keeper, "_succeed"),
    "key in force": (ProofFolder, "take_next"),
    "old log aside": (ProofFolder, "put_aside"),
    "end of a refusal": (ProofFolder, "refuse"),
}
"""What a process passes on its way; the head is written within the transaction, the commit is told behind it."""
CHANGES = ("next key", "succession", "key in force")
RECONCILES = ("old log aside", "end of a refusal", "next key", "key in force", "head", "sync of a file")


@dataclass(frozen=True)
class Order:
    """What a process is to do: write bursts of so many requests, change keys before one of them, or reconcile first.

    It dies when it passes `point` ("before commit") for the `at`-th time, after `milliseconds`, or at its end, unless
    it is to close. `told` gets JSON lines of "signed", "stored" or "died", and the note or the point.
    """

    home: str
    witness: str | None
    told: str
    bursts: tuple[int, ...]
    rotates: int | None = None
    reconciles: bool = False
    point: str | None = None
    at: int = 1
    milliseconds: float | None = None
    closes: bool = False
    broken: bool = False


class Nursery:
    """The process that forks the others; use as a context manager."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def __enter__(self) -> Self:
        places = os.pathsep.join([str(Path(__file__).parents[1]), *(path for path in sys.path if path)])
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "reliability.restarts"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=log, env={**os.environ, "PYTHONPATH": places},
            )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def run(self, order: Order) -> int:
        """Return the exit code of the order's process, minus the signal that ended it. AssertionError: see the log."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(order)).encode() + b"\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"no process can be started: {self._log.read_text()}"
        return int(answer)


def _serve() -> None:
    """Fork a process for each line."""
    for line in sys.stdin:
        order = Order(**json.loads(line))
        pid = os.fork()
        if pid == 0:
            _work(order)
        if order.milliseconds is not None:
            time.sleep(order.milliseconds / 1_000)
            os.kill(pid, signal.SIGKILL)  # nobody has waited for it yet, so that the number is still its own
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _work(order: Order) -> None:
    """Do it, and never return."""
    try:
        _prepare(order)
        _write(order)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    sys.stderr.flush()
    os._exit(1)


def _write(order: Order) -> None:
    witness, own = None if order.witness is None else Path(order.witness), os.urandom(6).hex()
    ledger = Ledger.open(Path(order.home), clock=lambda: NOON, witness=witness)
    if order.reconciles and ledger.keeper.refusal is not None:
        ledger.keeper.reconcile("ada", "the backup is all there is", ledger.record)
    for burst, size in enumerate(order.bursts):
        if burst == order.rotates and ledger.keeper.refusal is None:
            ledger.keeper.rotate("ada", "yearly", ledger.record)
        for number in range(size):
            name = f"{own}-{burst}-{number}"
            ledger.note(Decision(name, NOON, Outcome.ESCALATED, Reason.BELOW_THRESHOLD, task="triage", version=1))
            settled = ledger.settle(Settlement(name, NOON, 200, "upstream", 0.5))
        settled.result()
        time.sleep(PUBLISH_SECONDS * (burst % 3))
    if order.closes or order.point:
        ledger.close()
    if not order.closes:
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(0)


def _prepare(order: Order) -> None:
    """Have everything that counts be told, and the process die where it is to."""
    told = os.open(order.told, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)

    def tell(what: str, note: str) -> None:
        os.write(told, json.dumps([what, note]).encode() + b"\n")

    left = order.at

    def passing(point: str) -> None:
        nonlocal left
        if point == order.point:
            left -= 1
            if left == 0:
                tell("died", point)
                os.kill(os.getpid(), signal.SIGKILL)

    sign, write_note = PrivateKey.sign, folders.write_note

    def signing(key: PrivateKey, body: str) -> str:
        note = sign(key, body)
        tell("signed", note)
        return note

    def writing(path: Path, text: str) -> None:
        write_note(path, text)
        try:
            Checkpoint.read(text)
        except StoreError:  # a key, or why nothing is signed
            return
        tell("stored", text)

    PrivateKey.sign = signing  # type: ignore[method-assign, assignment]
    for module in (folders, keepers, publishers):
        module.write_note = writing  # type: ignore[attr-defined]
    for name, (owner, attribute) in STEPS.items():
        setattr(owner, attribute, _stepped(getattr(owner, attribute), name, passing))
    keepers.Publisher = partial(Publisher, seconds=PUBLISH_SECONDS)  # type: ignore[attr-defined, assignment]
    if order.broken:
        keepers.objections = publishers.objections = lambda known, size, root_at: iter(())  # type: ignore[attr-defined]
        Keeper._carried = lambda self: ()  # type: ignore[method-assign]


def _stepped(call: Callable[..., Any], name: str, passing: Callable[[str], None]) -> Callable[..., Any]:
    @wraps(call)
    def stepped(*values: Any, **named: Any) -> Any:
        passing(f"before {name}")
        found = call(*values, **named)
        passing(f"after {name}")
        return found

    return stepped


if __name__ == "__main__":
    import cryptography.hazmat.primitives.asymmetric.ed25519  # noqa: F401  (loaded once, before all forks)

    _serve()
