"""The frozen-encoder engine and the two-tier engine: a shared trunk, a logistic head, and a linear model before it.

It knows the head's arrays and the trunk's digest; graphs and sessions are `backends.onnx`'s business.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from insource.backends.arrays import write_arrays
from insource.backends.engine import Evidence, Probabilities, softmax
from insource.backends.linear import LinearEngine
from insource.backends.model_files import read_arrays
from insource.errors import ArtifactDamaged

FILE = "head.safetensors"
TIERS_FILE = "tiers.safetensors"
NEIGHBOURS = 5
KEPT_NEIGHBOURS, FEWER_NEIGHBOURS = 4_000, 1_000
"""Rows that explanations may name; fewer where the encoder is a version's own, which is meant to be small."""
NEVER = 1e-12


class Embedder(Protocol):
    """What the engine needs of a trunk."""

    @property
    def dimension(self) -> int:
        """The length of an embedding."""
        ...

    def embed_one(self, text: str) -> NDArray[np.float32]:
        """Return the embedding of a text, float32 (dimension,)."""
        ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32 (n, dimension), row by row what `embed_one` returns."""
        ...


class EncoderEngine:
    """softmax(embedding @ weights + bias); `weights` float32 (D, K), `bias` float32 (K,).

    `neighbours` int8 (m, d) are the last d numbers of training rows' embeddings, times 127: their sentence embeddings.
    `neighbour_rows` and `neighbour_answers` int32 (m,) are their numbers and references; only `explain` reads them.
    """

    inline = False

    def __init__(
        self,
        trunk: Embedder,
        weights: NDArray[np.float32],
        bias: NDArray[np.float32],
        neighbours: NDArray[np.int8],
        neighbour_rows: NDArray[np.int32],
        neighbour_answers: NDArray[np.int32],
    ) -> None:
        self._trunk = trunk
        self._weights = np.ascontiguousarray(weights, dtype=np.float32)
        self._bias = np.ascontiguousarray(bias, dtype=np.float32)
        self._neighbours = (neighbours, neighbour_rows, neighbour_answers)

    def probabilities(self, text: str) -> Probabilities:
        """Return the probability of each answer, float64 (K,)."""
        return self.of_embedding(self._trunk.embed_one(text))

    def probabilities_many(self, texts: Sequence[str]) -> Probabilities:
        """Return float64 (n, K); the embeddings on all the trunk's threads, each row's head by itself."""
        result = np.empty((len(texts), len(self._bias)))
        for row, embedding in enumerate(self._trunk.embed(texts)):
            result[row] = self.of_embedding(embedding)
        return result

    def of_embedding(self, embedding: NDArray[np.float32]) -> Probabilities:
        """Return the probabilities for one embedding, float32 (D,)."""
        return softmax(embedding @ self._weights + self._bias)

    def explain(self, text: str, first: int, second: int) -> list[Evidence]:
        """Return the nearest training rows, by cosine."""
        stored, rows, answers = self._neighbours
        if not len(rows):
            return []
        embedding = self._trunk.embed_one(text)[-stored.shape[1] :]
        known = stored.astype(np.float32)
        known /= np.maximum(np.linalg.norm(known, axis=1, keepdims=True), NEVER)
        similarity = known @ (embedding / max(float(np.linalg.norm(embedding)), NEVER))
        order = np.argsort(-similarity, kind="stable")[:NEIGHBOURS]
        return [Evidence("training row", float(similarity[i]), answer=int(answers[i]), row=int(rows[i])) for i in order]

    def save(self, folder: Path) -> None:
        """Write `head.safetensors`."""
        names = ("neighbours", "neighbour_rows", "neighbour_answers")
        arrays: dict[str, NDArray[Any]] = {
            "weights": self._weights,
            "bias": self._bias,
            **dict(zip(names, self._neighbours, strict=True)),
        }
        write_arrays(folder / FILE, arrays)

    @classmethod
    def load(cls, folder: Path, trunk: Embedder) -> Self:
        """Read what `save` wrote; raise ArtifactDamaged where the arrays do not fit each other or the trunk."""
        try:
            arrays = read_arrays(folder / FILE)
            engine = cls(
                trunk,
                arrays["weights"],
                arrays["bias"],
                arrays["neighbours"],
                arrays["neighbour_rows"],
                arrays["neighbour_answers"],
            )
            engine._check()
        except (OSError, KeyError, ValueError, SafetensorError) as error:
            raise _damaged(folder / FILE, error, "the head of one encoder model was") from error
        return engine

    def _check(self) -> None:
        stored, rows, answers = self._neighbours
        shape = (self._trunk.dimension, len(self._bias))
        if self._weights.shape != shape or len(self._bias) < 2:
            raise ValueError(f"weights {self._weights.shape}, expected {shape}")
        if not (np.isfinite(self._weights).all() and np.isfinite(self._bias).all()):
            raise ValueError("a weight is not finite")
        fits = stored.ndim == 2 and len(stored) == len(rows) and 0 < stored.shape[1] <= self._trunk.dimension
        if not fits or self._trunk.dimension % stored.shape[1] or answers.shape != rows.shape:
            raise ValueError(f"neighbours {stored.shape}, rows {rows.shape}, answers {answers.shape}")


class TwoTierEngine:
    """The linear model first; where it is not sure enough, the encoder, both opinions weighed together.

    The linear answer stands where its top probability reaches `exit_at`; otherwise the probabilities are
    softmax((1 - w) * ln p_linear + w * ln p_encoder), a log-linear pool (Genest and Zidek, Statistical Science 1986)
    with w = `weight`.
    """

    inline = False

    def __init__(self, linear: LinearEngine, encoder: EncoderEngine, weight: float, exit_at: float) -> None:
        self._linear, self._encoder = linear, encoder
        self._weight, self._exit_at = weight, exit_at

    def probabilities(self, text: str) -> Probabilities:
        """Return the probability of each answer, float64 (K,)."""
        first = self._linear.probabilities(text)
        if first.max() >= self._exit_at:
            return first
        return pool(first, self._encoder.probabilities(text), self._weight)

    def probabilities_many(self, texts: Sequence[str]) -> Probabilities:
        """Return float64 (n, K); only the texts that the linear model leaves go to the encoder."""
        result = self._linear.probabilities_many(texts)
        left = np.flatnonzero(result.max(axis=1) < self._exit_at)
        if left.size:
            for row, second in zip(left, self._encoder.probabilities_many([texts[int(i)] for i in left]), strict=True):
                result[row] = pool(result[row], second, self._weight)
        return result

    def explain(self, text: str, first: int, second: int) -> list[Evidence]:
        """Return the linear model's n-grams, then, where it left the text to the encoder, the nearest rows."""
        evidence = self._linear.explain(text, first, second)
        if self._linear.probabilities(text).max() < self._exit_at:
            evidence += self._encoder.explain(text, first, second)
        return evidence

    def save(self, folder: Path) -> None:
        """Write both tiers and `tiers.safetensors`."""
        self._linear.save(folder)
        self._encoder.save(folder)
        write_arrays(folder / TIERS_FILE, {"weight": np.array([self._weight]), "exit_at": np.array([self._exit_at])})

    @classmethod
    def load(cls, folder: Path, trunk: Embedder) -> Self:
        """Read what `save` wrote; raise ArtifactDamaged where it cannot be used."""
        linear, encoder = LinearEngine.load(folder), EncoderEngine.load(folder, trunk)
        try:
            arrays = read_arrays(folder / TIERS_FILE)
            weight, exit_at = float(arrays["weight"][0]), float(arrays["exit_at"][0])
            if not 0.0 <= weight <= 1.0 or not exit_at > 0.0:
                raise ValueError(f"weight {weight}, exit at {exit_at}")
        except (OSError, KeyError, IndexError, ValueError, SafetensorError) as error:
            raise _damaged(folder / TIERS_FILE, error, "a weight in [0, 1] and an exit above 0 were") from error
        return cls(linear, encoder, weight, exit_at)


def pool(first: Probabilities, second: Probabilities, weight: float) -> Probabilities:
    """Return the log-linear pool of two opinions, float64 (..., K)."""
    return softmax((1.0 - weight) * np.log(np.maximum(first, NEVER)) + weight * np.log(np.maximum(second, NEVER)))


def _damaged(path: Path, error: Any, expected: str) -> ArtifactDamaged:
    return ArtifactDamaged(
        f"{path} cannot be used ({type(error).__name__}: {error}); {expected} expected. Train the version again."
    )
