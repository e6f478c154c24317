"""The weights of a BERT encoder: read from safetensors, checked against its config, and quantised to 8 bits.

Numpy arrays only: it knows neither the graph they end up in nor the runtime that will run them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insource.backends.model_files import LARGEST_TEXT, parse_json, read_arrays, read_plain
from insource.errors import DataError
from insource.training.architectures import Array, as_bert, as_bert_config

SUPPORTED = {"hidden_act": "gelu", "position_embedding_type": "absolute"}


@dataclass(frozen=True, slots=True)
class EncoderShape:
    """The sizes of a BERT encoder, as its config.json states them.

    `heads` is how many share the hidden dimensions evenly; `kept_heads` is how many of them each layer still has.
    """

    layers: int
    hidden: int
    heads: int
    positions: int
    epsilon: float
    kept_heads: tuple[int, ...]

    @property
    def head_size(self) -> int:
        """The dimensions of one head."""
        return self.hidden // self.heads


@dataclass(frozen=True, slots=True)
class Quantised:
    """A matrix in 8 bits: values int8, and one float32 scale for each column (or row); the zero point is 0."""

    values: NDArray[np.int8]
    scale: NDArray[np.float32]


def bert_config(folder: Path) -> dict[str, Any]:
    """Return config.json under BERT's names; raise DataError where there is none of an encoder that can be built."""
    return _configs(folder)[1]


def read_shape(folder: Path) -> EncoderShape:
    """Read config.json; raise DataError where it is missing, or is no encoder of the kind that can be built."""
    path = folder / "config.json"
    config = bert_config(folder)
    try:
        for key, wanted in SUPPORTED.items():
            if config.get(key, wanted) != wanted:
                raise DataError(
                    f"{path} says {key} = {config[key]!r}; only {key} = {wanted!r} can be built. Choose a BERT encoder."
                )
        layers, heads = int(config["num_hidden_layers"]), int(config["num_attention_heads"])
        shape = EncoderShape(
            layers=layers,
            hidden=int(config["hidden_size"]),
            heads=heads,
            positions=int(config["max_position_embeddings"]),
            epsilon=float(config.get("layer_norm_eps", 1e-12)),
            kept_heads=_kept_heads(config.get("pruned_heads") or {}, layers, heads),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(path, error) from error
    if min(shape.layers, shape.hidden, shape.heads, shape.positions) < 1 or shape.hidden % shape.heads:
        raise DataError(
            f"{path} asks for {shape.layers} layers of {shape.hidden} dimensions in {shape.heads} heads; expected "
            "dimensions that the heads share evenly. Fetch the model again."
        )
    return shape


def _configs(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return config.json as it stands, and under BERT's names."""
    path = folder / "config.json"
    try:
        found = parse_json(read_plain(path, LARGEST_TEXT, links=True))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    try:
        return found, as_bert_config(found)
    except ValueError as error:
        raise DataError(f"{path} says {error}. Choose such an encoder.") from error


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path} cannot be read ({type(error).__name__}: {error}); expected the config of a BERT encoder. "
        "Point at a folder with config.json, model.safetensors and tokenizer.json."
    )


def _kept_heads(pruned: Mapping[str, list[int]], layers: int, heads: int) -> tuple[int, ...]:
    """Return how many heads each layer has left; `pruned_heads` of a config.json lists those taken out, by layer."""
    kept = [heads] * layers
    for layer, gone in pruned.items():
        if not 0 <= int(layer) < layers or not set(gone) < set(range(heads)):
            raise ValueError(f"pruned_heads takes {gone} from layer {layer}; some of {heads} heads have to stay")
        kept[int(layer)] -= len(set(gone))
    return tuple(kept)


class Weights:
    """The tensors of one encoder, as float32, by the names that BERT gives them."""

    def __init__(self, tensors: Mapping[str, Array], source: str) -> None:
        self._tensors = dict(tensors)
        self._source = source

    @classmethod
    def read(cls, path: Path) -> Weights:
        """Read a safetensors file of float32 or float16 beside its config.json; raise DataError where that fails."""
        from safetensors import SafetensorError

        config, _ = _configs(path.parent)
        try:
            return cls(as_bert(read_arrays(path, links=True), config), str(path))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{path} cannot be read as safetensors ({error}); expected float32 or float16 weights. Fetch it again."
            ) from error

    def tensor(self, name: str, *shape: int | None) -> NDArray[np.float32]:
        """The named tensor; raise DataError where it is missing, of another shape, or not finite."""
        found = self._tensors.get(name)
        fits = (
            found is not None
            and found.ndim == len(shape)
            and all(wanted in (None, size) for wanted, size in zip(shape, found.shape, strict=True))
        )
        if found is None or not fits:
            have = "is missing" if found is None else f"has shape {found.shape}"
            raise DataError(
                f"{self._source}: tensor {name} {have}; expected {shape}. Use weights that fit config.json."
            )
        if not np.isfinite(found).all():
            raise DataError(f"{self._source}: tensor {name} is not finite; expected numbers. Fetch the weights again.")
        return np.ascontiguousarray(found, dtype=np.float32)

    def used(self) -> dict[str, NDArray[np.float32]]:
        """Every tensor of the embeddings and the layers by its name; what else a file holds has no part in a trunk."""
        return {
            name: self.tensor(name, *([None] * tensor.ndim))
            for name, tensor in self._tensors.items()
            if name.startswith(("embeddings.", "encoder.")) and np.issubdtype(tensor.dtype, np.floating)
        }

    def matrix(self, name: str, rows: int | None, columns: int | None) -> NDArray[np.float32]:
        """The named layer's weight as (inputs, outputs), for x @ W."""
        return np.ascontiguousarray(self.tensor(f"{name}.weight", columns, rows).T)


def quantise(matrix: NDArray[np.float32], *, axis: int, limit: int) -> Quantised:
    """Round a matrix to integers within +-limit, with one scale for each slice along `axis`.

    Symmetric, round half to even. For products with unsigned activations limit is 64: two products of 255 * 64 fit
    16 bits, so processors with and without VNNI add up to the very same integers (ONNX Runtime, "Quantize ONNX
    models", on saturation and reduce_range).
    """
    largest = np.abs(matrix).max(axis=1 - axis, keepdims=True)
    scale = np.where(largest > 0, largest / limit, 1.0).astype(np.float32)
    values = np.clip(np.rint(matrix / scale), -limit, limit).astype(np.int8)
    return Quantised(values, scale.reshape(-1))
