"""The encoders that are BERT but for names and numbers, read as the BERT that they are.

RoBERTa (Liu et al. 2019), XLM-RoBERTa and CamemBERT count positions from behind the padding's number; DistilBERT (Sanh
et al. 2019) has other names and no segments. It knows configs and tensor names; no files, no graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
WORDS = "embeddings.word_embeddings.weight"
POSITIONS = "embeddings.position_embeddings.weight"
SEGMENTS = "embeddings.token_type_embeddings.weight"
OLD_NORM = {".LayerNorm.gamma": ".LayerNorm.weight", ".LayerNorm.beta": ".LayerNorm.bias"}
"""What the first BERT checkpoints call a LayerNorm's weight and bias."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """What sets a family of checkpoints apart from BERT's: what names are called, and where positions begin."""

    prefix: str
    config: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    padded: bool = False
    """Whether the first position stands behind the padding's number, as position i is pad_token_id + 1 + i."""


ROBERTA = Architecture("roberta.", padded=True)
DISTILBERT = Architecture(
    "distilbert.",
    config={
        "n_layers": "num_hidden_layers", "n_heads": "num_attention_heads", "dim": "hidden_size",
        "hidden_dim": "intermediate_size", "activation": "hidden_act",
    },
    names={
        "transformer.layer.": "encoder.layer.", ".attention.q_lin.": ".attention.self.query.",
        ".attention.k_lin.": ".attention.self.key.", ".attention.v_lin.": ".attention.self.value.",
        ".attention.out_lin.": ".attention.output.dense.", ".sa_layer_norm.": ".attention.output.LayerNorm.",
        ".ffn.lin1.": ".intermediate.dense.", ".ffn.lin2.": ".output.dense.",
        ".output_layer_norm.": ".output.LayerNorm.",
    },
)  # fmt: skip
ARCHITECTURES = {
    "bert": Architecture("bert."),
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
    "camembert": ROBERTA,
    "distilbert": DISTILBERT,
}
"""By the model_type of a config.json."""


def as_bert_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config under BERT's names, its positions those that texts can use; a BERT's stays as it is.

    Raises ValueError for a model_type that is none of ARCHITECTURES, or a padding without a number.
    """
    its = _architecture(config)
    found = {its.config.get(key, key): value for key, value in config.items()}
    if its.padded and type(positions := config.get("max_position_embeddings")) is int:
        found["max_position_embeddings"] = positions - _first(config)
    return found | {"model_type": "bert"}


def as_bert(tensors: Mapping[str, Array], config: Mapping[str, Any]) -> dict[str, Array]:
    """Return tensors under BERT's names; `config` is the one they came with. Raises as `as_bert_config`."""
    its = _architecture(config)
    found = {_renamed(name, its): tensor for name, tensor in tensors.items()}
    if its.padded and POSITIONS in found:
        found[POSITIONS] = found[POSITIONS][_first(config) :]
    if its is DISTILBERT and WORDS in found and found[WORDS].ndim == 2:
        found[SEGMENTS] = np.zeros((1, found[WORDS].shape[1]), np.float32)
    return found


def _architecture(config: Mapping[str, Any]) -> Architecture:
    kind = config.get("model_type", "bert")
    its = ARCHITECTURES.get(kind) if isinstance(kind, str) else None
    if its is None:
        raise ValueError(f"model_type = {kind!r}; one of {', '.join(ARCHITECTURES)} can be built")
    return its


def _first(config: Mapping[str, Any]) -> int:
    """Return the row of the first token's position."""
    padding = config.get("pad_token_id", 1)
    if type(padding) is not int or padding < 0:
        raise ValueError(f"pad_token_id = {padding!r}; the number of the padding's token was expected")
    return padding + 1


def _renamed(name: str, its: Architecture) -> str:
    name = name.removeprefix(its.prefix)
    for old, new in its.names.items():
        name = name.replace(old, new)
    for old, new in OLD_NORM.items():
        name = name.removesuffix(old) + new if name.endswith(old) else name
    return name
