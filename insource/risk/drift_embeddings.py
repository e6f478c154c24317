"""One number from an embedding: how far a text lies from everything that a specialist was taught.

It knows vectors and classes; `drift_scores` watches what it gives, where a specialist has embeddings at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from insource.risk.rows import Floats

DIMENSIONS = 32
RIDGE = 0.1
"""The share of the average variance that is added to every direction, for classes with few rows."""


class EmbeddingDistance:
    """The Mahalanobis distance to the nearest class centroid, after a fixed random projection.

    All classes share one covariance, that of the rows around their own centroid. Fit it on rows that the specialist
    learned from; the window it is compared with must be other rows, as these lie nearer than any stranger. The
    projection keeps distances up to a factor near 1 (Johnson and Lindenstrauss 1984) and the state small.
    Source: Lee et al. (2018), "A simple unified framework for detecting out-of-distribution samples".
    """

    __slots__ = ("centroids", "projection")

    def __init__(self, projection: Floats, centroids: Floats) -> None:
        """Take what was learned: `projection` (D, d), whitening included, and `centroids` (K, d)."""
        self.projection, self.centroids = projection, centroids

    @classmethod
    def fit(cls, embeddings: Any, classes: Any, *, seed: int = 0, dimensions: int = DIMENSIONS) -> Self:
        """Fit on `embeddings` float (n, D) and their `classes` int (n,); at most `dimensions` are kept."""
        vectors, names = _vectors(embeddings), np.asarray(classes)
        if names.shape != vectors.shape[:1] or names.size == 0:
            raise ValueError(f"{len(vectors)} embeddings and {names.shape} classes; expected one class for each row.")
        small = _projection(vectors.shape[1], dimensions, seed)
        points = vectors @ small
        kinds, places = np.unique(names, return_inverse=True)
        sums = np.zeros((kinds.size, points.shape[1]))
        np.add.at(sums, places, points)
        centroids = sums / np.bincount(places)[:, None]
        around = points - centroids[places]
        covariance = around.T @ around / len(points)
        covariance += (RIDGE * float(np.trace(covariance)) / len(covariance) + 1e-12) * np.eye(len(covariance))
        values, axes = np.linalg.eigh(covariance)
        whiten = axes / np.sqrt(values)
        return cls(small @ whiten, centroids @ whiten)

    def distances(self, embeddings: Any) -> Floats:
        """Return each row's distance (n,) from the nearest centroid, in standard deviations."""
        points = _vectors(embeddings) @ self.projection
        squared = (points**2).sum(axis=1)[:, None] - 2.0 * points @ self.centroids.T + (self.centroids**2).sum(axis=1)
        return np.asarray(np.sqrt(np.maximum(squared.min(axis=1), 0.0)), dtype=np.float64)

    def to_arrays(self) -> dict[str, Floats]:
        """Return all that was learned as named arrays; `from_arrays` gives the same back."""
        return {"distance.projection": self.projection.copy(), "distance.centroids": self.centroids.copy()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Rebuild from `to_arrays`; other names are ignored. Raises KeyError if one lacks."""
        return cls(*(np.asarray(arrays[f"distance.{name}"], np.float64) for name in ("projection", "centroids")))


def _projection(wide: int, dimensions: int, seed: int) -> Floats:
    if wide <= dimensions:
        return np.eye(wide)
    drawn = np.random.default_rng(seed).normal(size=(wide, dimensions))
    return np.asarray(drawn / np.sqrt(dimensions), dtype=np.float64)


def _vectors(embeddings: Any) -> Floats:
    vectors = np.asarray(embeddings, dtype=np.float64)
    if vectors.ndim != 2 or not np.all(np.isfinite(vectors)):
        raise ValueError(f"embeddings of shape {vectors.shape} or not finite; expected finite numbers (rows, width).")
    return vectors
