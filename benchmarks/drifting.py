"""Streams that drift, from real pools: a specialist certified on one half of a set, requests drawn from the other.

A pool holds for each row what drift can be seen by: score, answer, reference. A scenario says which rows come after
the shift, and what their references are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.figure import part
from insource.inputs import InputSettings
from insource.risk.band import certify
from insource.risk.scores import Scorer, cross_fit_scores
from insource.traffic import read
from insource.training.crossfit import cross_fit
from insource.training.snapshot import take_snapshot
from insource.training.splits import folds, places
from insource.training.students.linear import LinearStudent

TARGET, LEVEL = 0.05, 0.95
LEARN, LEAST_COVERAGE = 0.5, 0.1
MOST = 8_000
FOREIGN = {"twitter_financial_news": "snips", "snips": "banking77"}
OTHERWISE = "twitter_financial_news"


@dataclass(frozen=True)
class Rows:
    """What becomes of rows: scores float (n,), the specialist's answers and the references int (n,)."""

    scores: NDArray[np.float64]
    answers: NDArray[np.intp]
    references: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.scores)

    def at(self, where: NDArray[np.intp]) -> Rows:
        """Return the rows at these places."""
        return Rows(self.scores[where], self.answers[where], self.references[where])

    def and_then(self, more: Rows) -> Rows:
        """Return these rows with others behind."""
        return Rows(*(np.append(a, b) for a, b in zip(_columns(self), _columns(more), strict=True)))


@dataclass(frozen=True)
class Drifting:
    """A certified specialist, `before` rows to draw from, and `after` rows of which `share` come after the shift."""

    name: str
    threshold: float
    n_answers: int
    before: Rows
    after: Rows
    share: float

    def draw(self, random: np.random.Generator, stable: int, shifted: int) -> Rows:
        """Draw a stream with replacement: `stable` requests, then `shifted`."""
        old = self.before.at(random.integers(len(self.before), size=stable + shifted))
        new = self.after.at(random.integers(len(self.after), size=stable + shifted))
        late = (np.arange(stable + shifted) >= stable) & (random.random(stable + shifted) < self.share)
        return Rows(*(np.where(late, b, a) for a, b in zip(_columns(old), _columns(new), strict=True)))

    def risk(self) -> tuple[float, float]:
        """Return the true risk before the shift and after it."""
        before = self._wrong(self.before, self.threshold) / self._accepted(self.before, self.threshold)
        return before, self.shifted_to(self.threshold)[1]

    def shifted_to(self, threshold: float) -> tuple[float, float]:
        """Return the true coverage and risk of a threshold after the shift."""
        parts = ((1 - self.share, self.before), (self.share, self.after))
        kept = sum(share * self._accepted(rows, threshold) for share, rows in parts)
        return kept, sum(share * self._wrong(rows, threshold) for share, rows in parts) / kept

    def _accepted(self, rows: Rows, threshold: float) -> float:
        return float((rows.scores >= threshold).mean())

    def _wrong(self, rows: Rows, threshold: float) -> float:
        return float(((rows.scores >= threshold) & (rows.answers != rows.references)).mean())


def late_class(data: Path, home: Path, name: str, rank: int) -> Drifting | None:
    """The class of this rank by size is unknown to the specialist, and is a tenth of what comes after the shift."""
    return _build(data, home, name, f"late{rank}", hidden=rank)


def swapped(data: Path, home: Path, name: str) -> Drifting | None:
    """After the shift the teacher gives the two largest classes each other's name."""
    found = _build(data, home, name, "plain")
    if found is None:
        return None
    first, second = np.argsort(-np.bincount(found.before.references))[:2]
    turned = found.before.references.copy()
    turned[found.before.references == first], turned[found.before.references == second] = second, first
    return Drifting(
        found.name, found.threshold, found.n_answers, found.before,
        Rows(found.before.scores, found.before.answers, turned), 1.0,
    )  # fmt: skip


def other_domain(data: Path, home: Path, name: str) -> Drifting | None:
    """After the shift three in ten requests are another set's, where the teacher gives some answer of this one's."""
    return _build(data, home, name, "plain")


def _build(data: Path, home: Path, name: str, kind: str, hidden: int | None = None) -> Drifting | None:
    """Train, certify and score once; kept in `home`. None where the target leaves under a tenth to accept."""
    kept = home / "drift" / f"{name}-{kind}.npz"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, **_scored(data, name, hidden))
    with np.load(kept) as found:
        before, after = (Rows(*(found[f"{which}_{each}"] for each in ("s", "a", "r"))) for which in ("old", "new"))
        threshold, n_answers = float(found["threshold"]), int(found["n"])
    drifting = Drifting(f"{name} {kind}", threshold, n_answers, before, after, 0.3 if hidden is None else 0.1)
    return drifting if drifting._accepted(before, threshold) >= LEAST_COVERAGE else None


def _scored(data: Path, name: str, hidden: int | None) -> dict[str, NDArray[np.generic] | float | int]:
    random = np.random.default_rng(0)
    examples = [example for split in ("train", "test") for example in read(part(data, name, split)).examples]
    examples = [examples[at] for at in random.permutation(len(examples))[:MOST]]
    own = take_snapshot(examples, InputSettings())
    foreign = take_snapshot(list(read(part(data, FOREIGN.get(name, OTHERWISE), "test")).examples), InputSettings())
    texts, classes = (*own.texts, *foreign.texts), own.classes
    student = LinearStudent()
    prepared = student.prepare(texts)
    known = np.ones(len(classes), np.bool_)
    if hidden is not None:
        known = classes != np.argsort(-np.bincount(classes))[hidden]
    where = places(own.groups, 0)
    learn, rest = np.flatnonzero((where >= LEARN) & known), np.flatnonzero(where < LEARN)
    fold = folds(own.groups[learn], 0)
    fit = cross_fit(
        student, prepared, evidence=learn, folds=fold, also=learn[:0], classes=classes, n_classes=len(own.answers)
    )
    agrees = fit.probabilities.argmax(axis=1) == classes[learn]
    certificate = certify(
        cross_fit_scores(fit.probabilities, agrees, fold), ~agrees, target_risk=TARGET, confidence_level=LEVEL
    )
    scorer = Scorer.fit(fit.probabilities, agrees)

    def scored(rows: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        probabilities = fit.student.probabilities(prepared, rows)
        return scorer.score(probabilities), probabilities.argmax(axis=1)

    old, strange = rest[known[rest]], len(classes) + np.arange(len(foreign.texts))
    new = strange if hidden is None else np.flatnonzero(~known)
    given = (
        random.integers(len(own.answers), size=len(foreign.answers))[foreign.classes]
        if hidden is None
        else classes[new]
    )
    (old_scores, old_answers), (new_scores, new_answers) = scored(old), scored(new)
    return {
        "old_s": old_scores, "old_a": old_answers, "old_r": classes[old], "new_s": new_scores, "new_a": new_answers,
        "new_r": given, "n": len(own.answers),
        "threshold": np.inf if certificate.threshold is None else certificate.threshold,
    }  # fmt: skip


def _columns(rows: Rows) -> tuple[NDArray[np.generic], ...]:
    return rows.scores, rows.answers, rows.references
