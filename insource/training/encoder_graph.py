"""The ONNX graph of a BERT sentence encoder, written node by node from its weights; no torch.

It uses ONNX Runtime's fused operators. It knows nothing of tasks, texts or the runtime's sessions. All rows of one
run have the same number of tokens, so there is no mask and no padding: what a text gets cannot depend on neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from insource.backends.onnx import INFO_FILE, MODEL_FILE, TOKENIZER_FILE, TrunkInfo
from insource.training.base_models import BLOCKS, BaseModel
from insource.training.encoder_graph_precision import FUSED, Fp32, Graph, Int4, Int8, Int8Static, Precision
from insource.training.encoder_int4 import Activation
from insource.training.encoder_weights import EncoderShape, Weights, read_shape

PRECISIONS = ("int8", "fp32", "int8-static", "int4")
BUILDER = 3  # goes up with every change of the graph that changes an embedding

Progress = Callable[[int, int], None]


class EncoderBuilder:
    """Builds one encoder: embeddings, layers, pooling."""

    def __init__(self, shape: EncoderShape, weights: Weights, *, precision: Precision, max_tokens: int) -> None:
        self.shape = shape
        self.weights = weights
        self.precision = precision
        self.max_tokens = max_tokens
        self.graph = Graph()

    def build(self, *, pooling: str, normalise: bool, blocks: int = BLOCKS) -> onnx.ModelProto:
        """Return the model: input_ids int32 (batch, sequence) to embedding float32 (batch, blocks * hidden).

        The last block is the base model's own sentence embedding. The others are the mean tokens after earlier layers,
        of length one: they hold what training for sentence similarity has rubbed out of the last (style, form, kind).
        """
        hidden, read, means = self._embed("input_ids"), read_layers(self.shape.layers, blocks), []
        for number in range(self.shape.layers):
            hidden = self._layer(f"encoder.layer.{number}", hidden, self.shape.kept_heads[number])
            if number + 1 in read[:-1]:
                mean = self._pool(f"pooled.{number}", hidden, "mean")
                means.append(self.graph.node("LpNormalization", f"block.{number}", [mean], axis=-1, p=2))
        sentence = self._pool("pooled", hidden, pooling)
        if normalise:
            sentence = self.graph.node("LpNormalization", "sentence", [sentence], axis=-1, p=2)
        output = self.graph.node("Concat", "embedding", [*means, sentence], axis=-1)
        return self._model(output, len(read) * self.shape.hidden)

    def _model(self, output: str, length: int) -> onnx.ModelProto:
        ids = helper.make_tensor_value_info("input_ids", TensorProto.INT32, ["batch", "sequence"])
        embedding = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", length])
        graph = helper.make_graph(self.graph.nodes, "encoder", [ids], [embedding], self.graph.weights)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(FUSED, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="insource")

    def _norm(self, name: str) -> list[str]:
        size = self.shape.hidden
        return [
            self.graph.weight(f"{name}.{part}", self.weights.tensor(f"{name}.{part}", size))
            for part in ("weight", "bias")
        ]

    def _embed(self, ids: str) -> str:
        """Words, positions and the (only) segment, added up and normalised."""
        graph, size = self.graph, self.shape.hidden
        words = self.weights.tensor("embeddings.word_embeddings.weight", None, size)
        places = self.weights.tensor("embeddings.position_embeddings.weight", self.shape.positions, size)
        segment = self.weights.tensor("embeddings.token_type_embeddings.weight", None, size)[0]
        table = graph.weight("positions", places[: self.max_tokens] + segment)
        norm = self._norm("embeddings.LayerNorm")
        length = graph.node("Shape", "length", [ids], start=1, end=2)
        bounds = [graph.weight("zero", np.array([0], np.int64)), length, graph.weight("axis", np.array([0], np.int64))]
        placed = graph.node("Slice", "position", [table, *bounds])
        added = graph.node("Add", "embeddings.sum", [self.precision.words(graph, ids, words), placed])
        return graph.node("LayerNormalization", "embeddings", [added, *norm], epsilon=self.shape.epsilon)

    def _layer(self, name: str, hidden: str, heads: int) -> str:
        """One transformer layer, normalised after each half (Devlin et al. 2019; Vaswani et al. 2017, section 3)."""
        graph, size = self.graph, self.shape.hidden
        context = self._attention(f"{name}.attention.self", hidden, heads)
        inner = heads * self.shape.head_size
        mixed = self._product(f"{name}.attention.output.dense", context, inner, size, bias=True)
        middle = self._add_norm(f"{name}.attention.output.LayerNorm", mixed, hidden)
        wide = self._product(f"{name}.intermediate.dense", middle, size, None, bias=False)
        bias = graph.weight(f"{name}.intermediate.bias", self.weights.tensor(f"{name}.intermediate.dense.bias", None))
        active = graph.node("BiasGelu", f"{name}.gelu", [wide, bias], domain=FUSED)
        narrow = self._product(f"{name}.output.dense", active, None, size, bias=True)
        return self._add_norm(f"{name}.output.LayerNorm", narrow, middle)

    def _add_norm(self, name: str, new: str, old: str) -> str:
        """Two nodes: SkipLayerNormalization, which does both, takes six times as long in ONNX Runtime 1.31."""
        added = self.graph.node("Add", f"{name}.sum", [new, old])
        norm = [added, *self._norm(name)]
        return self.graph.node("LayerNormalization", f"{name}.out", norm, epsilon=self.shape.epsilon)

    def _attention(self, name: str, hidden: str, heads: int) -> str:
        """Self-attention with query, key and value in one product; every token sees every token."""
        size, inner, parts = self.shape.hidden, heads * self.shape.head_size, ("query", "key", "value")
        matrix = np.concatenate([self.weights.matrix(f"{name}.{part}", size, inner) for part in parts], axis=1)
        bias = np.concatenate([self.weights.tensor(f"{name}.{part}.bias", inner) for part in parts])
        return self.precision.attention(self.graph, name, hidden, matrix, bias, heads)

    def _product(self, name: str, value: str, rows: int | None, columns: int | None, *, bias: bool) -> str:
        """value @ W, with or without the bias."""
        matrix = self.weights.matrix(name, rows, columns)
        added = self.weights.tensor(f"{name}.bias", matrix.shape[1]) if bias else None
        return self.precision.product(self.graph, name, value, matrix, added)

    def _pool(self, name: str, hidden: str, pooling: str) -> str:
        """One vector for a text: the mean of its tokens, or its first token."""
        if pooling == "mean":
            return self.graph.node("ReduceMean", name, [hidden], axes=[1], keepdims=0)
        return self.graph.node("Gather", name, [hidden, self.graph.weight("first", np.array(0, np.int64))], axis=1)


def read_layers(layers: int, blocks: int = BLOCKS) -> tuple[int, ...]:
    """Return after which of so many layers an encoder is read, counted from one; the last is always among them."""
    return tuple(sorted({-(-layers * part // blocks) for part in range(1, blocks + 1)}))


def build_trunk(
    base: BaseModel,
    folder: Path,
    precision: str,
    progress: Progress | None = None,
    *,
    activations: Mapping[str, Activation] | None = None,
) -> None:
    """Write the trunk of a base model into `folder`: model.onnx, tokenizer.json and trunk.json, in that order.

    `precision` is "int8" (a quarter of the size, less than half the time), "fp32", "int8-static" (as int8, with ranges
    from `activations` instead of each run's own) or "int4" (an eighth of the size; rounded with an eye on
    `activations` where given). `activations` are what enters each product on sample texts, as
    `compression.forward.activations` returns them. The same input gives the same bytes. `progress` gets (steps done,
    steps in all). Raises DataError where the base model is no encoder that can be built, ValueError for another
    precision, or for int8-static without activations.
    """
    precision_of = _precision(precision, activations or {})
    tell = progress or (lambda done, total: None)
    shape = read_shape(base.folder)
    weights = Weights.read(base.folder / "model.safetensors")
    tell(1, 3)
    max_tokens = min(base.max_tokens, shape.positions)
    builder = EncoderBuilder(shape, weights, precision=precision_of, max_tokens=max_tokens)
    model = builder.build(pooling=base.pooling, normalise=base.normalise, blocks=base.blocks)
    tell(2, 3)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL_FILE).write_bytes(model.SerializeToString(deterministic=True))
    (folder / TOKENIZER_FILE).write_bytes((base.folder / "tokenizer.json").read_bytes())
    info = TrunkInfo(
        base=base.name,
        base_digest=base.digest,
        precision=precision,
        dimension=shape.hidden * len(read_layers(shape.layers, base.blocks)),
        blocks=len(read_layers(shape.layers, base.blocks)),
        max_tokens=max_tokens,
        pooling=base.pooling,
        normalise=base.normalise,
        builder=BUILDER,
    )
    (folder / INFO_FILE).write_text(info.to_json(), "utf-8")
    tell(3, 3)


def _precision(name: str, activations: Mapping[str, Activation]) -> Precision:
    if name not in PRECISIONS:
        raise ValueError(f"precision is {name!r}; expected one of {', '.join(PRECISIONS)}")
    if name == "int8-static":
        if not activations:
            raise ValueError("int8-static needs to know what enters each product; pass activations")
        return Int8Static(activations)
    if name == "int4":
        return Int4(activations)
    return Int8() if name == "int8" else Fp32()
