"""Which wordings ask for the same job: equal answer sets are not enough, each one's model has to know the other's.

It knows texts and answers by wording; not what the requests looked like around them.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from insource.backends.engine import softmax
from insource.training.discovery.answer_kinds import Answers, agree
from insource.training.students.logistic import Matrix, fit_logistic

ROWS = 2_000
MOST_CHARACTERS = 300
TRANSFERS = 0.8
AT_LEAST = 0.5
SURELY = 1.64
CERTAIN = 2.58
TOLD_APART = 0.85
FEWEST = 20
STRENGTH = 2.0
COLUMNS = 1 << 16
SMOOTH = 0.5
LEAST = 1e-3

_WORDS = re.compile(r"\w+|[^\w\s]")

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class Sample:
    """A wording's labelled rows as the test sees them: variable texts, their labels, and what stands around them."""

    texts: Sequence[str]
    labels: Sequence[str]
    answers: Answers
    around: tuple[str, ...] | None
    task: str | None


@dataclass(frozen=True, slots=True)
class _Half:
    """The rows of one wording in the pool: half to learn from, half to be asked."""

    learn: NDArray[np.intp]
    ask: NDArray[np.intp]


def merged(samples: Sequence[Sample], progress: Progress) -> list[list[int]]:
    """Return the samples that are wordings of one job, by number, each job's first being its largest.

    Two wordings are one job where (1) they answer from the same set, (2) neither can be told by its inputs, (3) a model
    learned from either predicts the other's answers nearly as well as a model of its own: in log loss, of what that
    gains over the answers' shares alone, surely more than nothing (z of 2.58), half or more, and not surely (z of 1.64)
    less than 80 %. Yes and no to two questions stay two jobs; where nothing can be predicted nothing is merged, so
    that doubt leaves jobs apart.
    A wording joins a job only where that holds with every wording of the job.
    """
    jobs: list[list[int]] = []
    done = 0
    for family in _families(samples):
        test = _Test([samples[number] for number in family]) if len(family) > 1 else None
        found: list[list[int]] = []
        for place in range(len(family)):
            fitting = (job for job in found if test is not None and all(test.same(place, other) for other in job))
            job = next(fitting, None)
            if job is None:
                found.append([place])
            else:
                job.append(place)
            done += 1
            progress(done, len(samples))
        jobs += [[family[place] for place in job] for job in found]
    return jobs


def _families(samples: Sequence[Sample]) -> list[list[int]]:
    """Return the samples in sets within which some answer from the same set."""
    families: list[list[int]] = []
    for number, sample in enumerate(samples):
        joined = [family for family in families if any(_may(sample, samples[other]) for other in family)]
        families = [family for family in families if family not in joined]
        families.append(sorted([number, *(other for family in joined for other in family)]))
    return sorted(families)


def _may(first: Sample, second: Sample) -> bool:
    return first.task == second.task and agree(first.answers, second.answers)


class _Test:
    """Compares the wordings of one family, whose texts are counted once and together."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples
        names = sorted({label for sample in samples for label in sample.labels})
        self._names = len(names)
        index = {name: number for number, name in enumerate(names)}
        self._classes = np.array([index[label] for sample in samples for label in sample.labels], np.intp)
        self._vectors = word_vectors([text[:MOST_CHARACTERS] for sample in samples for text in sample.texts])
        self._halves: list[_Half] = []
        start = 0
        for sample in samples:
            rows = np.random.default_rng(0).permutation(len(sample.texts)) + start
            self._halves.append(_Half(rows[::2], rows[1::2]))
            start += len(sample.texts)
        self._models: dict[int, tuple[Matrix, Matrix]] = {}
        self._known: dict[tuple[int, int], bool] = {}

    def same(self, first: int, second: int) -> bool:
        """Say whether two wordings ask for the same job."""
        pair = (min(first, second), max(first, second))
        if pair not in self._known:
            self._known[pair] = (
                _may(self._samples[first], self._samples[second])
                and self._transfers(first, second)
                and self._transfers(second, first)
                and not self._told_apart(first, second)
            )
        return self._known[pair]

    def _transfers(self, source: int, target: int) -> bool:
        rows = self._halves[target].ask
        if min(len(rows), len(self._halves[source].learn)) < FEWEST:
            return False
        shares = np.bincount(self._classes[self._halves[target].learn], minlength=self._names) + SMOOTH
        dull = -np.log(shares / shares.sum())[self._classes[rows]]
        own, other = dull - self._losses(target, rows), dull - self._losses(source, rows)
        return nearly_as_well(own, other)

    def _losses(self, source: int, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return minus the log of what a wording's model gives each row's label, float64 (len(rows),)."""
        if source not in self._models:
            self._models[source] = self._fitted(self._halves[source].learn, self._classes, self._names)
        found = softmax(self._logits(self._models[source], rows))[np.arange(len(rows)), self._classes[rows]]
        return np.asarray(-np.log(np.maximum(found, LEAST)), dtype=np.float64)

    def _fitted(self, rows: NDArray[np.intp], classes: NDArray[np.intp], names: int) -> tuple[Matrix, Matrix]:
        return fit_logistic(self._vectors[rows], classes[rows], names, strength=STRENGTH)

    def _logits(self, fitted: tuple[Matrix, Matrix], rows: NDArray[np.intp]) -> Any:
        return self._vectors[rows] @ fitted[0] + fitted[1]

    def _told_apart(self, first: int, second: int) -> bool:
        """Say whether the inputs come from two sources: a model tells most of them (Lopez-Paz and Oquab, ICLR 2017).

        Not asked where the same fixed text stands around both: what differs there is a phrase in the data.
        """
        one, two = self._samples[first], self._samples[second]
        if one.around is not None and one.around == two.around:
            return False
        size = min(
            len(half) for place in (first, second) for half in (self._halves[place].learn, self._halves[place].ask)
        )
        learn = np.concatenate([self._halves[place].learn[:size] for place in (first, second)])
        ask = np.concatenate([self._halves[place].ask[:size] for place in (first, second)])
        side = np.zeros(self._vectors.shape[0], np.intp)
        side[np.concatenate([self._halves[second].learn, self._halves[second].ask])] = 1
        found = self._logits(self._fitted(learn, side, 2), ask).argmax(axis=1)
        return float((found == side[ask]).mean()) >= TOLD_APART


def nearly_as_well(own: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Say whether `other` gains nearly what `own` does, float64 (n,) each, in log loss on the same rows.

    Surely more than nothing (z of 2.58), half or more, and not surely (z of 1.64) less than 80 %.
    """
    root = sqrt(len(own))
    sure = float(other.mean()) >= CERTAIN * float(other.std()) / root > 0.0
    noise = SURELY * float((own - other).std()) / root
    gain = float(own.mean())
    return sure and float(other.mean()) >= max(AT_LEAST * gain, TRANSFERS * gain - noise)


def word_vectors(texts: Sequence[str]) -> Any:
    """Return the words and word pairs of texts, weighed by tf-idf and of length one, CSR float32 (n, V).

    Columns are the hashes that occur (Weinberger et al., ICML 2009). What trains a specialist reads letters as well;
    to tell whether two samples are of one kind, words do, and are quick.
    """
    columns: list[int] = []
    ends = [0]
    for text in texts:
        words = _WORDS.findall(text.lower())
        pairs = [f"{first} {second}" for first, second in zip(words, words[1:], strict=False)]
        columns += {zlib.crc32(word.encode("utf-8", "replace")) % COLUMNS for word in [*words, *pairs]}
        ends.append(len(columns))
    found = np.array(columns, np.int32)
    counts = np.bincount(found, minlength=COLUMNS)
    weights = (np.log((1.0 + len(texts)) / (1.0 + counts)) + 1.0)[found]
    squares = np.add.reduceat(np.append(np.square(weights), 0.0), ends[:-1]) if len(texts) else weights
    lengths = np.sqrt(np.where(np.diff(ends) > 0, squares, 1.0))
    values = (weights / np.repeat(lengths, np.diff(ends))).astype(np.float32)
    names, places = np.unique(found, return_inverse=True)
    return scipy.sparse.csr_matrix((values, places, np.array(ends, np.int64)), shape=(len(texts), len(names)))
