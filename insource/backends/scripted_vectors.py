"""Pseudo-embeddings for the scripted upstream: vectors made of a hash, the same for the same text, meaning nothing.

They only have the form of embeddings; nothing may be concluded from them.
"""

from __future__ import annotations

import json
import math
import struct
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from insource.types import Usage

DIMENSION = 16
MOST_DIMENSIONS = 4096


def embedded(fields: Mapping[str, Any], model: str) -> tuple[dict[str, Any], Usage]:
    """Return the reply to an embeddings request; raises TypeError or ValueError where it is none."""
    given = fields["input"]
    texts = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
    if not all(isinstance(text, str | list) and text for text in texts):
        raise TypeError("input")
    dimension = fields.get("dimensions") or DIMENSION
    if type(dimension) is not int or not 0 < dimension <= MOST_DIMENSIONS:
        raise ValueError("dimensions")
    vectors = [vector(text, dimension) for text in texts]
    data = [
        {"object": "embedding", "index": index, "embedding": _written(row, fields.get("encoding_format"))}
        for index, row in enumerate(vectors)
    ]
    tokens = sum(math.ceil(len(text) / 4) if isinstance(text, str) else len(text) for text in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}, Usage(tokens, 0)


def vector(text: Any, dimension: int) -> list[float]:
    """Return a vector of length 1 made of a text's hash (or of a list of tokens)."""
    seed = json.dumps(text).encode()
    numbers = []
    for place in range(dimension):
        (number,) = struct.unpack("<I", sha256(b"%d:" % place + seed).digest()[:4])
        numbers.append(number / 2**31 - 1.0)
    length = math.sqrt(sum(number * number for number in numbers)) or 1.0
    return [number / length for number in numbers]


def _written(row: list[float], encoding: Any) -> list[float] | str:
    if encoding == "base64":
        return b64encode(struct.pack(f"<{len(row)}f", *row)).decode()
    return row
