"""A process that loads model files on request and says what came of it, so that a fault in a parser can be counted.

`python -m reliability.loader limited|free checked|unchecked` reads lines "KIND FOLDER" and answers each with one line:
"loaded", "refused ...", with "outside ..." before it for whatever it opened, started or connected that it may not.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

SECONDS = 60.0
ENOUGH = 64 * 1024 * 1024
HOURS = 36_000.0
FORBIDDEN = ("socket.", "subprocess.", "os.exec", "os.fork", "os.posix_spawn", "os.system", "pickle.")
RESTART_AFTER = 2_000
ANSWERS = 1  # the descriptor that answers are written to


class Loader:
    """The handle of such a process; it is started again when it died, hung, or has loaded 2,000 files.

    Once one was lost, the next one stands by: it imports what it needs while the one before it is still at work.
    """

    def __init__(self, *, limited: bool, checked: bool, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._arguments = ("limited" if limited else "free", "checked" if checked else "unchecked")
        self._process: subprocess.Popen[bytes] | None = None
        self._next: subprocess.Popen[bytes] | None = None
        self._loaded = 0

    def load(self, kind: str, folder: Path) -> str:
        """Return "loaded", "refused ...", "outside ...", "hung" or "died N"."""
        process = self._ready()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(f"{kind} {folder}\n".encode())
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], self._seconds)
            answer = process.stdout.readline().decode("utf-8", "replace").strip() if ready else "hung"
        except BrokenPipeError:
            answer = ""
        if answer == "hung" or not answer:
            answer = answer or f"died {process.wait()}"
            _end(process)
            self._process, self._loaded = self._next or self._start(), 0
            self._next = self._start()
        return answer

    def __enter__(self) -> Loader:
        self._process = self._start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self._process, self._next):
            _end(process)

    def _ready(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._loaded >= RESTART_AFTER:
            _end(self._process)
            self._process, self._loaded = self._start(), 0
        if not self._loaded:
            assert self._process.stdout is not None
            self._process.stdout.readline()  # that it has imported what it needs
        self._loaded += 1
        return self._process

    def _start(self) -> subprocess.Popen[bytes]:
        places = os.pathsep.join([str(Path(__file__).parents[1]), *(path for path in sys.path if path)])
        return subprocess.Popen(
            [sys.executable, "-m", "reliability.loader", *self._arguments], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
            env={**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"},
        )  # fmt: skip


def _end(process: subprocess.Popen[bytes] | None) -> None:
    if process is not None:
        process.kill()
        process.communicate()


def main(limits: str, checks: str) -> None:
    """Be the process."""
    global ANSWERS
    ANSWERS = os.dup(1)
    os.dup2(2, 1)  # what parsers print is no answer
    from insource.backends import linear, model_child, onnx

    assert linear and onnx
    model_child.warm_up()
    if checks == "unchecked":
        _take_checks_out()
    if limits == "limited":
        model_child.limit(ENOUGH, HOURS)
    seen: list[str] = []
    where = [""]
    sys.addaudithook(lambda event, args: _look(event, args, where[0], seen))
    _answer("ready")
    for line in sys.stdin:
        kind, folder = line.rstrip("\n").split(" ", 1)
        seen.clear()
        where[0] = folder
        answer = _load(kind, Path(folder))
        where[0] = ""
        _answer((f"outside {seen[0]}; " if seen else "") + answer.replace("\n", " ")[:300])


def _answer(text: str) -> None:
    os.write(ANSWERS, text.encode("utf-8", "replace") + b"\n")


def _load(kind: str, folder: Path) -> str:
    from insource.backends.linear import LinearEngine
    from insource.backends.model_child import load

    try:
        if kind == "arrays":
            LinearEngine.load(folder).probabilities("where is my card")
        else:
            load(kind, folder)
    except Exception as error:
        return f"refused {type(error).__name__}: {error}"
    return "loaded"


def _look(event: str, args: tuple[Any, ...], folder: str, seen: list[str]) -> None:
    """Note what an audit event (PEP 578) says was done outside the folder while a file was loaded."""
    if not folder:
        return
    if event.startswith(FORBIDDEN):
        seen.append(event)
    elif event == "open" and isinstance(args[0], str | bytes):
        path = os.fsdecode(args[0])
        if not path.startswith((folder, sys.prefix, sys.base_prefix, "/proc/self", str(Path(__file__).parents[1]))):
            seen.append(f"open {path}")


def _take_checks_out() -> None:
    """Break this build: no check of content, links or size comes before the native parsers."""
    from insource.backends import encoder, linear, model_files, onnx, specialist

    def take(path: Path, largest: int = 0, *, links: bool = False) -> bytes:
        return path.read_bytes()

    modules: dict[str, Any] = {"files": model_files, "onnx": onnx, "linear": linear}
    modules["files"].read_plain = take
    for name in ("check_arrays", "check_onnx", "check_tokenizer", "refuse_by_content"):
        setattr(modules["files"], name, lambda data: None)
    assert encoder and specialist


if __name__ == "__main__":
    main(*sys.argv[1:])
