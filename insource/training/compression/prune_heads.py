"""Attention heads taken out of an encoder: those whose reading the other heads can best make up for.

It knows token ids of sample texts; not texts, answers or accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from insource.errors import UserError
from insource.training.base_models import BaseModel
from insource.training.compression.checkpoint import Checkpoint, Matrix
from insource.training.compression.forward import Sample, active, dense, gram, normed
from insource.training.compression.repair import Surgeon, refit

OUTPUT = "attention.output.dense"


def prune_heads(base: BaseModel, folder: Path, share: float, ids: Sequence[Sequence[int]]) -> BaseModel:
    """Write the encoder without the `share` of its heads that costs least into `folder` and return it.

    `ids` are the tokens of sample texts: a head costs the share of its layer's attention output that the layer's other
    heads cannot make up for. A layer may lose more heads than another, and keeps one at least. What stays is fitted to
    give what the whole layer gave. Raises UserError where `share` is not within 0 and 1.
    """
    if not 0.0 < share < 1.0:
        raise UserError(f"The share of heads to take out is {share:g}; more than 0 and less than 1 was expected.")
    checkpoint, sample = Checkpoint.read(base), Sample(ids)
    gone = _least(_costs(checkpoint, sample), round(share * sum(checkpoint.shape.kept_heads)))
    _cut(checkpoint, sample, gone)
    _note(checkpoint, gone)
    return checkpoint.write(folder)


def _costs(checkpoint: Checkpoint, sample: Sample) -> list[list[tuple[int, float]]]:
    """Return each layer's heads in the order in which they would go, with what each costs: all but one of them."""
    shape, hidden, found = checkpoint.shape, sample.embedded(checkpoint), []
    for number in range(shape.layers):
        layer = checkpoint.layer(number)
        context = sample.context(layer, hidden, shape.head_size)
        summed = hidden + dense(context, layer, OUTPUT)
        surgeon = Surgeon(gram(context), layer[f"{OUTPUT}.weight"].T, shape.head_size)
        variance, order = float(summed.var(axis=0).sum()), []
        while len(surgeon.left) > 1:
            (head,), cost = surgeon.take_cheapest()
            order.append((head, cost / variance))
        found.append(order)
        hidden = _rest(layer, summed, shape.epsilon)
    return found


def _least(costs: list[list[tuple[int, float]]], count: int) -> list[list[int]]:
    """Return the heads that go from each layer: always the next of the layer whose next one costs least."""
    gone: list[list[int]] = [[] for _ in costs]
    for _ in range(min(count, sum(map(len, costs)))):
        following = [order[len(gone[number])][1] if len(gone[number]) < len(order) else np.inf
                     for number, order in enumerate(costs)]  # fmt: skip
        layer = int(np.argmin(following))
        gone[layer].append(costs[layer][len(gone[layer])][0])
    return gone


def _cut(checkpoint: Checkpoint, sample: Sample, gone: list[list[int]]) -> None:
    """Take the heads out layer by layer, each fitted to what the whole encoder gave there."""
    shape = checkpoint.shape
    whole = cut = sample.embedded(checkpoint)
    for number in range(shape.layers):
        layer = checkpoint.layer(number)
        summed = whole + dense(sample.context(layer, whole, shape.head_size), layer, OUTPUT)
        whole = _rest(layer, summed, shape.epsilon)
        if not any(gone[: number + 1]):
            cut = whole
            continue
        context = sample.context(layer, cut, shape.head_size)
        surgeon = Surgeon(gram(context), layer[f"{OUTPUT}.weight"].T, shape.head_size)
        surgeon.take(gone[number])
        weight, bias = refit(context[:, surgeon.rows], summed - cut, surgeon.weights)
        smaller = without(layer, gone[number], shape.head_size) | {f"{OUTPUT}.weight": weight, f"{OUTPUT}.bias": bias}
        cut = _rest(smaller, cut + dense(context[:, surgeon.rows], smaller, OUTPUT), shape.epsilon)
        checkpoint.put_layer(number, smaller)


def without(layer: dict[str, Matrix], heads: Sequence[int], size: int) -> dict[str, Matrix]:
    """Return a layer's tensors without these heads, counted among those it has."""
    total = len(layer["attention.self.query.bias"]) // size
    kept = np.setdiff1d(np.arange(total), np.asarray(heads, np.intp))
    rows: NDArray[np.intp] = (kept[:, None] * size + np.arange(size)).reshape(-1)
    smaller = dict(layer)
    for part in ("query", "key", "value"):
        for kind in ("weight", "bias"):
            smaller[f"attention.self.{part}.{kind}"] = layer[f"attention.self.{part}.{kind}"][rows]
    smaller[f"{OUTPUT}.weight"] = layer[f"{OUTPUT}.weight"][:, rows]
    return smaller


def _rest(layer: dict[str, Matrix], summed: Matrix, epsilon: float) -> Matrix:
    """Return the tokens after a layer, from the sum of its input and its attention."""
    middle = normed(summed, layer, "attention.output.LayerNorm", epsilon)
    return normed(middle + dense(active(layer, middle), layer, "output.dense"), layer, "output.LayerNorm", epsilon)


def _note(checkpoint: Checkpoint, gone: list[list[int]]) -> None:
    """Write into the config which heads are gone, counted as in the whole encoder, as transformers does."""
    before = checkpoint.config.get("pruned_heads") or {}
    noted = {}
    for number, heads in enumerate(gone):
        old = before.get(str(number), [])
        left = [head for head in range(checkpoint.shape.heads) if head not in old]
        if now := sorted([*old, *(left[head] for head in heads)]):
            noted[str(number)] = now
    checkpoint.config["pruned_heads"] = noted
