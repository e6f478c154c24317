"""Which requests of a budget go up: those whose answers are least likely to agree with the reference.

It knows a replay's rows as numbers, what a version said of them and which references are known; it decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from insource.risk.agreement import FEWEST, features
from insource.training.develop import RowSet
from insource.training.families import Material
from insource.training.students.contract import Classes, Probabilities, Rows
from insource.training.students.logistic import fit_logistic

Floats = NDArray[np.float64]
Near = Callable[[Rows, Rows], NDArray[np.float32]]
"""How alike rows are, (a,) and (b,) in, (a, b) out: at most 1, where two texts are the same."""

NEAREST, WIDTH = 100, 0.05
"""How many references have a vote about a row, and how much less alike one may be for its vote to weigh 1/e."""
VOTERS = 20_000
"""Of more known references the newest so many vote."""
PAIRS = 8_000_000
"""So many pairs of a row and a reference are compared at a time, for memory's sake."""
UNDECIDED = 0.5
"""Votes that either side has before any is counted."""
STRENGTH = 0.3
"""The inverse of the penalty on what `Agreement` learns; EXPERIMENTS.md has the figures behind these figures."""


class Selection(Protocol):
    """Says how sure each answer of a version is; under a budget of calls the least sure requests go up."""

    def fit(self, rows: RowSet, probabilities: Probabilities) -> Any:
        """Note a new version: what it learned from, and its out-of-fold probabilities of the evidence (m, K)."""
        ...

    def __call__(self, rows: Rows, probabilities: Probabilities) -> Floats:
        """Return a number for each of these rows (n,), of which that version said `probabilities` (n, K)."""
        ...


class Agreement:
    """How likely the version's answer agrees with the reference, judged by more than the version itself.

    Logistic regression on the shape of the probabilities, on the answer, and on the votes: for each of `views`, the
    log odds, among the known references nearest to the text, of those that are the version's answer (nearest
    neighbours weighted by likeness, as Papernot and McDaniel, arXiv 1803.04765, judge a network's answers). It is
    learned out of fold on evidence alone, the rows that nobody chose; all known references vote.
    """

    def __init__(self, views: Callable[[], Sequence[Near]]) -> None:
        self._views_of = views

    def fit(self, rows: RowSet, probabilities: Probabilities) -> Self:
        """Learn from the evidence; with under 5 agreements or disagreements the top probability's logit stands."""
        self._views = self._views_of()
        self._known, self._classes = np.concatenate([rows.evidence, rows.also[-VOTERS:]]), rows.classes
        said = probabilities.argmax(axis=1)
        agrees = said == rows.classes[rows.evidence]
        same = np.zeros((len(rows.evidence), len(self._known)), np.bool_)
        same[:, : len(rows.evidence)] = rows.folds[:, None] == rows.folds[None, :]
        shapes = self._shapes(rows.evidence, probabilities, same)
        self._middle, self._width = shapes.mean(axis=0), np.maximum(shapes.std(axis=0), 1e-9)
        self._weights: Floats | None = None
        if min(int(agrees.sum()), int((~agrees).sum())) >= FEWEST:
            design = self._design(shapes, probabilities).astype(np.float32)
            weights, bias = fit_logistic(design, agrees.astype(np.intp), 2, strength=STRENGTH)
            self._weights, self._bias = (weights[:, 1] - weights[:, 0]).astype(np.float64), float(bias[1] - bias[0])
        return self

    def __call__(self, rows: Rows, probabilities: Probabilities) -> Floats:
        """Return the log odds of agreement of each row, float64 (n,)."""
        if self._weights is None:
            return features(probabilities)[0][:, 0]
        shapes = self._shapes(rows, probabilities)
        return np.asarray(self._design(shapes, probabilities) @ self._weights + self._bias)

    def _shapes(self, rows: Rows, probabilities: Probabilities, hidden: NDArray[np.bool_] | None = None) -> Floats:
        """Return what is learned from, one row each; references `hidden` (n, known) from a row have no vote on it."""
        said, references = probabilities.argmax(axis=1), self._classes[self._known]
        heard = np.empty((len(rows), len(self._views)))
        step = max(1, PAIRS // len(self._known))
        for some in (slice(start, start + step) for start in range(0, len(rows), step)):
            for number, near in enumerate(self._views):
                likeness = near(rows[some], self._known)
                if hidden is not None:
                    likeness = np.where(hidden[some], -np.inf, likeness)
                heard[some, number] = votes(likeness, references, said[some])
        return np.column_stack([features(probabilities)[0], heard])

    def _design(self, shapes: Floats, probabilities: Probabilities) -> Floats:
        answers = np.eye(probabilities.shape[1])[probabilities.argmax(axis=1)]
        return np.hstack([(shapes - self._middle) / self._width, answers])


def votes(likeness: NDArray[np.floating[Any]], references: Classes, said: Classes) -> Floats:
    """Return the log odds that the nearest references speak for what was said, float64 (n,).

    `likeness` (n, m) is -inf for those without a vote; `references` int (m,), `said` int (n,).
    """
    nearest = min(NEAREST, likeness.shape[1])
    places = np.argpartition(-likeness, nearest - 1, axis=1)[:, :nearest]
    found = np.take_along_axis(likeness, places, axis=1).astype(np.float64)
    top = found.max(axis=1, keepdims=True)
    weights = np.exp((found - np.where(np.isfinite(top), top, 0.0)) / WIDTH)
    agree = references[places] == said[:, None]
    speak, against = (weights * agree).sum(axis=1), (weights * ~agree).sum(axis=1)
    return np.asarray(np.log(speak + UNDECIDED) - np.log(against + UNDECIDED))


def views_of(material: Material) -> list[Near]:
    """Return how alike texts are by their words, and by their embeddings where an encoder has been opened."""
    views = [by_words(material.linear()[1].words.counts)]
    return views if material.trunk_digest is None else [*views, by_embedding(material.encoder()[1])]


def by_embedding(embeddings: NDArray[np.float32]) -> Near:
    """Return the cosine of embeddings (N, D)."""
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    return lambda rows, others: unit[rows] @ unit[others].T


def by_words(counts: Any) -> Near:
    """Return the cosine of tf-idf vectors of counts, CSR (N, V); documents are counted over the `others`, as known."""

    def near(rows: Rows, others: Rows) -> NDArray[np.float32]:
        seen = np.bincount(counts[others].indices, minlength=counts.shape[1])
        idf = (np.log((1.0 + len(others)) / (1.0 + seen)) + 1.0).astype(np.float32)
        return np.asarray((_weighed(counts[rows], idf) @ _weighed(counts[others], idf).T).toarray())

    return near


def _weighed(counts: Any, idf: NDArray[np.float32]) -> Any:
    counts.data = (1.0 + np.log(counts.data)) * idf[counts.indices]
    lengths = np.sqrt(np.asarray(counts.multiply(counts).sum(axis=1)).ravel())
    scale = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    counts.data *= np.repeat(scale, np.diff(counts.indptr)).astype(np.float32)
    return counts
