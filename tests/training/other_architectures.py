"""Tiny random checkpoints of encoders that are BERT but for names and numbers, and what transformers makes of them.

Run by a Python with transformers and torch, from the checkout, it writes anew the numbers that the tests compare with:
`PYTHONPATH=. .peers/transformers/bin/python -m tests.training.other_architectures`.
"""

import json
import tempfile
from pathlib import Path

import numpy as np

HIDDEN, WIDE, WORDS, POSITIONS, LAYERS, HEADS = 16, 24, 40, 18, 2, 2
NUMBERS = Path(__file__).with_suffix(".json")
IDS = ([0, 5, 6, 7, 2], [0, 39, 38, 37, 36, 20, 21, 22, 23, 24, 25, 2])
BERT = {
    "attention.self.query": 0, "attention.self.key": 0, "attention.self.value": 0, "attention.output.dense": 0,
    "attention.output.LayerNorm": 1, "intermediate.dense": 2, "output.dense": 3, "output.LayerNorm": 1,
}  # fmt: skip
DISTILBERT = {
    "attention.q_lin": 0, "attention.k_lin": 0, "attention.v_lin": 0, "attention.out_lin": 0,
    "sa_layer_norm": 1, "ffn.lin1": 2, "ffn.lin2": 3, "output_layer_norm": 1,
}  # fmt: skip
SHAPES = {0: (HIDDEN, HIDDEN), 1: (HIDDEN,), 2: (WIDE, HIDDEN), 3: (HIDDEN, WIDE)}
COMMON = {"vocab_size": WORDS, "max_position_embeddings": POSITIONS}
SIZES = COMMON | {
    "hidden_size": HIDDEN, "intermediate_size": WIDE, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
}  # fmt: skip
CONFIGS = {
    "bert": SIZES | {"type_vocab_size": 2, "layer_norm_eps": 1e-12},
    "roberta": SIZES | {"type_vocab_size": 1, "layer_norm_eps": 1e-5, "pad_token_id": 1},
    "xlm-roberta": SIZES | {"type_vocab_size": 1, "layer_norm_eps": 1e-5, "pad_token_id": 3},
    "camembert": SIZES | {"type_vocab_size": 1, "layer_norm_eps": 1e-5},
    "distilbert": COMMON
    | {"dim": HIDDEN, "hidden_dim": WIDE, "n_layers": LAYERS, "n_heads": HEADS, "activation": "gelu"},
}
PREFIXES = {"bert": "bert.", "roberta": "roberta.", "xlm-roberta": "", "camembert": "roberta.", "distilbert": ""}


def write_checkpoint(folder: Path, kind: str, words: int = WORDS) -> Path:
    """Write config.json and model.safetensors of a kind into `folder`; the same bytes each time."""
    from safetensors.numpy import save_file

    random = np.random.default_rng(sum(kind.encode()))
    tensors: dict[str, np.ndarray] = {}
    norm = {"weight": "gamma", "bias": "beta"} if kind == "bert" else {"weight": "weight", "bias": "bias"}

    def part(name: str, shape: tuple[int, ...]) -> None:
        own = norm if "LayerNorm" in name or "layer_norm" in name else {"weight": "weight", "bias": "bias"}
        tensors[f"{name}.{own['weight']}"] = random.normal(1.0 if len(shape) == 1 else 0.0, 0.4, shape)
        tensors[f"{name}.{own['bias']}"] = random.normal(0, 0.4, shape[0])

    prefix = PREFIXES[kind]
    tables = {"word": words, "position": POSITIONS, "token_type": CONFIGS[kind].get("type_vocab_size", 0)}
    for name, rows in tables.items():
        if rows:
            tensors[f"{prefix}embeddings.{name}_embeddings.weight"] = random.normal(0, 1, (rows, HIDDEN))
    part(f"{prefix}embeddings.LayerNorm", (HIDDEN,))
    layers, parts = ("transformer", DISTILBERT) if kind == "distilbert" else ("encoder", BERT)
    for number in range(LAYERS):
        for name, shape in parts.items():
            part(f"{prefix}{layers}.layer.{number}.{name}", SHAPES[shape])
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.astype(np.float32) for name, tensor in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": kind} | CONFIGS[kind] | {"vocab_size": words}))
    return folder


def mean_tokens(folder: Path) -> list[list[float]]:
    """What transformers makes of IDS: the mean of the last layer's tokens."""
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        found = [model(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(0) for ids in IDS]
    return [[round(float(value), 6) for value in each] for each in found]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        numbers = {kind: mean_tokens(write_checkpoint(Path(scratch) / kind, kind)) for kind in CONFIGS}
    lines = [f"{json.dumps(kind)}: {json.dumps(found)}" for kind, found in numbers.items()]
    NUMBERS.write_text("{\n" + ",\n".join(lines) + "\n}\n")
