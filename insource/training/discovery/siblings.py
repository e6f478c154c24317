"""Split on form, joined on evidence: templates that differ in what is data after all become one wording again.

A form filled in a few ways ("Hello, ...", "Dear team, ...") looks like as many templates behind one instruction. It
knows wordings and labels; templates are the miner's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from os.path import commonprefix

import numpy as np
from numpy.typing import NDArray

from insource.backends.engine import softmax
from insource.training.discovery.answer_kinds import AnswerKind, Answers, answers_of
from insource.training.discovery.merging import (
    AT_LEAST,
    CERTAIN,
    LEAST,
    SMOOTH,
    STRENGTH,
    SURELY,
    nearly_as_well,
    word_vectors,
)
from insource.training.discovery.templates import FEWEST_WORDS, fixed_texts
from insource.training.discovery.tokens import ends_alike, words_in
from insource.training.discovery.wordings import NO_TEMPLATE, Wording, text_of_user
from insource.training.students.logistic import fit_logistic
from insource.types import Example

ROWS = 1_000
MOST_CHARACTERS = 300
MAY_LOSE = 0.05
FLOOR = 0.25
SURE_ENOUGH = 0.85
FEWEST = 10
FEW = 100
MANY = 200
ROUNDS = 4
MISSING = 0.01
_JOINABLE = (AnswerKind.CLOSED, AnswerKind.FIELDS, AnswerKind.ONE)


@dataclass(frozen=True, slots=True)
class _Rows:
    """A wording's sampled rows in the pool: the first half is learned from, the second asked about."""

    learn: NDArray[np.intp]
    ask: NDArray[np.intp]
    one: bool


def rejoined(
    wordings: Sequence[Wording], kinds: Sequence[Answers], examples: Sequence[Example]
) -> tuple[tuple[Wording, ...], list[Answers]]:
    """Return the wordings, largest first, with siblings joined where they ask for the same job, and their answers.

    Siblings stand behind one system prompt, or share three words or more of instruction, and the smaller one's answers
    are among the larger one's. With 200 rows or more each, they are joined on the evidence that `merging` asks for.
    A smaller one joins where what is learned from the larger answers it as well as itself: an accuracy not surely (z of
    1.64) more than 5 points lower, and half of the gain in log loss, measured against the answers' entropy. A start of
    under 100 rows is joined where either's model surely (z of 2.58) helps to answer the other.
    """
    gone: set[int] = set()
    made: list[tuple[Wording, Answers]] = []
    for cluster in _clusters(wordings, kinds):
        for job in _jobs([wordings[n] for n in cluster], [kinds[n] for n in cluster], examples):
            if len(job) > 1:
                members = [cluster[place] for place in job]
                gone.update(members)
                joined = _joined([wordings[n] for n in members], examples)
                made.append((joined, answers_of([examples[row].answer for row in joined.rows])))
    made += [(wordings[n], kinds[n]) for n in range(len(wordings)) if n not in gone]
    made.sort(key=lambda each: (-len(each[0].rows), int(each[0].rows[0])))
    return tuple(wording for wording, _ in made), [answers for _, answers in made]


def _clusters(wordings: Sequence[Wording], kinds: Sequence[Answers]) -> list[list[int]]:
    clusters: list[list[int]] = []
    for number, (wording, answers) in enumerate(zip(wordings, kinds, strict=True)):
        if answers.kind not in _JOINABLE or (answers.space is None and answers.kind is AnswerKind.FIELDS):
            continue
        fitting = (
            cluster
            for cluster in clusters
            if _siblings(wordings[cluster[0]], wording) and _among(answers, kinds[cluster[0]])
        )
        cluster = next(fitting, None)
        if cluster is None:
            clusters.append([number])
        else:
            cluster.append(number)
    return [cluster for cluster in clusters if len(cluster) > 1]


def _siblings(first: Wording, second: Wording) -> bool:
    if first.frame != second.frame:
        return False
    if first.frame.system_known:
        return True
    heads, tails = ([w.literals[place] for w in (first, second)] for place in (0, -1))
    shared = commonprefix(heads), commonprefix([tail[::-1] for tail in tails])
    return max(words_in((text,)) for text in shared) >= FEWEST_WORDS


def _among(smaller: Answers, larger: Answers) -> bool:
    """Say whether the answers of one are among those of the other, but for one in a hundred."""
    space = larger.space
    if space is None or smaller.space is None:
        return smaller.kind is AnswerKind.ONE or larger.kind is AnswerKind.ONE
    missing = sum(n for label, n in zip(smaller.space.answers, smaller.space.counts, strict=True) if label not in space)
    return smaller.space.varying == space.varying and missing <= MISSING * sum(smaller.space.counts)


def _jobs(wordings: Sequence[Wording], kinds: Sequence[Answers], examples: Sequence[Example]) -> list[list[int]]:
    """Return which siblings are one job, by place; the largest of a job comes first."""
    pooled = answers_of([examples[row].answer for wording in wordings for row in wording.rows])
    if pooled.space is None:
        return []
    texts: list[str] = []
    classes: list[int] = []
    parts: list[_Rows] = []
    for wording, answers in zip(wordings, kinds, strict=True):
        start = len(texts)
        for row in wording.rows[:: max(len(wording.rows) // ROWS, 1)]:
            label = pooled.space.normalise(examples[row].answer or "")
            if label is not None:
                texts.append(text_of_user(examples[row].request) or "")
                classes.append(pooled.space.index(label))
        order = np.random.default_rng(0).permutation(len(texts) - start) + start
        parts.append(_Rows(order[::2], order[1::2], answers.kind is AnswerKind.ONE))
    if len(texts) < 2:
        return []
    head, tail = ends_alike(texts)
    bare = [text[len(head) : len(text) - len(tail)][:MOST_CHARACTERS] for text in texts]
    pool = _Pool(bare, np.array(classes, np.intp), len(pooled.space))
    jobs = [[place] for place in range(len(parts))]
    for _ in range(ROUNDS):  # what is too small to be joined with alone may join once others have
        before = sorted(jobs, key=lambda job: (-sum(len(parts[place].learn) for place in job), job))
        jobs = []
        for job in before:
            rows = _together([parts[place] for place in job])
            fitting = (other for other in jobs if pool.joins(rows, _together([parts[place] for place in other])))
            chosen = next(fitting, None)
            if chosen is None:
                jobs.append(job)
            else:
                chosen += job
        if len(jobs) == len(before):
            break
    return jobs


def _together(parts: Sequence[_Rows]) -> _Rows:
    return _Rows(
        np.concatenate([part.learn for part in parts]),
        np.concatenate([part.ask for part in parts]),
        all(part.one for part in parts),
    )


class _Pool:
    """The siblings' rows, as words counted once and together."""

    def __init__(self, texts: Sequence[str], classes: NDArray[np.intp], n_classes: int) -> None:
        self._vectors = word_vectors(texts)
        self._classes = classes
        self._n_classes = n_classes

    def joins(self, rows: _Rows, job: _Rows) -> bool:
        """Say whether a model learned from a job's rows answers others as well as the job's own."""
        asked, known = np.concatenate([rows.learn, rows.ask]), np.concatenate([job.learn, job.ask])
        if min(len(asked), len(known)) < FEWEST or job.one:
            return False
        if len(known) < FEW and not rows.one:  # too few to say how good the job's own model is
            return _sure(self._asked(known, asked)[1], CERTAIN) and _sure(self._asked(asked, known)[1], CERTAIN)
        right, gain = self._asked(job.learn, job.ask)
        if not _sure(gain, CERTAIN):
            return False
        if min(len(asked), len(known)) >= MANY:
            return self._transfers(job, rows) and self._transfers(rows, job)
        there, gained = self._asked(job.learn, asked)
        if rows.one:
            return right >= SURE_ENOUGH and there >= right - MAY_LOSE
        noise = SURELY * sqrt(max(there * (1 - there), 0.01) / len(asked))
        close = there >= right - FLOOR and there + noise >= right - MAY_LOSE
        half = AT_LEAST * float(gain.mean()) / self._spread(job.ask) * self._spread(asked)
        return close and float(gained.mean()) >= half and _sure(gained, CERTAIN if len(asked) >= FEW else 0.0)

    def _transfers(self, source: _Rows, target: _Rows) -> bool:
        """Say whether a model of `source` answers `target` nearly as well as one of its own, as `merging` asks it."""
        own, other = (self._asked(rows.learn, target.ask)[1] for rows in (target, source))
        return nearly_as_well(own, other)

    def _spread(self, rows: NDArray[np.intp]) -> float:
        """Return the entropy of the rows' answers, in nats, at least a little."""
        counts = np.bincount(self._classes[rows])
        shares = counts[counts > 0] / len(rows)
        return max(float(-(shares * np.log(shares)).sum()), LEAST)

    def _asked(self, learn: NDArray[np.intp], ask: NDArray[np.intp]) -> tuple[float, NDArray[np.float64]]:
        """Return the accuracy on `ask`, and each row's gain in log loss over the shares of its answers there."""
        weights, bias = fit_logistic(self._vectors[learn], self._classes[learn], self._n_classes, strength=STRENGTH)
        logits = self._vectors[ask] @ weights + bias
        truth = self._classes[ask]
        shares = np.bincount(truth, minlength=self._n_classes) + SMOOTH
        losses = -np.log(np.maximum(softmax(logits)[np.arange(len(ask)), truth], LEAST))
        gain = -np.log(shares / shares.sum())[truth] - losses
        return float((logits.argmax(axis=1) == truth).mean()), np.asarray(gain, dtype=np.float64)


def _sure(gain: NDArray[np.float64], z: float) -> bool:
    return float(gain.mean()) > z * float(gain.std()) / sqrt(len(gain))


def _joined(wordings: Sequence[Wording], examples: Sequence[Example]) -> Wording:
    rows = np.sort(np.concatenate([wording.rows for wording in wordings]))
    frame = wordings[0].frame
    texts = [text_of_user(examples[row].request) or "" for row in rows]
    shared = fixed_texts(texts, 1 if frame.system_known else FEWEST_WORDS)
    return Wording(frame, shared or NO_TEMPLATE, rows)
