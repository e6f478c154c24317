"""The ONNX graph of a BERT sentence encoder, written node by node from its weights; no torch.

It uses ONNX Runtime's fused operators. It knows nothing of tasks, texts or the runtime's sessions. All rows of one
run have the same number of tokens, so there is no mask and no padding: what a text gets cannot depend on neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from insource.backends.onnx import INFO_FILE, MODEL_FILE, TOKENIZER_FILE, TrunkInfo
from insource.training.base_models import BaseModel
from insource.training.encoder_weights import Array, EncoderShape, Weights, quantise, read_shape

PRECISIONS = ("int8", "fp32")
BUILDER = 2  # goes up with every change of the graph that changes an embedding
FUSED = "com.microsoft"
WEIGHT_LIMIT = 64
TABLE_LIMIT = 127
BLOCKS = 3
"""An embedding has this many blocks: the means of the tokens after each third of the layers."""

Progress = Callable[[int, int], None]


class Graph:
    """Nodes and weights as they are added; each node's output has the node's name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, name: str, array: Array) -> str:
        """Add a constant and return its name."""
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def node(
        self, kind: str, name: str, inputs: Sequence[str], *, domain: str = "", outputs: int = 1, **attributes: object
    ) -> str:
        """Add a node and return the name of its first output; further outputs are called NAME.1, NAME.2, ..."""
        names = [name, *(f"{name}.{number}" for number in range(1, outputs))]
        node = helper.make_node(kind, list(inputs), names, name=name, domain=domain)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in sorted(attributes.items()))
        self.nodes.append(node)
        return name


class EncoderBuilder:
    """Builds one encoder: embeddings, layers, pooling; `precision` is "int8" or "fp32"."""

    def __init__(self, shape: EncoderShape, weights: Weights, *, precision: str, max_tokens: int) -> None:
        self.shape = shape
        self.weights = weights
        self.int8 = precision == "int8"
        self.max_tokens = max_tokens
        self.graph = Graph()

    def build(self, *, pooling: str, normalise: bool) -> onnx.ModelProto:
        """Return the model: input_ids int32 (batch, sequence) to embedding float32 (batch, blocks * hidden).

        The last block is the base model's own sentence embedding. The others are the mean tokens after earlier layers,
        of length one: they hold what training for sentence similarity has rubbed out of the last (style, form, kind).
        """
        hidden, blocks = self._embed("input_ids"), []
        for number in range(self.shape.layers):
            hidden = self._layer(f"encoder.layer.{number}", hidden)
            if number + 1 in read_layers(self.shape.layers)[:-1]:
                mean = self._pool(f"pooled.{number}", hidden, "mean")
                blocks.append(self.graph.node("LpNormalization", f"block.{number}", [mean], axis=-1, p=2))
        sentence = self._pool("pooled", hidden, pooling)
        if normalise:
            sentence = self.graph.node("LpNormalization", "sentence", [sentence], axis=-1, p=2)
        return self._model(self.graph.node("Concat", "embedding", [*blocks, sentence], axis=-1))

    def _model(self, output: str) -> onnx.ModelProto:
        ids = helper.make_tensor_value_info("input_ids", TensorProto.INT32, ["batch", "sequence"])
        length = len(read_layers(self.shape.layers)) * self.shape.hidden
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
        return graph.node(
            "SkipLayerNormalization",
            "embeddings",
            [self._words(ids, words), placed, *norm],
            domain=FUSED,
            epsilon=self.shape.epsilon,
        )

    def _words(self, ids: str, words: NDArray[np.float32]) -> str:
        """Look up the words' rows; in int8 each row has its own scale."""
        graph = self.graph
        if not self.int8:
            return graph.node("Gather", "words", [graph.weight("words.table", words), ids])
        table = quantise(words, axis=0, limit=TABLE_LIMIT)
        rows = graph.node("Gather", "words.rows", [graph.weight("words.table", table.values), ids])
        real = graph.node("Cast", "words.real", [rows], to=TensorProto.FLOAT)
        scale = graph.node("Gather", "words.scale", [graph.weight("words.scales", table.scale[:, None]), ids])
        return graph.node("Mul", "words", [real, scale])

    def _layer(self, name: str, hidden: str) -> str:
        """One transformer layer, normalised after each half (Devlin et al. 2019; Vaswani et al. 2017, section 3)."""
        graph, size = self.graph, self.shape.hidden
        context = self._attention(f"{name}.attention.self", hidden)
        mixed = self._product(f"{name}.attention.output.dense", context, size, size, bias=True)
        middle = self._add_norm(f"{name}.attention.output.LayerNorm", mixed, hidden)
        wide = self._product(f"{name}.intermediate.dense", middle, size, None, bias=False)
        bias = graph.weight(f"{name}.intermediate.bias", self.weights.tensor(f"{name}.intermediate.dense.bias", None))
        active = graph.node("BiasGelu", f"{name}.gelu", [wide, bias], domain=FUSED)
        narrow = self._product(f"{name}.output.dense", active, None, size, bias=True)
        return self._add_norm(f"{name}.output.LayerNorm", narrow, middle)

    def _add_norm(self, name: str, new: str, old: str) -> str:
        return self.graph.node(
            "SkipLayerNormalization",
            f"{name}.out",
            [new, old, *self._norm(name)],
            domain=FUSED,
            epsilon=self.shape.epsilon,
        )

    def _attention(self, name: str, hidden: str) -> str:
        """Self-attention with query, key and value in one product; every token sees every token."""
        graph, size, parts = self.graph, self.shape.hidden, ("query", "key", "value")
        matrix = np.concatenate([self.weights.matrix(f"{name}.{part}", size, size) for part in parts], axis=1)
        bias = np.concatenate([self.weights.tensor(f"{name}.{part}.bias", size) for part in parts])
        bias_name = graph.weight(f"{name}.bias", bias)
        heads = self.shape.heads
        if not self.int8:
            inputs = [hidden, graph.weight(f"{name}.weight", matrix), bias_name]
            return graph.node("Attention", name, inputs, domain=FUSED, num_heads=heads)
        weight, scale, zero = self._quantised(name, matrix)
        rounded = graph.node("DynamicQuantizeLinear", f"{name}.in", [hidden], outputs=3)
        inputs = [rounded, weight, bias_name, f"{rounded}.1", scale, "", f"{rounded}.2", zero]
        return graph.node("QAttention", name, inputs, domain=FUSED, num_heads=heads)

    def _product(self, name: str, value: str, rows: int | None, columns: int | None, *, bias: bool) -> str:
        """value @ W, with or without the bias."""
        graph = self.graph
        matrix = np.ascontiguousarray(self.weights.tensor(f"{name}.weight", columns, rows).T)
        extra = [graph.weight(f"{name}.bias", self.weights.tensor(f"{name}.bias", columns))] if bias else []
        if self.int8:
            return graph.node(
                "DynamicQuantizeMatMul", name, [value, *self._quantised(name, matrix), *extra], domain=FUSED
            )
        product = graph.node("MatMul", f"{name}.product", [value, graph.weight(f"{name}.weight", matrix)])
        return graph.node("Add", name, [product, *extra]) if bias else product

    def _quantised(self, name: str, matrix: NDArray[np.float32]) -> tuple[str, str, str]:
        """Add a matrix in 8 bits, one scale for each column; return the names of values, scales and zero points."""
        weight = quantise(matrix, axis=1, limit=WEIGHT_LIMIT)
        return (
            self.graph.weight(f"{name}.weight", weight.values),
            self.graph.weight(f"{name}.scale", weight.scale),
            self.graph.weight(f"{name}.zero", np.zeros(weight.scale.shape, np.int8)),
        )

    def _pool(self, name: str, hidden: str, pooling: str) -> str:
        """One vector for a text: the mean of its tokens, or its first token."""
        if pooling == "mean":
            return self.graph.node("ReduceMean", name, [hidden], axes=[1], keepdims=0)
        return self.graph.node("Gather", name, [hidden, self.graph.weight("first", np.array(0, np.int64))], axis=1)


def read_layers(layers: int) -> tuple[int, ...]:
    """Return after which of so many layers an encoder is read, counted from one; the last is always among them."""
    return tuple(sorted({-(-layers * part // BLOCKS) for part in range(1, BLOCKS + 1)}))


def build_trunk(base: BaseModel, folder: Path, precision: str, progress: Progress | None = None) -> None:
    """Write the trunk of a base model into `folder`: model.onnx, tokenizer.json and trunk.json, in that order.

    `precision` is "int8" (a quarter of the size, less than half the time) or "fp32". The same base and precision give
    the same bytes. `progress` gets (steps done, steps in all). Raises DataError where the base model is no encoder
    that can be built, ValueError for another precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; expected one of {', '.join(PRECISIONS)}")
    tell = progress or (lambda done, total: None)
    shape = read_shape(base.folder)
    weights = Weights.read(base.folder / "model.safetensors")
    tell(1, 3)
    max_tokens = min(base.max_tokens, shape.positions)
    builder = EncoderBuilder(shape, weights, precision=precision, max_tokens=max_tokens)
    model = builder.build(pooling=base.pooling, normalise=base.normalise)
    tell(2, 3)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL_FILE).write_bytes(model.SerializeToString(deterministic=True))
    (folder / TOKENIZER_FILE).write_bytes((base.folder / "tokenizer.json").read_bytes())
    info = TrunkInfo(
        base=base.name,
        base_digest=base.digest,
        precision=precision,
        dimension=shape.hidden * len(read_layers(shape.layers)),
        blocks=len(read_layers(shape.layers)),
        max_tokens=max_tokens,
        pooling=base.pooling,
        normalise=base.normalise,
        builder=BUILDER,
    )
    (folder / INFO_FILE).write_text(info.to_json(), "utf-8")
    tell(3, 3)
