"""What tuning needs of the machine, looked at before it starts: torch, and enough memory.

It imports nothing heavy; it says what to install, or what to change.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from insource.errors import DataError, MissingExtra
from insource.training.architectures import WORDS
from insource.training.encoder_weights import EncoderShape, Weights
from insource.training.tuning.batches import Tokenised

COPIES = 5
"""Of each weight that is tuned: itself, its gradient, two moments, and the best epoch's."""
KEPT_PER_TOKEN = 34
"""Floats of the hidden size that a layer keeps of a token for the gradients: measured, feed-forward of four times."""
ROOM = 600_000_000
"""Bytes for torch itself."""


def torch_or_how() -> None:
    """Raise MissingExtra where torch is not installed; ask its threads to wait without spinning, before it is loaded.

    Two threads that spin beside other work do not share two cores, they lose them.
    """
    if find_spec("torch") is None:
        raise MissingExtra(
            "Family encoder is tuned with torch, which is not installed; it was expected beside insource. "
            "Run: pip install 'insource[train]'"
        )
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def needed_bytes(shape: EncoderShape, weights: Weights, tokens: Tokenised, batch: int) -> int:
    """Return an estimate of what tuning takes at its peak."""
    sizes = {name: each.size for name, each in weights.used().items()}
    tuned, words = sum(sizes.values()) - sizes.get(WORDS, 0), sizes.get(WORDS, 0)
    longest = int(tokens.lengths.max()) if len(tokens) else 0
    kept = batch * longest * shape.layers * (KEPT_PER_TOKEN * shape.hidden + 2 * shape.heads * longest)
    return 4 * (COPIES * tuned + 2 * words + kept) + ROOM


def check_memory(needed: int) -> None:
    """Raise DataError where the machine has less memory free than tuning will need, in bytes."""
    free = free_bytes()
    if free is not None and needed > free:
        raise DataError(
            f"Tuning needs about {needed / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB are free; it was not started. "
            "Free some, take a smaller --base, or a family that is not tuned (encoder-frozen)."
        )


def free_bytes() -> int | None:
    """Return what is available, as the kernel tells it and the control group allows; None where neither tells."""
    found = []
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
        limit = Path("/sys/fs/cgroup/memory.max").read_text("ascii").strip()
        if limit != "max":
            found.append(int(limit) - int(Path("/sys/fs/cgroup/memory.current").read_text("ascii")))
    except (OSError, ValueError, IndexError):
        pass
    return min(found, default=None)
