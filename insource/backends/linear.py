"""The linear engine: word and character n-grams, weighted and multiplied, in numpy alone.

It reads its weights from safetensors and knows nothing of how they were fitted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from insource.backends.arrays import write_arrays
from insource.backends.engine import Evidence, Probabilities, softmax
from insource.backends.model_files import read_arrays
from insource.backends.ngrams import VERSION, ngrams
from insource.errors import ArtifactDamaged
from insource.inputs import MAX_CHARACTERS

FILE = "linear.safetensors"
SHOWN = 12

_DAMPENED = np.array([0.0, *(1.0 + math.log(count) for count in range(1, MAX_CHARACTERS + 1))], np.float32)
"""1 + ln(count), for as many as a text that a specialist sees can hold of one n-gram."""

_SEPARATOR = "\n"  # no n-gram holds one: white space is collapsed before they are cut


class LinearEngine:
    """Multinomial logistic regression over n-grams.

    A text's vector has one block for words and one for characters: (1 + ln count) * idf in each, both blocks of the
    same length, the whole of length one. `weights` float32 (V, K), `bias` float32 (K,), `idf` float32 (V,).
    """

    inline = True

    def __init__(
        self,
        words: Sequence[str],
        characters: Sequence[str],
        idf: NDArray[np.float32],
        weights: NDArray[np.float32],
        bias: NDArray[np.float32],
    ) -> None:
        self._names = (*words, *characters)
        self._n_words = len(words)
        self._words = {name: number for number, name in enumerate(words, start=1)}
        self._characters = {name: number for number, name in enumerate(characters, start=1 + len(words))}
        self._idf = np.ascontiguousarray(idf, dtype=np.float32)
        self._weights = np.ascontiguousarray(weights, dtype=np.float32)
        self._bias = np.ascontiguousarray(bias, dtype=np.float32)

    def probabilities(self, text: str) -> Probabilities:
        """Return the probability of each answer, float64 (K,)."""
        rows, values = self._vector(text)
        logits = values @ self._weights.take(rows, axis=0) + self._bias
        return softmax(logits)

    def probabilities_many(self, texts: Sequence[str]) -> Probabilities:
        """Return float64 (n, K), each row computed by itself."""
        result = np.empty((len(texts), len(self._bias)))
        for row, text in enumerate(texts):
            result[row] = self.probabilities(text)
        return result

    def explain(self, text: str, first: int, second: int) -> list[Evidence]:
        """Return the n-grams that moved the log-odds of `first` over `second` most, in either direction."""
        rows, values = self._vector(text)
        moved = values * (self._weights[rows, first] - self._weights[rows, second])
        order = np.argsort(-np.abs(moved), kind="stable")[:SHOWN]
        return [Evidence("n-gram", float(moved[i]), self._names[rows[i]]) for i in order]

    def _vector(self, text: str) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Return the known n-grams of a text as row numbers, and their values."""
        words, characters = ngrams(text)
        counts = Counter(filter(None, map(self._words.get, words)))  # numbers start at 1: filter drops unknown ones
        n_words = len(counts)
        counts.update(filter(None, map(self._characters.get, characters)))
        n_all = len(counts)
        rows = np.fromiter(counts, np.intp, n_all)
        rows -= 1
        values = _DAMPENED.take(np.fromiter(counts.values(), np.intp, n_all), mode="clip")
        values *= self._idf.take(rows)
        share = math.sqrt(0.5) if 0 < n_words < n_all else 1.0
        for block in (values[:n_words], values[n_words:]):
            if block.size:
                block *= share / math.sqrt(block.dot(block))
        return rows, values

    def save(self, folder: Path) -> None:
        """Write `linear.safetensors`: the vocabulary as UTF-8 bytes, weights in half precision."""
        names = [_SEPARATOR.join(self._names[: self._n_words]), _SEPARATOR.join(self._names[self._n_words :])]
        write_arrays(
            folder / FILE,
            {
                "words": np.frombuffer(names[0].encode(), dtype=np.uint8),
                "characters": np.frombuffer(names[1].encode(), dtype=np.uint8),
                "idf": self._idf,
                "weights": self._weights.astype(np.float16),
                "bias": self._bias,
            },
            metadata={"ngrams": str(VERSION)},
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; raise ArtifactDamaged where the arrays do not fit each other."""
        try:
            arrays = read_arrays(folder / FILE)
            words, characters = (_names(arrays[name]) for name in ("words", "characters"))
            engine = cls(words, characters, arrays["idf"], arrays["weights"], arrays["bias"])
            engine._check()
        except (OSError, KeyError, ValueError, SafetensorError) as error:
            raise ArtifactDamaged(
                f"{folder / FILE} cannot be used ({type(error).__name__}: {error}); the weights and vocabulary of one "
                "linear model were expected. Train the version again."
            ) from error
        return engine

    def _check(self) -> None:
        rows, answers = len(self._names), len(self._bias)
        if self._weights.shape != (rows, answers) or self._idf.shape != (rows,) or answers < 2:
            raise ValueError(f"weights {self._weights.shape}, {rows} n-grams, idf {self._idf.shape}, {answers} answers")
        if not all(np.isfinite(array).all() for array in (self._weights, self._bias, self._idf)):
            raise ValueError("a weight is not finite")


def _names(data: NDArray[Any]) -> list[str]:
    text = data.astype(np.uint8).tobytes().decode()
    return text.split(_SEPARATOR) if text else []
