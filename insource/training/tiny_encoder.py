"""A tiny random BERT, written as a base-model folder: the double of a real base model, for tests and dry runs.

Its embeddings mean nothing; all else about it (files, tensor names, tokenizer) is as in a real one.
"""

from __future__ import annotations

import json
import string
from pathlib import Path

import numpy as np

from insource.training.base_models import BaseModel, from_folder

HIDDEN = 32
WIDE = 64
POSITIONS = 48
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LETTERS = string.ascii_lowercase + string.digits + "?!.,"


def write_tiny_base(folder: Path, *, seed: int = 0, layers: int = 2, heads: int = 4, max_tokens: int = 24) -> BaseModel:
    """Write a random encoder of about 100 wordpieces and 32 dimensions into `folder`; the same seed, the same bytes."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = [*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS), "card", "lost", "where", "##ing"]
    save_file(_weights(np.random.default_rng(seed), len(vocabulary), layers), folder / "model.safetensors")
    config = {
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": HIDDEN,
        "intermediate_size": WIDE,
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "max_position_embeddings": POSITIONS,
        "layer_norm_eps": 1e-12,
    }
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": max_tokens}), "utf-8")
    (folder / "tokenizer.json").write_text(json.dumps(_tokenizer(vocabulary)), "utf-8")
    return from_folder(folder, name="tiny")


def _weights(random: np.random.Generator, words: int, layers: int) -> dict[str, np.ndarray]:
    """Tensors under the names that BERT checkpoints use."""
    tensors: dict[str, np.ndarray] = {}

    def dense(name: str, inputs: int, outputs: int) -> None:
        tensors[f"{name}.weight"] = random.normal(0, 0.3, (outputs, inputs)).astype(np.float32)
        tensors[f"{name}.bias"] = random.normal(0, 0.3, outputs).astype(np.float32)

    def norm(name: str) -> None:
        tensors[f"{name}.weight"] = random.uniform(0.5, 1.5, HIDDEN).astype(np.float32)
        tensors[f"{name}.bias"] = random.normal(0, 0.3, HIDDEN).astype(np.float32)

    for name, rows in (("word", words), ("position", POSITIONS), ("token_type", 2)):
        tensors[f"embeddings.{name}_embeddings.weight"] = random.normal(0, 1, (rows, HIDDEN)).astype(np.float32)
    norm("embeddings.LayerNorm")
    for layer in (f"encoder.layer.{number}" for number in range(layers)):
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            dense(f"{layer}.attention.{part}", HIDDEN, HIDDEN)
        norm(f"{layer}.attention.output.LayerNorm")
        dense(f"{layer}.intermediate.dense", HIDDEN, WIDE)
        dense(f"{layer}.output.dense", WIDE, HIDDEN)
        norm(f"{layer}.output.LayerNorm")
    return tensors


def _tokenizer(vocabulary: list[str]) -> dict[str, object]:
    """The content of a tokenizer.json; it pads and truncates on purpose, as real ones do."""
    numbers = {word: number for number, word in enumerate(vocabulary)}
    marks = {
        "[CLS]": {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
        "[SEP]": {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
    }
    single = [marks["[CLS]"], {"Sequence": {"id": "A", "type_id": 0}}, marks["[SEP]"]]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": {"max_length": 8, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": {
            "strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": None,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]",
        },
        "added_tokens": [{"id": numbers[word], "content": word, **flags} for word in SPECIAL],
        "normalizer": {
            "type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
            "strip_accents": None, "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": single,
            "pair": [*single, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {
                word: {"id": word, "ids": [numbers[word]], "tokens": [word]} for word in ("[CLS]", "[SEP]")
            },
        },
        "decoder": None,
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": numbers,
        },
    }  # fmt: skip
