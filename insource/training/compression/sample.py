"""Sample texts that tell what matters in an encoder, as its tokenizer reads them.

It knows texts and token ids; not what is measured with them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from insource.backends.onnx import TOKENIZER_FILE, Reader
from insource.training.base_models import BaseModel

MOST_TEXTS = 2_000

Ids = list[tuple[int, ...]]


def spread(texts: Sequence[str]) -> list[str]:
    """Return up to 2,000 of the texts, evenly over all of them."""
    return [texts[int(i)] for i in np.linspace(0, len(texts) - 1, min(MOST_TEXTS, len(texts)))]


def tokens_of(base: BaseModel, texts: Sequence[str]) -> Ids:
    """Return the token ids of texts, as the base model's tokenizer reads them."""
    reader = Reader(base.folder / TOKENIZER_FILE, base.max_tokens, links=True)
    return [reader.tokens(text).ids for text in texts]
