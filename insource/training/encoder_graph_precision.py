"""How an encoder's weights stand in its graph: fp32, 8 bits with ranges found at each run or stated, or 4 bits.

It knows single products and tables; not layers, texts or the runtime's sessions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from insource.training.architectures import Array
from insource.training.encoder_int4 import BLOCK, Activation, pack, quantise_blocks, quantise_rows
from insource.training.encoder_weights import quantise

FUSED = "com.microsoft"
WEIGHT_LIMIT = 64
TABLE_LIMIT = 127

Matrix = NDArray[np.float32]


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


class Precision(Protocol):
    """Adds what depends on the precision to a graph; each method returns the name of its output."""

    def words(self, graph: Graph, ids: str, table: Matrix) -> str:
        """Look up the rows of a table (words, hidden)."""
        ...

    def attention(self, graph: Graph, name: str, hidden: str, matrix: Matrix, bias: Matrix, heads: int) -> str:
        """Self-attention; `matrix` (hidden, 3 * heads * size) has query, key and value side by side, `bias` too."""
        ...

    def product(self, graph: Graph, name: str, value: str, matrix: Matrix, bias: Matrix | None) -> str:
        """value @ matrix (rows, columns), with or without the bias."""
        ...


class Fp32:
    """The weights as they are."""

    def words(self, graph: Graph, ids: str, table: Matrix) -> str:
        """Look up rows."""
        return graph.node("Gather", "words", [graph.weight("words.table", table), ids])

    def attention(self, graph: Graph, name: str, hidden: str, matrix: Matrix, bias: Matrix, heads: int) -> str:
        """One fused node; where heads were taken out, it is told how long query, key and value are."""
        bias_name = graph.weight(f"{name}.bias", bias)
        inputs = [hidden, graph.weight(f"{name}.weight", matrix), bias_name]
        told: dict[str, Any] = {"num_heads": heads}
        if matrix.shape[1] != 3 * matrix.shape[0]:
            told["qkv_hidden_sizes"] = [matrix.shape[1] // 3] * 3
        return graph.node("Attention", name, inputs, domain=FUSED, **told)

    def product(self, graph: Graph, name: str, value: str, matrix: Matrix, bias: Matrix | None) -> str:
        """A product and a sum."""
        extra = [graph.weight(f"{name}.bias", bias)] if bias is not None else []
        product = graph.node("MatMul", f"{name}.product", [value, graph.weight(f"{name}.weight", matrix)])
        return graph.node("Add", name, [product, *extra]) if extra else product


class Int8:
    """Weights in 8 bits, one scale for each column; what they are multiplied with is rounded anew at each run."""

    def words(self, graph: Graph, ids: str, table: Matrix) -> str:
        """Look up rows, each with its own scale."""
        small = quantise(table, axis=0, limit=TABLE_LIMIT)
        rows = graph.node("Gather", "words.rows", [graph.weight("words.table", small.values), ids])
        real = graph.node("Cast", "words.real", [rows], to=TensorProto.FLOAT)
        scale = graph.node("Gather", "words.scale", [graph.weight("words.scales", small.scale[:, None]), ids])
        return graph.node("Mul", "words", [real, scale])

    def attention(self, graph: Graph, name: str, hidden: str, matrix: Matrix, bias: Matrix, heads: int) -> str:
        """One fused node on the rounded input."""
        bias_name = graph.weight(f"{name}.bias", bias)
        weight, scale = _quantised(graph, name, matrix)
        rounded, rounded_scale, rounded_zero = self._rounded(graph, name, hidden)
        inputs = [rounded, weight, bias_name, rounded_scale, scale, "", rounded_zero]
        return graph.node("QAttention", name, inputs, domain=FUSED, num_heads=heads)

    def product(self, graph: Graph, name: str, value: str, matrix: Matrix, bias: Matrix | None) -> str:
        """One fused node that finds the range of `value` as well."""
        extra = ["", graph.weight(f"{name}.bias", bias)] if bias is not None else []
        return graph.node(
            "DynamicQuantizeMatMul", name, [value, *_quantised(graph, name, matrix), *extra], domain=FUSED
        )

    def _rounded(self, graph: Graph, name: str, value: str) -> tuple[str, str, str]:
        """Return the names of a value in 8 bits, its scale and its zero point."""
        rounded = graph.node("DynamicQuantizeLinear", f"{name}.in", [value], outputs=3)
        return rounded, f"{rounded}.1", f"{rounded}.2"


class Int8Static(Int8):
    """As Int8, but the range of every product's input is stated: `activations` has it by the product's name."""

    def __init__(self, activations: Mapping[str, Activation]) -> None:
        self._activations = activations

    def product(self, graph: Graph, name: str, value: str, matrix: Matrix, bias: Matrix | None) -> str:
        """Round by the stated range, then one fused node."""
        extra = ["", graph.weight(f"{name}.bias", bias)] if bias is not None else []
        weight, scale = _quantised(graph, name, matrix)
        rounded, rounded_scale, rounded_zero = self._rounded(graph, name, value)
        inputs = [rounded, weight, rounded_scale, scale, rounded_zero, *extra]
        return graph.node("MatMulIntegerToFloat", name, inputs, domain=FUSED)

    def _rounded(self, graph: Graph, name: str, value: str) -> tuple[str, str, str]:
        seen = self._activations[name]
        low, high = min(seen.low, 0.0), max(seen.high, 0.0)
        step = (high - low) / 255.0 or 1.0
        scale = graph.weight(f"{name}.in.scale", np.array(step, np.float32))
        zero = graph.weight(f"{name}.in.zero", np.array(np.clip(np.rint(-low / step), 0, 255), np.uint8))
        return graph.node("QuantizeLinear", f"{name}.in", [value, scale, zero]), scale, zero


class Int4:
    """Weights in 4 bits, in blocks of 32 along the input, each with a scale; the table of words too where it fits.

    Where `activations` has a product's inputs, its weights are rounded one after the other so that each makes up for
    those before it (`encoder_int4.quantise_blocks`).
    """

    def __init__(self, activations: Mapping[str, Activation]) -> None:
        self._activations = activations

    def words(self, graph: Graph, ids: str, table: Matrix) -> str:
        """Look up rows and take their halves of bytes apart: the first half of a row lies in the low ones.

        A table whose width is no multiple of 32 stands in 8 bits.
        """
        if table.shape[1] % BLOCK:
            return Int8().words(graph, ids, table)
        small = quantise_rows(table)
        blocks = small.scale.shape[1]
        packed = graph.weight("words.table", pack(small.values, half=True))
        scales = graph.weight("words.scales", small.scale.astype(np.float16)[:, :, None])
        both = graph.node("Cast", "words.both", [graph.node("Gather", "words.rows", [packed, ids])], to=_FLOAT)
        sixteen = graph.weight("words.sixteen", np.array(16, np.float32))
        whole = graph.node("Div", "words.quotient", [both, sixteen])
        upper = graph.node("Cast", "words.floor", [whole], to=TensorProto.UINT8)
        high = graph.node("Cast", "words.high", [upper], to=_FLOAT)
        low = graph.node("Sub", "words.low", [both, graph.node("Mul", "words.shifted", [high, sixteen])])
        joined = graph.node("Concat", "words.joined", [low, high], axis=-1)
        shape = graph.weight("words.blocks", np.array([0, 0, blocks, BLOCK], np.int64))
        signed = graph.node("Sub", "words.signed", [joined, graph.weight("words.eight", np.array(8, np.float32))])
        parts = graph.node("Reshape", "words.parts", [signed, shape])
        scale = graph.node("Cast", "words.scale", [graph.node("Gather", "words.small", [scales, ids])], to=_FLOAT)
        flat = graph.weight("words.flat", np.array([0, 0, blocks * BLOCK], np.int64))
        return graph.node("Reshape", "words", [graph.node("Mul", "words.scaled", [parts, scale]), flat])

    def attention(self, graph: Graph, name: str, hidden: str, matrix: Matrix, bias: Matrix, heads: int) -> str:
        """A product, and a fused node for the rest; none does both in 4 bits."""
        packed = self.product(graph, f"{name}.packed", hidden, matrix, None, of=name)
        sizes = graph.weight(f"{name}.sizes", np.array([matrix.shape[1] // 3] * 3, np.int64))
        query = graph.node("Split", f"{name}.parts", [packed, sizes], outputs=3, axis=-1)
        inputs = [query, f"{query}.1", f"{query}.2", graph.weight(f"{name}.bias", bias)]
        return graph.node("MultiHeadAttention", name, inputs, domain=FUSED, num_heads=heads)

    def product(
        self, graph: Graph, name: str, value: str, matrix: Matrix, bias: Matrix | None, *, of: str | None = None
    ) -> str:
        """A product that rounds its input to 8 bits in blocks, and a sum."""
        seen = self._activations.get(of or name)
        small = quantise_blocks(matrix, None if seen is None else seen.gram)
        inputs = [value, graph.weight(f"{name}.weight", pack(small.values)),
                  graph.weight(f"{name}.scale", small.scale.reshape(-1))]  # fmt: skip
        rows, columns = matrix.shape
        product = graph.node(
            "MatMulNBits", f"{name}.product", inputs, domain=FUSED,
            K=rows, N=columns, bits=4, block_size=BLOCK, accuracy_level=4,
        )  # fmt: skip
        return product if bias is None else graph.node("Add", name, [product, graph.weight(f"{name}.bias", bias)])


_FLOAT = TensorProto.FLOAT


def _quantised(graph: Graph, name: str, matrix: Matrix) -> tuple[str, str]:
    """Add a matrix in 8 bits, one scale for each column, around zero; return the names of values and scales."""
    weight = quantise(matrix, axis=1, limit=WEIGHT_LIMIT)
    return graph.weight(f"{name}.weight", weight.values), graph.weight(f"{name}.scale", weight.scale)
