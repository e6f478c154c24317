"""The words of an encoder's vocabulary, each with the vector that the encoder gives it alone: where `static` begins.

It knows a tokenizer's vocabulary and a function that embeds; no task, and not how an encoder runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from insource.backends.static import MOST_CHARACTERS, units
from insource.training.students.contract import Progress

Vectors = NDArray[np.float32]
Embed = Callable[[Sequence[str], Progress | None], Vectors]

CONTINUES = "##"
BEGINS = ("\u2581", "\u0120")
"""How SentencePiece and byte-level vocabularies mark the tokens that begin a word; WordPiece marks the others."""


class Lexicon:
    """`words` can begin a word of a text, `vectors` float32 (n, D) are theirs and, after those, the `pieces`'."""

    def __init__(self, words: Sequence[str], pieces: Sequence[str], vectors: Vectors, *, blocks: int = 1) -> None:
        self.words, self.vectors, self.blocks = tuple(words), vectors, blocks
        self._rows = {name: row for row, name in enumerate((*words, *pieces))}

    @property
    def dimension(self) -> int:
        """The length of a vector."""
        return int(self.vectors.shape[1])

    def vectors_of(self, names: Sequence[str]) -> Vectors:
        """Return the vectors of words, float32 (len(names), D): their own, or the mean of those they are made of."""
        found = np.zeros((len(names), self.dimension), np.float32)
        for number, name in enumerate(names):
            rows = self._pieces(name)
            if rows:
                found[number] = self.vectors[rows].mean(axis=0)
        return found

    def _pieces(self, name: str) -> list[int]:
        """Return the rows of the fewest known pieces that a greedy reading finds; what is unknown is passed over."""
        rows, start, name = [], 0, name[:MOST_CHARACTERS]
        while start < len(name):
            ends = (end for end in range(len(name), start, -1) if name[start:end] in self._rows)
            end = next(ends, start)
            if end > start:
                rows.append(self._rows[name[start:end]])
            start = max(end, start + 1)
        return rows


def read_vocabulary(tokenizer: str) -> tuple[list[str], list[str]]:
    """Return the lower-cased words of a checked tokenizer.json, and its other pieces, in the order of their numbers.

    A word is what `units` takes for one; marks of a token's place in its word are taken off.
    """
    vocabulary = json.loads(tokenizer)["model"]["vocab"]
    if isinstance(vocabulary, dict):
        tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    else:
        tokens = [entry[0] for entry in vocabulary]
    marked = any(token.startswith(BEGINS) for token in tokens)
    words: dict[str, None] = {}
    pieces: dict[str, None] = {}
    for token in tokens:
        begins = token.startswith(BEGINS) if marked else not token.startswith(CONTINUES)
        text = token.removeprefix(CONTINUES).lstrip("".join(BEGINS)).lower()
        if units(text)[0] == [text]:
            (words if begins else pieces).setdefault(text)
    return list(words), [piece for piece in pieces if piece not in words]


def make_lexicon(tokenizer: str, embed: Embed, blocks: int, progress: Progress | None = None) -> Lexicon:
    """Run each word and piece of a vocabulary once through the encoder; `tokenizer` is the text of a tokenizer.json."""
    words, pieces = read_vocabulary(tokenizer)
    return Lexicon(words, pieces, embed([*words, *pieces], progress), blocks=blocks)
