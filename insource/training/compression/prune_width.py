"""Intermediate neurons taken out of an encoder's layers: those for which the other neurons can best make up.

It knows token ids of sample texts; not texts, answers or accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from insource.errors import UserError
from insource.training.base_models import BaseModel
from insource.training.compression.checkpoint import Checkpoint, Matrix
from insource.training.compression.forward import Sample, active, dense, gram, middle_of, normed
from insource.training.compression.repair import Surgeon, refit

STEP = 32
"""The width left is a multiple of this, and less by it at least: processors add up so many at a time, and blocks of 4
bits are as long."""


def prune_width(base: BaseModel, folder: Path, share: float, ids: Sequence[Sequence[int]]) -> BaseModel:
    """Write the encoder without `share` of each layer's intermediate neurons into `folder` and return it.

    `ids` are the tokens of sample texts: the neurons go that change the layer's output least once the others have made
    up for them, and those that stay are fitted to give what the whole layer gave. Raises UserError where `share` is not
    within 0 and 1.
    """
    if not 0.0 < share < 1.0:
        raise UserError(f"The share of neurons to take out is {share:g}; more than 0 and less than 1 was expected.")
    checkpoint, sample = Checkpoint.read(base), Sample(ids)
    shape, whole = checkpoint.shape, sample.embedded(checkpoint)
    width = len(checkpoint.layer(0)["intermediate.dense.bias"])
    left = max(STEP, min(width - STEP, round(width * (1.0 - share) / STEP) * STEP))
    cut = whole
    for number in range(shape.layers):
        layer = checkpoint.layer(number)
        middle = middle_of(sample, layer, whole, shape)
        summed = middle + dense(active(layer, middle), layer, "output.dense")
        entering = middle_of(sample, layer, cut, shape)
        smaller = _narrow(layer, entering, summed - entering, width - left)
        cut_sum = entering + dense(active(smaller, entering), smaller, "output.dense")
        whole = normed(summed, layer, "output.LayerNorm", shape.epsilon)
        cut = normed(cut_sum, layer, "output.LayerNorm", shape.epsilon)
        checkpoint.put_layer(number, smaller)
    checkpoint.config["intermediate_size"] = left
    return checkpoint.write(folder)


def _narrow(layer: dict[str, Matrix], middle: Matrix, target: Matrix, count: int) -> dict[str, Matrix]:
    """Return a layer with `count` neurons fewer, fitted so that those left give `target` on `middle`."""
    neurons = active(layer, middle)
    surgeon = Surgeon(gram(neurons), layer["output.dense.weight"].T, 1)
    while (missing := len(surgeon.left) - len(neurons[0]) + count) > 0:
        surgeon.take_cheapest(min(STEP, missing))
    kept = surgeon.left
    weight, bias = refit(neurons[:, kept], target, surgeon.weights)
    return layer | {
        "intermediate.dense.weight": layer["intermediate.dense.weight"][kept],
        "intermediate.dense.bias": layer["intermediate.dense.bias"][kept],
        "output.dense.weight": weight,
        "output.dense.bias": bias,
    }
