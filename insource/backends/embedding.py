"""Answers an embeddings request with a trunk in the house: texts in, the body of OpenAI's embeddings reply out.

It knows no HTTP and no configuration. What the trunk cannot give (token numbers, other dimensions) it leaves to the
upstream; a text longer than the trunk reads is refused, since its embedding would be that of another text.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from insource.errors import RequestError

MOST_INPUTS = 2048
"""How many texts one request may hold, as at OpenAI's."""

_KNOWN = frozenset({"input", "encoding_format", "dimensions", "user"})
_encode = msgspec.json.Encoder().encode


class Tokenized(Protocol):
    """The tokens of a text, and whether it went on after them."""

    @property
    def ids(self) -> Sequence[int]:
        """The token numbers, special ones included."""
        ...

    @property
    def truncated(self) -> bool:
        """Whether the text went on after these tokens."""
        ...


class Embedder(Protocol):
    """What is needed of a trunk."""

    @property
    def sentence_dimension(self) -> int:
        """The length of a sentence embedding."""
        ...

    def tokens(self, text: str) -> Tokenized:
        """Return the tokens that stand for a text."""
        ...

    def sentence_one(self, text: str) -> NDArray[np.float32]:
        """Return the sentence embedding of a text, float32 (sentence_dimension,)."""
        ...


def embeddings_reply(trunk: Embedder, fields: Mapping[str, Any], model: str) -> bytes | None:
    """Return the body of the reply to an embeddings request, or None where only the upstream can answer it.

    `fields` are the request's but for `model`. It computes on the calling thread, text after text, for milliseconds
    each: call it on a thread of its own. Usage counts the tokens that the trunk read.
    Raises RequestError for more than 2048 texts, and for a text longer than the trunk reads.
    """
    texts = _texts(trunk, fields)
    if texts is None:
        return None
    if len(texts) > MOST_INPUTS:
        raise RequestError(f"The request holds {len(texts)} texts; at most {MOST_INPUTS} were expected. Send fewer.")
    tokens = sum(_counted(trunk, index, text) for index, text in enumerate(texts))
    as_text = fields.get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _written(trunk.sentence_one(text), as_text)}
        for index, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return _encode({"object": "list", "data": data, "model": model, "usage": usage})


def _texts(trunk: Embedder, fields: Mapping[str, Any]) -> list[str] | None:
    """Return the texts to embed; None where a field asks for what the trunk cannot give."""
    if any(value is not None and name not in _KNOWN for name, value in fields.items()):
        return None
    if fields.get("encoding_format") not in (None, "float", "base64"):
        return None
    dimensions = fields.get("dimensions")
    if dimensions is not None and (type(dimensions) is not int or dimensions != trunk.sentence_dimension):
        return None
    given = fields.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
        return None
    return texts


def _counted(trunk: Embedder, index: int, text: str) -> int:
    """Return how many tokens a text has."""
    found = trunk.tokens(text)
    if found.truncated:
        raise RequestError(
            f"Text {index} of the request is longer than the encoder reads; at most {len(found.ids)} tokens were "
            "expected. Split it."
        )
    return len(found.ids)


def _written(row: NDArray[np.float32], as_text: bool) -> list[float] | str:
    """Return an embedding as numbers, or as base64 of little-endian float32."""
    if as_text:
        return b64encode(np.asarray(row, dtype="<f4").tobytes()).decode()
    numbers: list[float] = row.tolist()
    return numbers
