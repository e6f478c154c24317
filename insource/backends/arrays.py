"""Named arrays in one safetensors file: written so that a full disk is the operating system's own error.

It knows names and arrays; what they mean is the engines' business.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]], metadata: dict[str, str] | None = None) -> None:
    """Write arrays to `path`; raises OSError, where safetensors' own writer would hide it in an error of its own.

    It writes the memory of an array as it lies, so that each is laid out in rows first.
    """
    path.write_bytes(save({name: np.asarray(each, order="C") for name, each in arrays.items()}, metadata=metadata))
