"""A BERT encoder in torch, for tuning: the same numbers as the graph of `encoder_graph`, with gradients.

Texts of a batch lie one after the other without padding; only attention sees them side by side. It imports torch, and
is imported only where something is tuned.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from insource.training.architectures import POSITIONS, SEGMENTS, WORDS
from insource.training.encoder_weights import EncoderShape, Weights
from insource.training.tuning.batches import Batch

BYTE = 256


class Layer(nn.Module):
    """One transformer layer, normalised after each half (Devlin et al. 2019; Vaswani et al. 2017, section 3)."""

    def __init__(self, name: str, weights: Weights, shape: EncoderShape, heads: int) -> None:
        super().__init__()
        size, inner = shape.hidden, heads * shape.head_size
        self.heads = heads
        self.query = _linear(weights, f"{name}.attention.self.query", inner, size)
        self.key = _linear(weights, f"{name}.attention.self.key", inner, size)
        self.value = _linear(weights, f"{name}.attention.self.value", inner, size)
        self.mixed = _linear(weights, f"{name}.attention.output.dense", size, inner)
        self.middle = _norm(weights, f"{name}.attention.output.LayerNorm", shape)
        self.wide = _linear(weights, f"{name}.intermediate.dense", None, size)
        self.narrow = _linear(weights, f"{name}.output.dense", size, None)
        self.last = _norm(weights, f"{name}.output.LayerNorm", shape)

    def forward(self, hidden: Tensor, placed: Placed, drop: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the tokens after this layer, float (tokens, hidden)."""
        packed = torch.cat([self.query(hidden), self.key(hidden), self.value(hidden)], dim=1)
        mixed = self.mixed(placed.attend(packed, self.heads))
        hidden = self.middle(hidden + drop(mixed))
        narrow = self.narrow(functional.gelu(self.wide(hidden)))
        out: Tensor = self.last(hidden + drop(narrow))
        return out

    def named(self, name: str) -> dict[str, nn.Linear | nn.LayerNorm]:
        """Return the parts by the names that checkpoints give them."""
        return {
            f"{name}.attention.self.query": self.query,
            f"{name}.attention.self.key": self.key,
            f"{name}.attention.self.value": self.value,
            f"{name}.attention.output.dense": self.mixed,
            f"{name}.attention.output.LayerNorm": self.middle,
            f"{name}.intermediate.dense": self.wide,
            f"{name}.output.dense": self.narrow,
            f"{name}.output.LayerNorm": self.last,
        }


class Network(nn.Module):
    """Embeddings and layers; `forward` gives what a tuned encoder's trunk gives: the sentence embedding alone.

    The table of words is fixed: it is half of the weights, most rows of it are never seen, and an optimiser would
    spend most of its time there. `dropout` is rounded to a 256th. Before training, `seed` says what is dropped.
    """

    def __init__(self, weights: Weights, shape: EncoderShape, *, pooling: str, max_tokens: int, dropout: float) -> None:
        super().__init__()
        self.shape, self.pooling, self.dropped = shape, pooling, round(BYTE * dropout)
        self.seed(0)
        places = weights.tensor(POSITIONS, shape.positions, shape.hidden)[: min(max_tokens, shape.positions)]
        segment = weights.tensor(SEGMENTS, None, shape.hidden)[0]
        self.words = nn.Parameter(_tensor(weights, WORDS, None, shape.hidden), requires_grad=False)
        self.places = nn.Parameter(torch.tensor(places + segment))
        self.first = _norm(weights, "embeddings.LayerNorm", shape)
        self.layers = nn.ModuleList(
            Layer(f"encoder.layer.{number}", weights, shape, heads) for number, heads in enumerate(shape.kept_heads)
        )

    def forward(self, batch: Batch) -> Tensor:
        """Return embeddings, float (texts, hidden), each of length one."""
        placed = Placed(batch)
        hidden = self.first(functional.embedding(placed.ids, self.words) + self.places[placed.positions])
        hidden = self._drop(hidden)
        for layer in self.layers:
            hidden = layer(hidden, placed, self._drop)
        return functional.normalize(placed.first(hidden) if self.pooling == "cls" else placed.mean(hidden), dim=-1)

    def seed(self, *seed: int) -> None:
        """Begin anew with what is dropped."""
        self._chance = np.random.Generator(np.random.SFC64(seed))

    def _drop(self, hidden: Tensor) -> Tensor:
        """Dropout (Srivastava et al., JMLR 2014) by a random byte a number: three times as fast as torch's own."""
        if not (self.training and self.dropped):
            return hidden
        drawn = torch.from_numpy(self._chance.integers(0, BYTE, tuple(hidden.shape), np.uint8))
        kept: Tensor = (drawn >= self.dropped).float() * (BYTE / (BYTE - self.dropped))
        return hidden * kept

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """Return all weights by the names that checkpoints give them; the one segment is part of the positions."""
        parts: dict[str, nn.Linear | nn.LayerNorm] = {"embeddings.LayerNorm": self.first}
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, Layer)
            parts |= layer.named(f"encoder.layer.{number}")
        found = {WORDS: self.words, POSITIONS: self.places, SEGMENTS: torch.zeros(1, self.shape.hidden)}
        for name, part in parts.items():
            found |= {f"{name}.weight": part.weight, f"{name}.bias": part.bias}
        return {name: tensor.detach().numpy().copy() for name, tensor in found.items()}


class Placed:
    """Where the tokens of a batch stand: one after the other for all but attention, side by side for that."""

    def __init__(self, batch: Batch) -> None:
        self.ids, self.lengths = torch.from_numpy(batch.ids), torch.from_numpy(batch.lengths)
        self.texts, self.longest = len(self.lengths), int(self.lengths.max())
        self.starts = torch.cumsum(self.lengths, 0) - self.lengths
        self.text = torch.repeat_interleave(torch.arange(self.texts), self.lengths)
        self.positions = torch.arange(len(self.ids)) - self.starts[self.text]
        self.even = len(self.ids) == self.texts * self.longest
        self.flat = self.text * self.longest + self.positions
        self.mask = None if self.even else (torch.arange(self.longest) < self.lengths[:, None])[:, None, None, :]

    def attend(self, packed: Tensor, heads: int) -> Tensor:
        """Return what each token makes of the tokens of its text; `packed` holds query, key and value side by side."""
        size, empty = packed.shape[1] // 3, self.texts * self.longest
        side = packed if self.even else packed.new_zeros(empty, 3 * size).index_copy(0, self.flat, packed)
        parts = side.view(self.texts, self.longest, 3, heads, size // heads).permute(2, 0, 3, 1, 4)
        context = functional.scaled_dot_product_attention(parts[0], parts[1], parts[2], attn_mask=self.mask)
        flat = context.transpose(1, 2).reshape(empty, size)
        return flat if self.even else flat.index_select(0, self.flat)

    def mean(self, hidden: Tensor) -> Tensor:
        """Return the mean token of each text."""
        total = hidden.new_zeros(self.texts, hidden.shape[1]).index_add(0, self.text, hidden)
        return total / self.lengths[:, None]

    def first(self, hidden: Tensor) -> Tensor:
        """Return the first token of each text."""
        return hidden[self.starts]


def _linear(weights: Weights, name: str, rows: int | None, columns: int | None) -> nn.Linear:
    matrix = _tensor(weights, f"{name}.weight", rows, columns)
    linear = nn.Linear(matrix.shape[1], matrix.shape[0])
    linear.weight = nn.Parameter(matrix)
    linear.bias = nn.Parameter(_tensor(weights, f"{name}.bias", matrix.shape[0]))
    return linear


def _norm(weights: Weights, name: str, shape: EncoderShape) -> nn.LayerNorm:
    norm = nn.LayerNorm(shape.hidden, eps=shape.epsilon)
    norm.weight = nn.Parameter(_tensor(weights, f"{name}.weight", shape.hidden))
    norm.bias = nn.Parameter(_tensor(weights, f"{name}.bias", shape.hidden))
    return norm


def _tensor(weights: Weights, name: str, *shape: int | None) -> Tensor:
    return torch.tensor(weights.tensor(name, *shape))  # in memory of torch's own: sums depend on how it is aligned
