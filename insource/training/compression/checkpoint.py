"""An encoder's folder in memory: its config and tensors, changed by those who take parts out, and written anew.

It knows files and names; not which parts matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insource.training.base_models import WEIGHTS_FILE, BaseModel, write_base
from insource.training.encoder_weights import EncoderShape, Weights, bert_config, read_shape

LAYER = "encoder.layer"

Matrix = NDArray[np.float32]


@dataclass
class Checkpoint:
    """What a base model's folder holds; `tensors` float32 by name, matrices as (outputs, inputs)."""

    base: BaseModel
    shape: EncoderShape
    config: dict[str, Any]
    tensors: dict[str, Matrix]
    tokenizer: str

    @classmethod
    def read(cls, base: BaseModel) -> Checkpoint:
        """Read a base model; DataError where it is no encoder that can be built."""
        shape = read_shape(base.folder)
        tensors = Weights.read(base.folder / WEIGHTS_FILE).used()
        return cls(base, shape, bert_config(base.folder), tensors, (base.folder / "tokenizer.json").read_text("utf-8"))

    def write(self, folder: Path) -> BaseModel:
        """Write the encoder as a base model into `folder`, under the name of the one that was read, and return it."""
        tensors = {name: np.ascontiguousarray(tensor) for name, tensor in self.tensors.items()}
        written = write_base(folder, self.base, tensors, name=self.base.name, **self.config)
        (folder / "tokenizer.json").write_text(self.tokenizer, "utf-8")
        return written

    def layer(self, number: int) -> dict[str, Matrix]:
        """Return the tensors of a layer by the rest of their names."""
        start = f"{LAYER}.{number}."
        return {name.removeprefix(start): tensor for name, tensor in self.tensors.items() if name.startswith(start)}

    def put_layer(self, number: int, tensors: dict[str, Matrix]) -> None:
        """Put a layer's tensors in the place of those that stand there."""
        self.tensors |= {f"{LAYER}.{number}.{name}": tensor for name, tensor in tensors.items()}

    def keep_layers(self, kept: Sequence[int]) -> None:
        """Keep these layers, in this order, under new numbers."""
        layers = [self.layer(number) for number in kept]
        self.tensors = {name: each for name, each in self.tensors.items() if not name.startswith(f"{LAYER}.")}
        for number, tensors in enumerate(layers):
            self.put_layer(number, tensors)
        gone = self.config.get("pruned_heads") or {}
        self.config["num_hidden_layers"] = len(kept)
        if gone:
            self.config["pruned_heads"] = {str(new): gone[str(old)] for new, old in enumerate(kept) if str(old) in gone}
