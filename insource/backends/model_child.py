"""Loading a model file that is not ours in a process of its own first, with little memory and little time.

What kills a native parser kills that process, not this one. It knows how to load a base model and a trunk; whether a
file is ours (its digest in our registry) is for the caller to know.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Final

from insource.backends.refused_file import RefusedFile

SECONDS: Final = 60
TIMES: Final = 2
ROOM: Final = 256 * 1024 * 1024
"""Address space beside the file's own: stacks, the allocator's arenas, the runtime's threads."""
REFUSED: Final = 3
KINDS: Final = ("base", "trunk")


def try_in_child(kind: str, folder: Path, *, seconds: float = SECONDS, declared: int | None = None) -> None:
    """Load the model in `folder` in a child process and throw the result away.

    `kind` is "base" (model.safetensors and tokenizer.json) or "trunk". The child may use twice the `declared` bytes
    (by default what the files weigh) above what it needs to start, and `seconds`. Raises RefusedFile where it is
    refused, dies or takes longer.
    """
    declared = sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) if declared is None else declared
    command = [sys.executable, "-m", "insource.backends.model_child", kind, str(folder), str(declared), str(seconds)]
    places = os.pathsep.join(path for path in sys.path if path)
    try:
        done = subprocess.run(
            command, timeout=seconds, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            env={"PATH": os.defpath, "PYTHONPATH": places, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise RefusedFile(f"{folder} was not loaded within {seconds:g} s; such a model is not used") from error
    if done.returncode == REFUSED:
        raise RefusedFile(done.stderr.strip()[-500:])
    if done.returncode:
        raise RefusedFile(
            f"the process that tried to load {folder} ended with {done.returncode} (more than {TIMES} times "
            f"{declared:,} bytes of memory, or a fault in a parser); such a model is not used"
        )


def limit(declared: int, seconds: float) -> None:
    """Put the limits on this process: memory above what it has now, processor time, no core file, no file written."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    most = now + TIMES * declared + ROOM
    for what, value in (
        (resource.RLIMIT_AS, most), (resource.RLIMIT_CPU, int(seconds) + 1), (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):  # fmt: skip
        with contextlib.suppress(ValueError, OSError):  # where the person's own limit is lower already
            resource.setrlimit(what, (value, value))


def load(kind: str, folder: Path) -> None:
    """Load a model as the product does; raises whatever that raises."""
    if kind == "base":
        from tokenizers import Tokenizer

        from insource.backends.model_files import read_arrays, read_tokenizer

        read_arrays(folder / "model.safetensors", links=True)  # first: what a tokenizer takes is not given back whole
        Tokenizer.from_str(read_tokenizer(folder / "tokenizer.json", links=True))
    else:
        from insource.backends.onnx import Trunk

        Trunk.load(folder)


def warm_up() -> None:
    """Import what loading imports, so that the limits count only what the file costs."""
    import onnxruntime
    import safetensors.numpy
    import tokenizers

    assert onnxruntime and safetensors.numpy and tokenizers


def main(kind: str, folder: str, declared: str, seconds: str) -> int:
    """Be the child: limit this process and load."""
    warm_up()
    limit(int(declared), float(seconds))
    try:
        load(kind, Path(folder))
    except MemoryError:
        sys.stderr.write(f"{folder} needs more than {TIMES} times {int(declared):,} bytes of memory to load\n")
        return REFUSED
    except Exception as error:  # whatever a parser says: the parent needs the sentence only
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
