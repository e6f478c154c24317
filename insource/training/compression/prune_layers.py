"""Whole layers taken out of an encoder; what is left is read after each of its own thirds.

It knows token ids of sample texts; which layers stay is the caller's choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from insource.errors import UserError
from insource.training.base_models import BaseModel
from insource.training.compression.checkpoint import Checkpoint, Matrix
from insource.training.compression.forward import Sample, active, dense, middle_of, normed
from insource.training.compression.repair import refit

NORM = "output.LayerNorm"


def prune_layers(
    base: BaseModel, folder: Path, keep: Sequence[int], ids: Sequence[Sequence[int]] | None = None
) -> BaseModel:
    """Write the encoder with the layers `keep`, counted from 0 and in rising order, into `folder` and return it.

    With `ids`, the tokens of sample texts, each layer before a gap is fitted to give what came out behind that gap;
    else the layers stay as they were. Raises UserError where `keep` is no part of the layers, DataError where the
    encoder cannot be read.
    """
    checkpoint = Checkpoint.read(base)
    layers = checkpoint.shape.layers
    if not keep or list(keep) != sorted(set(keep)) or not 0 <= keep[0] <= keep[-1] < layers:
        raise UserError(f"The layers to keep are {list(keep)}; some of 0 to {layers - 1}, rising, were expected.")
    if ids is not None:
        _bridge(checkpoint, Sample(ids), keep)
    checkpoint.keep_layers(keep)
    return checkpoint.write(folder)


def kept_layers(count: int, layers: int) -> list[int]:
    """Return which `count` of so many layers to keep: the first, then the last, then others evenly between them.

    Of those tried, they keep most (EXPERIMENTS.md); one alone is the first, which can be fitted to give what all gave.
    """
    return [-(-number * (layers - 1) // max(count - 1, 1)) for number in range(count)]


def _bridge(checkpoint: Checkpoint, sample: Sample, keep: Sequence[int]) -> None:
    """Fit each layer before a gap to give what the last layer of the gap gave, and give it that layer's norm."""
    shape, sums = checkpoint.shape, []
    hidden = cut = sample.embedded(checkpoint)
    for number in range(shape.layers):
        layer = checkpoint.layer(number)
        middle = middle_of(sample, layer, hidden, shape)
        sums.append(middle + dense(active(layer, middle), layer, "output.dense"))
        hidden = normed(sums[-1], layer, NORM, shape.epsilon)
    for number, following in zip(keep, [*keep[1:], shape.layers], strict=True):
        layer = checkpoint.layer(number)
        middle = middle_of(sample, layer, cut, shape)
        if following > number + 1:
            layer |= _fitted(layer, middle, sums[following - 1])
            layer |= {name: each for name, each in checkpoint.layer(following - 1).items() if name.startswith(NORM)}
            checkpoint.put_layer(number, layer)
        cut = normed(middle + dense(active(layer, middle), layer, "output.dense"), layer, NORM, shape.epsilon)


def _fitted(layer: dict[str, Matrix], middle: Matrix, target: Matrix) -> dict[str, Matrix]:
    weight, bias = refit(active(layer, middle), target - middle, layer["output.dense.weight"])
    return {"output.dense.weight": weight, "output.dense.bias": bias}
