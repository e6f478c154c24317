"""Where a tuning stands after an epoch, on disk: one safetensors file, replaced in one step, never a pickle.

It knows tensors by their names; what is computed with them is the loop's business.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from insource.backends.model_files import read_arrays
from insource.store.sync import replacing

NOW, BEST, MOMENTS = "now.", "best.", "moments."


@dataclass(frozen=True, slots=True)
class Standing:
    """After some epochs: `told` in JSON about them, and the arrays of the best one by name."""

    told: dict[str, Any]
    best: dict[str, NDArray[Any]]


class Checkpoint:
    """The checkpoint in the file `path`, or none anywhere where that is None; what cannot be read counts as none."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def restore(self, modules: torch.nn.Module, optimiser: torch.optim.Optimizer) -> Standing | None:
        """Put parameters and the optimiser's moments back and return the rest; None where there is nothing to go on."""
        if self._path is None or not self._path.is_file():
            return None
        try:
            arrays = read_arrays(self._path)
            with safe_open(self._path, "np") as file:
                told = json.loads((file.metadata() or {})["told"])
            state = optimiser.state_dict()
            state["state"] = _moments(arrays)
            now = {name: arrays[NOW + name] for name, each in modules.named_parameters() if each.requires_grad}
            optimiser.load_state_dict(state)
        except (OSError, KeyError, ValueError, SafetensorError):
            self.drop()
            return None
        parameters = dict(modules.named_parameters())
        with torch.no_grad():
            for name, array in now.items():
                parameters[name].copy_(torch.from_numpy(array.copy()))
        return Standing(told, {name.removeprefix(BEST): each for name, each in arrays.items() if name.startswith(BEST)})

    def save(
        self, modules: torch.nn.Module, optimiser: torch.optim.Optimizer, told: dict[str, Any], best: dict[str, Any]
    ) -> None:
        """Write where it stands; raises StoreFull or StoreError."""
        if self._path is None:
            return
        arrays = {NOW + name: each.detach().numpy() for name, each in modules.named_parameters() if each.requires_grad}
        for number, kept in optimiser.state_dict()["state"].items():
            arrays |= {f"{MOMENTS}{number}.{name}": np.atleast_1d(each.numpy()) for name, each in kept.items()}
        arrays |= {BEST + name: each for name, each in best.items()}
        with replacing(self._path) as file:
            file.write(save(arrays, metadata={"told": json.dumps(told)}))

    def drop(self) -> None:
        """Forget where it stood."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _moments(arrays: dict[str, NDArray[Any]]) -> dict[int, dict[str, torch.Tensor]]:
    found: dict[int, dict[str, torch.Tensor]] = {}
    for name, array in arrays.items():
        if name.startswith(MOMENTS):
            number, part = name.removeprefix(MOMENTS).split(".")
            value = torch.from_numpy(array.copy())
            found.setdefault(int(number), {})[part] = value[0] if part == "step" else value
    return found
