"""The check of an ONNX file by its protobuf bytes, before any native parser sees them.

It walks the messages of onnx.proto (IR versions 3 to 12) by their field numbers and allows what a trunk is made of:
known operators, tensors whose bytes lie in the file, no functions, no subgraphs, no data anywhere else.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from insource.backends.refused_file import RefusedFile

MOST_NODES = 20_000
MOST_WEIGHTS = 20_000
MOST_DIMENSIONS = 8
LARGEST_DIMENSION = 2**31 - 1
LONGEST_NAME = 4_096
LONGEST_LIST = 100_000
WIDTHS = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
"""Bytes of an element by its data type; texts, complex numbers and packed 4-bit types are left out."""
OPERATORS = {
    "": frozenset({
        "Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Reciprocal", "Erf", "Exp", "Tanh", "Sigmoid", "Relu", "Gelu",
        "Softmax", "MatMul", "MatMulInteger", "Gemm", "Cast", "Shape", "Slice", "Gather", "Concat", "Split", "Reshape",
        "Transpose", "Squeeze", "Unsqueeze", "Identity", "ReduceMean", "ReduceSum", "ReduceMax", "LpNormalization",
        "LayerNormalization", "DynamicQuantizeLinear", "QuantizeLinear", "DequantizeLinear", "Where", "Equal", "Not",
        "Less", "Greater", "Min", "Max", "Clip", "Neg", "Abs", "Constant",
    }),
    "com.microsoft": frozenset({
        "Attention", "QAttention", "MultiHeadAttention", "BiasGelu", "FastGelu", "Gelu", "DynamicQuantizeMatMul",
        "MatMulIntegerToFloat", "MatMulNBits", "SkipLayerNormalization", "EmbedLayerNormalization",
    }),
}  # fmt: skip
"""What may stand in a trunk. Control flow, loops, text, random numbers and whatever makes arrays from a number alone
(Expand, Tile, Range, ConstantOfShape) are left out."""

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
Field = tuple[int, int, "int | memoryview"]


def check_onnx(data: bytes) -> None:
    """Raise RefusedFile where bytes are not an ONNX model of known operators that holds all its data itself."""
    graphs, domains = 0, set()
    for number, kind, value in _fields(memoryview(data)):
        if number == 7:
            graphs += 1
            _check_graph(_message(kind, value, "the graph"))
        elif number == 8:
            domains.add(_domain(_message(kind, value, "an operator set")))
        elif number == 1:
            if kind != VARINT or not 3 <= value <= 12:  # type: ignore[operator]
                raise RefusedFile(f"its IR version is {value!r}; 3 to 12 was expected")
        elif number in (20, 25):
            raise RefusedFile("it defines functions or training of its own; a plain graph was expected")
        elif number not in (2, 3, 4, 5, 6, 14):
            raise RefusedFile(f"it has the field {number}, which an ONNX model has not")
        elif number != 5:
            _short(kind, value, "a note", LONGEST_LIST)
    if graphs != 1 or not domains:
        raise RefusedFile(f"it has {graphs} graphs and {len(domains)} operator sets; one graph was expected")


def _check_graph(graph: memoryview) -> None:
    nodes = weights = 0
    for number, kind, value in _fields(graph):
        if number == 1:
            nodes += 1
            _check_node(_message(kind, value, "a node"))
        elif number == 5:
            weights += 1
            _check_tensor(_message(kind, value, "a weight"))
        elif number in (11, 12, 13):
            _check_value(_message(kind, value, "an input or output"))
        elif number in (2, 10, 16):
            _short(kind, value, "a name of the graph", LONGEST_LIST)
        else:
            raise RefusedFile(f"its graph has the field {number} (sparse, quantised or unknown); weights were expected")
        if nodes > MOST_NODES or weights > MOST_WEIGHTS:
            raise RefusedFile(f"its graph has more than {MOST_NODES:,} nodes or {MOST_WEIGHTS:,} weights")
    if not nodes:
        raise RefusedFile("its graph has no nodes")


def _check_node(node: memoryview) -> None:
    operator = domain = ""
    for number, kind, value in _fields(node):
        if number == 5:
            _check_attribute(_message(kind, value, "an attribute"))
        elif number in (1, 2, 3, 4, 6, 7, 8, 9):
            text = _short(kind, value, "a name of a node", LONGEST_NAME)
            operator, domain = (text if number == 4 else operator), (text if number == 7 else domain)
            if number == 8 and text:
                raise RefusedFile(f"a node is an overload {text!r}; a plain operator was expected")
        else:
            raise RefusedFile(f"a node has the field {number}, which ONNX has not")
    domain = "" if domain == "ai.onnx" else domain
    if operator not in OPERATORS.get(domain, ()):
        raise RefusedFile(f"it uses the operator {domain + '.' if domain else ''}{operator}, which no trunk is made of")


def _check_attribute(attribute: memoryview) -> None:
    """Numbers, lists of numbers, short texts and one tensor may be attributes; graphs may not."""
    listed = 0
    for number, kind, value in _fields(attribute):
        if number == 5:
            _check_tensor(_message(kind, value, "a tensor of a node"))
        elif number in (1, 4, 13):
            _short(kind, value, "a text of a node", LONGEST_NAME)
        elif number in (7, 8):
            listed += len(value) if isinstance(value, memoryview) else 8
            if listed > LONGEST_LIST:
                raise RefusedFile("a node has a list that is too long")
        elif number not in (2, 3, 20):
            raise RefusedFile(f"a node has an attribute with the field {number} (a subgraph, a reference or unknown)")


def _check_tensor(tensor: memoryview) -> None:
    """A tensor's bytes lie in the file and are as many as its dimensions say."""
    dimensions: list[int] = []
    kind_of_data, raw, typed = 0, None, False
    for number, kind, value in _fields(tensor):
        if number == 1:
            dimensions += _numbers(kind, value)
        elif number == 2 and isinstance(value, int):
            kind_of_data = value
        elif number == 9:
            if raw is not None:
                raise RefusedFile("a weight has its bytes twice")
            raw = len(_message(kind, value, "the bytes of a weight"))
        elif number in (13, 14):
            raise RefusedFile("it refers to data in another file")
        elif number in (4, 5, 7, 10, 11):
            typed = True
        elif number in (8, 12, 16):
            _short(kind, value, "a name of a weight", LONGEST_NAME)
        else:
            raise RefusedFile(f"a weight has the field {number} (a segment, texts or unknown); plain bytes are taken")
    if kind_of_data not in WIDTHS:
        raise RefusedFile(f"a weight has the data type {kind_of_data}; numbers were expected")
    if len(dimensions) > MOST_DIMENSIONS or not all(0 <= each <= LARGEST_DIMENSION for each in dimensions):
        raise RefusedFile(f"a weight has the dimensions {dimensions}")
    wanted = prod(dimensions) * WIDTHS[kind_of_data]
    if typed or (raw or 0) != wanted:
        raise RefusedFile(f"a weight of the dimensions {dimensions} has {raw} bytes; {wanted:,} were expected")


def _check_value(value: memoryview) -> None:
    """The type of an input or output: a tensor of numbers with few, sane dimensions."""
    for number, kind, part in _fields(value):
        if number == 2:
            for of, inner, told in _fields(_message(kind, part, "a type")):
                if of not in (1, 6):
                    raise RefusedFile("an input or output is not a tensor")
                if of == 1:
                    _check_tensor_type(_message(inner, told, "a tensor type"))
        elif number in (1, 3, 4):
            _short(kind, part, "a name of an input", LONGEST_NAME)
        else:
            raise RefusedFile(f"an input or output has the field {number}, which ONNX has not")


def _check_tensor_type(told: memoryview) -> None:
    for number, kind, value in _fields(told):
        if number == 1 and value not in WIDTHS:
            raise RefusedFile(f"an input or output has the data type {value!r}")
        if number == 2:
            shape = [part for _, inner, part in _fields(_message(kind, value, "a shape")) if inner == BYTES]
            sizes = [size for part in shape for field, _, size in _fields(_view(part)) if field == 1]
            if len(shape) > MOST_DIMENSIONS or not all(
                isinstance(size, int) and size <= LARGEST_DIMENSION for size in sizes
            ):
                raise RefusedFile("an input or output has absurd dimensions")


def _domain(told: memoryview) -> str:
    domain, version = "", 0
    for number, kind, value in _fields(told):
        if number == 1:
            domain = _short(kind, value, "a domain", LONGEST_NAME)
        elif number == 2 and isinstance(value, int):
            version = value
    if ("" if domain == "ai.onnx" else domain) not in OPERATORS or not 1 <= version <= 100:
        raise RefusedFile(f"it uses version {version} of the operators of {domain!r}")
    return domain


def _fields(data: memoryview) -> Iterator[Field]:
    """Yield field number, wire type and value of a message; RefusedFile where it does not end where it should."""
    place, end = 0, len(data)
    while place < end:
        tag, place = _varint(data, place)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise RefusedFile("it is no protobuf message (field 0)")
        value: int | memoryview
        if kind == VARINT:
            value, place = _varint(data, place)
        elif kind in (FIXED64, FIXED32):
            width = 8 if kind == FIXED64 else 4
            value, place = data[place : place + width], place + width
        elif kind == BYTES:
            length, place = _varint(data, place)
            value, place = data[place : place + length], place + length
        else:
            raise RefusedFile(f"it is no protobuf message (wire type {kind})")
        if place > end:
            raise RefusedFile("a part of it ends outside of it")
        yield number, kind, value


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    found = shift = 0
    for position in range(place, min(place + 10, len(data))):
        byte = data[position]
        found |= (byte & 0x7F) << shift
        if byte < 0x80:
            if found >= 2**64:
                break
            return found, position + 1
        shift += 7
    raise RefusedFile("a number in it does not end")


def _message(kind: int, value: int | memoryview, what: str) -> memoryview:
    if kind != BYTES:
        raise RefusedFile(f"{what} has the wire type {kind}; a message was expected")
    return _view(value)


def _view(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise RefusedFile("a number stands where a message was expected")
    return value


def _short(kind: int, value: int | memoryview, what: str, longest: int) -> str:
    text = _message(kind, value, what)
    if len(text) > longest:
        raise RefusedFile(f"{what} has {len(text):,} bytes; at most {longest:,} were expected")
    return bytes(text).decode("utf-8", "replace")


def _numbers(kind: int, value: int | memoryview) -> list[int]:
    """Return the numbers of a repeated field, packed or one at a time."""
    if isinstance(value, int):
        return [value]
    if kind != BYTES or len(value) > 10 * MOST_DIMENSIONS:
        raise RefusedFile("the dimensions of a weight are no short list of numbers")
    numbers, place = [], 0
    while place < len(value):
        number, place = _varint(value, place)
        numbers.append(number)
    return numbers
