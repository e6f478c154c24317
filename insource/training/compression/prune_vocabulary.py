"""Words taken out of an encoder's table: it keeps the rows of those that texts were seen to use.

The tokenizer goes on knowing all words, so that every text falls into the same pieces as before; a word without a row
is read as the word with one that is nearest to it. It knows token ids; not texts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insource.errors import DataError
from insource.training.base_models import BaseModel
from insource.training.compression.checkpoint import Checkpoint, Matrix

TABLE = "embeddings.word_embeddings.weight"


def prune_vocabulary(base: BaseModel, folder: Path, ids: Sequence[Sequence[int]]) -> BaseModel:
    """Write the encoder with the words that `ids` use, and special ones, into `folder` and return it.

    `ids` are the tokens of texts that have to read as before. Raises DataError where the tokenizer is no WordPiece.
    """
    checkpoint = Checkpoint.read(base)
    tokenizer = json.loads(checkpoint.tokenizer)
    model = tokenizer.get("model", {})
    if model.get("type") != "WordPiece":
        raise DataError(
            f"The tokenizer of {base.name} is {model.get('type')!r}; only a WordPiece vocabulary can be made smaller. "
            "Compress without --vocabulary."
        )
    words: dict[str, int] = model["vocab"]
    seen = {int(each) for text in ids for each in np.unique(text)}
    kept = np.array(sorted(seen | {words[word] for word in special_words(tokenizer)}))
    table = checkpoint.tensors[TABLE]
    places = nearest(table, kept).tolist()
    model["vocab"] = {word: places[old] for word, old in words.items()}
    _renumber(tokenizer, places)
    checkpoint.tokenizer = json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":"))
    checkpoint.tensors[TABLE] = table[kept]
    checkpoint.config["vocab_size"] = len(kept)
    return checkpoint.write(folder)


def special_words(tokenizer: dict[str, Any]) -> set[str]:
    """Return the words that stay whatever was seen."""
    return {tokenizer["model"]["unk_token"], *(token["content"] for token in tokenizer.get("added_tokens", []))}


def nearest(table: Matrix, kept: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return for each row of a table which of the rows `kept` is nearest by cosine, as its place among them, int (n,).

    A kept row is its own nearest. The mean of those kept is taken off first: all words of an encoder share much.
    """
    centred = table - table[kept].mean(axis=0)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    places = np.concatenate([(part @ unit[kept].T).argmax(axis=1) for part in np.array_split(unit, 16)])
    places[kept] = np.arange(len(kept))
    return places


def _renumber(tokenizer: dict[str, Any], places: list[int]) -> None:
    """Give added tokens, the template's marks and padding their new numbers."""
    for token in tokenizer.get("added_tokens", []):
        token["id"] = places[token["id"]]
    processor = tokenizer.get("post_processor") or {}
    for mark in (processor.get("special_tokens") or {}).values():
        mark["ids"] = [places[each] for each in mark["ids"]]
    for name in ("sep", "cls"):
        if name in processor:
            processor[name] = [processor[name][0], places[processor[name][1]]]
    if tokenizer.get("padding"):
        tokenizer["padding"]["pad_id"] = places[tokenizer["padding"]["pad_id"]]
