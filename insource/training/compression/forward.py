"""A BERT encoder run on sample texts in plain numpy, so that what flows inside can be looked at.

It knows tensors and token ids; nothing of texts, tasks or what is done with the numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from insource.training.compression.checkpoint import LAYER, Checkpoint, Matrix
from insource.training.encoder_int4 import Activation
from insource.training.encoder_weights import EncoderShape

MOST_TOKENS = 16_384
"""What is seen of sample texts: enough for a Gram matrix of 1,536 neurons, and seconds of work."""

Tensors = Mapping[str, Matrix]


class Sample:
    """Token ids of texts, ordered by length; states are float32 (tokens, width), one text after the other.

    Of more than 16,384 tokens every second, third, ... text is taken.
    """

    def __init__(self, ids: Sequence[Sequence[int]]) -> None:
        step = -(-sum(map(len, ids)) // MOST_TOKENS)
        ordered = sorted(ids[:: max(step, 1)], key=len)
        self.ids = np.concatenate([np.asarray(each, np.intp) for each in ordered])
        self.places = np.concatenate([np.arange(len(each)) for each in ordered])
        self.groups = [(length, len(list(same))) for length, same in groupby(ordered, key=len)]

    def embedded(self, checkpoint: Checkpoint) -> Matrix:
        """Return the tokens as they enter the first layer."""
        tensors, start = checkpoint.tensors, "embeddings"
        words = tensors[f"{start}.word_embeddings.weight"][self.ids]
        places = tensors[f"{start}.position_embeddings.weight"][self.places]
        total = words + places + tensors[f"{start}.token_type_embeddings.weight"][0]
        return normed(total, tensors, f"{start}.LayerNorm", checkpoint.shape.epsilon)

    def context(self, layer: Tensors, hidden: Matrix, head_size: int) -> Matrix:
        """Return what a layer's heads read for each token, (tokens, heads * size)."""
        parts = [dense(hidden, layer, f"attention.self.{part}") for part in ("query", "key", "value")]
        found, place = np.empty_like(parts[0]), 0
        for length, count in self.groups:
            stop = place + length * count
            query, key, value = (
                part[place:stop].reshape(count, length, -1, head_size).transpose(0, 2, 1, 3) for part in parts
            )
            logits = query @ key.transpose(0, 1, 3, 2) / np.float32(np.sqrt(head_size))
            weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
            weights /= weights.sum(axis=-1, keepdims=True)
            found[place:stop] = (weights @ value).transpose(0, 2, 1, 3).reshape(length * count, -1)
            place = stop
        return found


def dense(value: Matrix, tensors: Tensors, name: str) -> Matrix:
    """Return value @ W.T + b."""
    found: Matrix = value @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]
    return found


def middle_of(sample: Sample, layer: Tensors, hidden: Matrix, shape: EncoderShape) -> Matrix:
    """Return the tokens between a layer's two halves."""
    summed = hidden + dense(sample.context(layer, hidden, shape.head_size), layer, "attention.output.dense")
    return normed(summed, layer, "attention.output.LayerNorm", shape.epsilon)


def active(layer: Tensors, middle: Matrix) -> Matrix:
    """Return the intermediate neurons after their GELU."""
    wide = dense(middle, layer, "intermediate.dense")
    found: Matrix = wide * np.float32(0.5) * (1.0 + erf(wide / np.float32(np.sqrt(2.0))))
    return found


def normed(value: Matrix, tensors: Tensors, name: str, epsilon: float) -> Matrix:
    """Return a layer normalisation."""
    centred = value - value.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(epsilon))
    found: Matrix = scaled * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]
    return found


def activations(checkpoint: Checkpoint, sample: Sample) -> dict[str, Activation]:
    """Return what enters each product of the encoder, by the names that its graph gives them."""
    shape, hidden = checkpoint.shape, sample.embedded(checkpoint)
    found: dict[str, Activation] = {}
    for number in range(shape.layers):
        layer, name = checkpoint.layer(number), f"{LAYER}.{number}"
        context = sample.context(layer, hidden, shape.head_size)
        summed = hidden + dense(context, layer, "attention.output.dense")
        middle = normed(summed, layer, "attention.output.LayerNorm", shape.epsilon)
        wide = active(layer, middle)
        entering = {"attention.self": hidden, "attention.output.dense": context,
                    "intermediate.dense": middle, "output.dense": wide}  # fmt: skip
        found |= {f"{name}.{part}": _activation(value) for part, value in entering.items()}
        hidden = normed(middle + dense(wide, layer, "output.dense"), layer, "output.LayerNorm", shape.epsilon)
    return found


def gram(value: Matrix) -> NDArray[np.float64]:
    """Return the mean of x x^T over tokens, float64 (width, width)."""
    return (value.T @ value).astype(np.float64) / len(value)


def _activation(value: Matrix) -> Activation:
    return Activation(float(value.min()), float(value.max()), gram(value))
