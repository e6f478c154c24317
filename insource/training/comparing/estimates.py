"""How long a training will take on this machine, from rows, tokens and short timings; no more than a good guess.

It knows seconds a text; what runs over its time is ended by the time budget, not by these.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from insource.backends.onnx import TOKENIZER_FILE, Reader, Trunk
from insource.training.base_models import WEIGHTS_FILE, BaseModel
from insource.training.comparing.curve import Curve
from insource.training.crossfit import cores
from insource.training.encoder_weights import Weights, read_shape
from insource.training.splits import FOLDS
from insource.training.tuning.settings import Settings

TIMED_TEXTS = 64
TIMED_BATCHES = 4
COARSE_FITS, FINE_FITS = 1 + FOLDS // 2 - 1, 1 + FOLDS - 1
"""Fits on all rows that cross-fitting comes to: one on all, and five on four fifths, or ten on nine tenths."""
SAFETY = 1.15
TRUNK_SECONDS = 6.0
"""To build a trunk, write it and try it."""


@dataclass(frozen=True, slots=True)
class Speeds:
    """Seconds a text: `embed` by the int8 trunk, many at once; `tune` forward and backward, None where unknown."""

    embed: float
    tune: float | None = None


def embedding_seconds(trunk: Trunk, texts: Sequence[str]) -> float:
    """Return the seconds a text takes to embed, many at once, of some drawn evenly from those given."""
    some = [texts[int(i)] for i in np.linspace(0, len(texts) - 1, min(TIMED_TEXTS, len(texts)))]
    trunk.embed(some[:4])
    start = time.perf_counter()
    trunk.embed(some)
    return (time.perf_counter() - start) / len(some)


def tuning_seconds(base: BaseModel, texts: Sequence[str], n_classes: int) -> float:
    """Return the seconds a text takes to be tuned on once: the median batch after the first, really tuned.

    Raises MissingExtra without torch, DataError where the base model cannot be tuned.
    """
    from insource.training.tuning.needs import torch_or_how

    torch_or_how()
    from insource.training.tuning.batches import Tokenised
    from insource.training.tuning.checkpoint import Checkpoint
    from insource.training.tuning.loop import Lesson, Tuning

    settings = Settings(epochs=1)
    count = min(len(texts), TIMED_BATCHES * settings.batch)
    some = [texts[int(i)] for i in np.linspace(0, len(texts) - 1, count)]
    reader = Reader(base.folder / TOKENIZER_FILE, base.max_tokens, links=True)
    tokens = Tokenised([reader.tokens(text).ids for text in some])
    tuning = Tuning(
        Weights.read(base.folder / WEIGHTS_FILE), read_shape(base.folder), base.pooling, base.max_tokens, settings
    )
    lesson = Lesson(tokens, np.arange(count) % n_classes, n_classes, np.arange(count), np.arange(0))
    stamps = [time.perf_counter()]
    tuning.run(lesson, Checkpoint(None), lambda done, total: stamps.append(time.perf_counter()))
    batches = np.diff(stamps)
    each = float(np.median(batches[1:] if len(batches) > 1 else batches))
    return each / min(count, settings.batch)


def cross_fit_seconds(curve: Curve, rows: int, *, coarse: bool) -> float:
    """Return how long cross-fitting a family on so many rows takes, on all cores."""
    return SAFETY * curve.fit_seconds(rows) * (COARSE_FITS if coarse else FINE_FITS) / min(cores(), 2)


def tuned_seconds(speeds: Speeds, learn: int, others: int, epochs: int, *, layers: float = 1.0) -> float:
    """Return how long tuning takes with all that belongs to it; `others` are rows to certify and test on.

    `layers` is the share of the base model's layers that is left.
    """
    assert speeds.tune is not None
    tuning = learn * epochs * speeds.tune * layers
    served = (others + min(learn, 4_000)) * speeds.embed * layers
    return SAFETY * (tuning + served) + 2 * TRUNK_SECONDS
