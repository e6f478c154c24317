"""Model files that are known to be bad, made by hand: links, pickles, archives, false headers, graphs with ways out.

Each changes a folder that holds a good model. It knows how such files are attacked, not how they are checked.
"""

from __future__ import annotations

import gzip
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

ARRAYS, MODEL, TOKENIZER, INFO = "linear.safetensors", "model.onnx", "tokenizer.json", "trunk.json"

Spoil = Callable[[Path], None]


class Opens:
    """What a pickle of it would run on being loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("true",)


def known_bad() -> dict[str, tuple[str, Spoil]]:
    """Return every sample by name: the kind of model ("arrays" or "trunk"), and what spoils a folder of that kind."""
    found: dict[str, tuple[str, Spoil]] = {}
    for file, kind in ((ARRAYS, "arrays"), (MODEL, "trunk"), (TOKENIZER, "trunk")):
        for name, content in _contents().items():
            found[f"{file} is {name}"] = (kind, _write(file, content))
        for name, way in (("a symbolic link", _symbolic), ("a hard link", _hard), ("a pipe", _pipe)):
            found[f"{file} is {name}"] = (kind, _replace(file, way))
    found |= {f"safetensors: {name}": ("arrays", _header(change)) for name, change in HEADERS.items()}
    found |= {f"safetensors: {name}": ("arrays", _bytes(ARRAYS, change)) for name, change in ARRAY_BYTES.items()}
    found |= {f"onnx: {name}": ("trunk", _graph(change)) for name, change in GRAPHS.items()}
    found |= {f"tokenizer: {name}": ("trunk", _tokenizer(change)) for name, change in TOKENIZERS.items()}
    found["trunk.json asks for a billion tokens"] = ("trunk", _info("max_tokens", 10**9))
    found["trunk.json asks for 10^12 dimensions"] = ("trunk", _info("dimension", 10**12))
    return found


def _contents() -> dict[str, bytes]:
    pickles = {f"a pickle of protocol {number}": pickle.dumps(Opens(), protocol=number) for number in range(6)}
    return {
        **pickles,
        "a torch archive": _archive(),
        "a gzipped pickle": gzip.compress(pickles["a pickle of protocol 2"]),
        "a numpy file": b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'shape': ()}\n",
        "a GGUF file": b"GGUF" + b"\xff" * 64,
        "an HDF5 file": b"\x89HDF\r\n\x1a\n" + b"\0" * 64,
        "a program": b"\x7fELF" + b"\0" * 64,
        "empty": b"",
    }


def _archive() -> bytes:
    import io

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Opens(), protocol=2))
    return buffer.getvalue()


def _write(file: str, content: bytes) -> Spoil:
    return lambda folder: _ignored((folder / file).write_bytes(content))


def _ignored(_: object) -> None:
    """Return nothing."""


def _replace(file: str, way: Callable[[Path, Path], None]) -> Spoil:
    def spoil(folder: Path) -> None:
        outside = folder.parent / f"outside-{folder.name}-{file}"
        outside.unlink(missing_ok=True)
        (folder / file).rename(outside)
        way(folder / file, outside)

    return spoil


def _symbolic(path: Path, outside: Path) -> None:
    path.symlink_to(outside)


def _hard(path: Path, outside: Path) -> None:
    path.hardlink_to(outside)


def _pipe(path: Path, _: Path) -> None:
    os.mkfifo(path)


def _bytes(file: str, change: Callable[[bytes], bytes]) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / file).write_bytes(change((folder / file).read_bytes()))

    return spoil


def _header(change: Callable[[dict[str, Any]], object]) -> Spoil:
    """Rewrite the header of the safetensors file, its length put right."""

    def rewritten(data: bytes) -> bytes:
        length = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + length])
        change(header)
        told = json.dumps(header).encode()
        return struct.pack("<Q", len(told)) + told + data[8 + length :]

    return _bytes(ARRAYS, rewritten)


def _move(name: str, start: int, stop: int) -> Callable[[dict[str, Any]], object]:
    def change(header: dict[str, Any]) -> None:
        offsets = header[name]["data_offsets"]
        offsets[0] += start
        offsets[1] += stop

    return change


HEADERS: dict[str, Callable[[dict[str, Any]], object]] = {
    "an array that ends outside the file": _move("weights", 0, 10**9),
    "an array that starts in another": _move("weights", -2, -2),
    "an array longer than its shape": _move("idf", -4, 0),
    "a gap between arrays": lambda header: header.pop("idf"),
    "offsets below zero": lambda header: header["bias"].update(data_offsets=[-8, 0]),
    "offsets the wrong way round": lambda header: header["bias"]["data_offsets"].reverse(),
    "offsets beyond 64 bits": lambda header: header["bias"].update(data_offsets=[2**64, 2**64 + 12]),
    "a shape whose product overflows": lambda header: header["bias"].update(shape=[2**32, 2**32, 3]),
    "a shape below zero": lambda header: header["bias"].update(shape=[-3]),
    "a shape of true": lambda header: header["bias"].update(shape=[True, 3]),
    "a shape of halves": lambda header: header["bias"].update(shape=[1.5, 2]),
    "a shape of sixty dimensions": lambda header: header["bias"].update(shape=[1] * 60 + [3]),
    "an unknown type": lambda header: header["bias"].update(dtype="OBJECT"),
    "a type that is a list": lambda header: header["bias"].update(dtype=["F32"]),
    "a key too many": lambda header: header["bias"].update(file="/etc/passwd"),
    "a note that is no text": lambda header: header.update(__metadata__={"ngrams": {"a": 1}}),
    "twenty thousand empty arrays": lambda header: header.update(
        {f"x{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(20_000)}
    ),
}
ARRAY_BYTES: dict[str, Callable[[bytes], bytes]] = {
    "a header longer than the file": lambda data: struct.pack("<Q", 2**40) + data[8:],
    "a header of 2^64 - 1 bytes": lambda data: struct.pack("<Q", 2**64 - 1) + data[8:],
    "a header of 2 MB": lambda data: struct.pack("<Q", 2**21) + b"{" + b" " * (2**21 - 2) + b"}",
    "a name that stands twice": lambda data: _told(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
                                                   b'"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"x"),
    "a header nested a hundred thousand deep": lambda data: _told(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, b""),
    "bytes after the last array": lambda data: data + b"\0" * 100,
    "the last byte missing": lambda data: data[:-1],
}  # fmt: skip


def _told(header: bytes, rest: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + rest


def _graph(change: Callable[[onnx.ModelProto], object]) -> Spoil:
    def spoil(folder: Path) -> None:
        model = onnx.load_model_from_string((folder / MODEL).read_bytes())
        change(model)
        (folder / MODEL).write_bytes(model.SerializeToString())

    return spoil


def _external(location: str) -> Callable[[onnx.ModelProto], object]:
    def change(model: onnx.ModelProto) -> None:
        weight = model.graph.initializer[0]
        weight.data_location = TensorProto.EXTERNAL
        weight.ClearField("raw_data")
        weight.external_data.add(key="location", value=location)

    return change


def _only_a_place(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL


def _in_an_attribute(model: onnx.ModelProto) -> None:
    tensor = helper.make_tensor("t", TensorProto.FLOAT, [1], [0.0])
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    model.graph.node.append(helper.make_node("Constant", [], ["unused"], value=tensor))


def _node(kind: str, domain: str = "", **attributes: Any) -> Callable[[onnx.ModelProto], object]:
    """Add a node nobody uses."""

    def change(model: onnx.ModelProto) -> None:
        outputs = [] if kind == "Nothing" else ["unused"]
        model.graph.node.append(helper.make_node(kind, ["input_ids"], outputs, domain=domain, **attributes))
        if domain and domain not in {each.domain for each in model.opset_import}:
            model.opset_import.append(helper.make_opsetid(domain, 1))

    return change


def _nested(depth: int) -> Callable[[onnx.ModelProto], object]:
    """Put a condition within a condition, `depth` times."""

    def change(model: onnx.ModelProto) -> None:
        output = helper.make_tensor_value_info("y", TensorProto.BOOL, [])
        inner = helper.make_graph([helper.make_node("Constant", [], ["y"], value=_truth())], "g", [], [output])
        for _ in range(depth):
            nodes = [helper.make_node("Constant", [], ["c"], value=_truth()),
                     helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)]  # fmt: skip
            inner = helper.make_graph(nodes, "g", [], [output])
        model.graph.node.extend(inner.node)

    return change


def _truth() -> onnx.TensorProto:
    return helper.make_tensor("t", TensorProto.BOOL, [], [True])


def _function(model: onnx.ModelProto) -> None:
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    opset = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("ours", "Same", ["x"], ["y"], nodes, opset))


def _sparse(model: onnx.ModelProto) -> None:
    values = helper.make_tensor("sparse", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [2**40])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2**41]))


GRAPHS: dict[str, Callable[[onnx.ModelProto], object]] = {
    "data in /etc/passwd": _external("/etc/passwd"),
    "data above the folder": _external("../outside.bin"),
    "data in the folder": _external("weights.bin"),
    "data at an odd name": _external("weights.bin\0/etc/passwd"),
    "data outside, no place named": _only_a_place,
    "data outside, in a node": _in_an_attribute,
    "an unknown domain": _node("Identity", "evil.example"),
    "a node of python": _node("PyOp", "ai.onnx.contrib"),
    "a loop": _node("Loop"),
    "an expansion": _node("Expand"),
    "random numbers": _node("RandomNormal", shape=[10**6, 10**6]),
    "a constant of a shape": _node("ConstantOfShape"),
    "conditions nested twelve deep": _nested(12),
    "a function of its own": _function,
    "sparse weights": _sparse,
    "thirty thousand nodes": lambda model: model.graph.node.extend(
        helper.make_node("Identity", ["input_ids"], [f"n{n}"]) for n in range(30_000)
    ),
    "thirty thousand weights": lambda model: model.graph.initializer.extend(
        helper.make_tensor(f"w{n}", TensorProto.FLOAT, [0], b"", raw=True) for n in range(30_000)
    ),
    "a weight of 2^62 numbers": lambda model: model.graph.initializer[0].dims.__setitem__(0, 2**62),
    "a weight below zero": lambda model: model.graph.initializer[0].dims.__setitem__(0, -1),
    "a weight of twenty dimensions": lambda model: model.graph.initializer[0].dims.extend([1] * 20),
    "a weight shorter than it says": lambda model: setattr(
        model.graph.initializer[0], "raw_data", model.graph.initializer[0].raw_data[:-4]
    ),
    "a weight of texts": lambda model: model.graph.initializer.append(
        TensorProto(name="text", data_type=TensorProto.STRING, dims=[1], string_data=[b"x" * 100])
    ),
    "a weight in segments": lambda model: model.graph.initializer[0].segment.CopyFrom(
        TensorProto.Segment(begin=0, end=2**40)
    ),
    "a name of a megabyte": lambda model: setattr(model.graph.node[0], "name", "n" * 2**20),
    "training information": lambda model: model.training_info.add(),
    "an input of 2^60 dimensions": lambda model: setattr(
        model.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 2**60
    ),
    "an input that is a sequence": lambda model: model.graph.input[0].type.sequence_type.elem_type.tensor_type.CopyFrom(
        model.graph.output[0].type.tensor_type
    ),
    "no graph": lambda model: model.ClearField("graph"),
    "a future version": lambda model: setattr(model, "ir_version", 10**6),
}


def _tokenizer(change: Callable[[dict[str, Any]], object]) -> Spoil:
    def spoil(folder: Path) -> None:
        told = json.loads((folder / TOKENIZER).read_bytes())
        change(told)
        (folder / TOKENIZER).write_text(json.dumps(told))

    return spoil


def _info(key: str, value: int) -> Spoil:
    def spoil(folder: Path) -> None:
        told = json.loads((folder / INFO).read_bytes())
        told[key] = value
        (folder / INFO).write_text(json.dumps(told))

    return spoil


TOKENIZERS: dict[str, Callable[[dict[str, Any]], object]] = {
    "padding to 10^12": lambda told: told["padding"].update(strategy={"Fixed": 10**12}),
    "truncation at 10^15": lambda told: told["truncation"].update(max_length=10**15),
    "a pattern that never ends": lambda told: told.update(
        pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    ),
    "a pattern in a normalizer": lambda told: told.update(
        normalizer={"type": "Replace", "pattern": {"Regex": "(x+x+)+y"}, "content": ""}
    ),
    "a word numbered 2^32 - 1": lambda told: told["model"]["vocab"].update(card=2**32 - 1),
    "no words": lambda told: told["model"].update(vocab={}),
    "words of a million characters": lambda told: told["model"].update(max_input_chars_per_word=10**6),
    "an unknown model": lambda told: told["model"].update(type="Python"),
    "parts nested ten deep": lambda told: told.update(normalizer=_sequences(10)),
    "a template of unknown tokens": lambda told: told["post_processor"]["special_tokens"].pop("[SEP]"),
    "an added token below zero": lambda told: told["added_tokens"][0].update(id=-1),
}


def _sequences(depth: int) -> dict[str, Any]:
    part: dict[str, Any] = {"type": "Lowercase"}
    for _ in range(depth):
        part = {"type": "Sequence", "normalizers": [part]}
    return part
