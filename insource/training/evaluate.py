"""Measuring a specialist on labelled rows, with the backend that serves it.

It knows an opened specialist, texts and references; not how the specialist was made or where it is registered.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insource.backends.specialist import Specialist
from insource.risk.bounds import binomial_upper_bound

TIMED = 300
PAIRS = 10
FORGOTTEN = 5


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a specialist made of rows: `labels` and `references` str (n,), `scores` float64 (n,).

    A reference outside the closed set is "" and counts as a mistake. `latency_ms` are p50 and p99 of single answers.
    `fields` has, where the answers have several fields, the value of each answer by field.
    """

    answers: tuple[str, ...]
    labels: NDArray[np.str_]
    references: NDArray[np.str_]
    scores: NDArray[np.float64]
    threshold: float | None
    confidence_level: float
    latency_ms: tuple[float, float]
    texts_per_second: float
    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """Which answers differ from the reference."""
        differs: NDArray[np.bool_] = self.labels != self.references
        return differs

    @property
    def accepted(self) -> NDArray[np.bool_]:
        """Which answers would have been accepted."""
        if self.threshold is None:
            return np.zeros(len(self.scores), np.bool_)
        reaches: NDArray[np.bool_] = self.scores >= self.threshold
        return reaches

    @property
    def accuracy(self) -> float:
        """The share of answers that agree with the reference."""
        return float(1.0 - self.wrong.mean())

    @property
    def macro_f1(self) -> float:
        """The mean F1 over all answers that were given or were right, each counting the same."""
        return float(np.mean([row["f1"] for row in self.per_answer() if row["rows"] or row["given"]]))

    def per_field(self) -> list[dict[str, Any]]:
        """Return each field's accuracy; a reference outside the closed set is a mistake in all of them."""
        number = {answer: place for place, answer in enumerate(self.answers)} | {"": -1}
        said, right = (np.array([number[label] for label in of.tolist()]) for of in (self.labels, self.references))
        return [
            {"field": name, "accuracy": float((np.array([*values, ""])[said] == np.array([*values, ""])[right]).mean())}
            for name, values in self.fields.items()
        ]

    def per_answer(self) -> list[dict[str, Any]]:
        """Return each answer's rows, precision, recall, F1, and how many of its rows were accepted and missed."""
        accepted, wrong = self.accepted, self.wrong
        rows = []
        for answer in self.answers:
            here, given = self.references == answer, self.labels == answer
            right, total = int((here & given).sum()), int(here.sum())
            missed = int((here & accepted & wrong).sum())
            rows.append(
                {
                    "answer": answer,
                    "rows": total,
                    "given": int(given.sum()),
                    "precision": right / int(given.sum()) if given.any() else 0.0,
                    "recall": right / total if total else 0.0,
                    "f1": 2 * right / (total + int(given.sum())) if total or given.any() else 0.0,
                    "accepted": int((here & accepted).sum()),
                    "missed": missed,
                    "missed_upper_bound": binomial_upper_bound(missed, total, self.confidence_level),
                }
            )
        return rows

    def forgotten(self) -> list[dict[str, Any]]:
        """Return the answers of `per_answer` with the lowest recall, five at most, those always found left out."""
        missed = [row for row in self.per_answer() if row["rows"] and row["recall"] < 1.0]
        return sorted(missed, key=lambda row: (row["recall"], -row["rows"]))[:FORGOTTEN]

    def figures(self) -> dict[str, Any]:
        """Return what `evaluate --json` writes besides task and version."""
        accepted = self.accepted
        kept = int(accepted.sum())
        return {
            "rows": len(self.labels),
            "accuracy": self.accuracy,
            "macro_f1": self.macro_f1,
            "coverage": float(accepted.mean()),
            "selective_risk": int((accepted & self.wrong).sum()) / kept if kept else None,
            "threshold": self.threshold,
            "per_field": self.per_field(),
            "per_answer": self.per_answer(),
            "latency_ms": {"p50": self.latency_ms[0], "p99": self.latency_ms[1]},
            "texts_per_second": self.texts_per_second,
        }

    def confused(self) -> list[tuple[str, str, int]]:
        """Return the pairs of (reference, answer) most often confused, with their counts."""
        pairs = zip(self.references[self.wrong].tolist(), self.labels[self.wrong].tolist(), strict=True)
        return [(reference, label, count) for (reference, label), count in Counter(pairs).most_common(PAIRS)]


def evaluate(
    specialist: Specialist,
    texts: Sequence[str],
    references: Sequence[str | None],
    *,
    threshold: float | None,
    confidence_level: float,
) -> Evaluation:
    """Answer every text and compare; `references` are labels of the specialist's closed set, None for any other.

    The rows are answered as a batch, and up to 300 of them once more one at a time for the latency.
    """
    start, space = time.perf_counter(), specialist.answers
    answered = specialist.answer_texts(texts)
    seconds = time.perf_counter() - start
    return Evaluation(
        answers=space.answers,
        labels=np.array([label for label, _ in answered]),
        references=np.array([reference or "" for reference in references]),
        scores=np.array([score for _, score in answered], dtype=np.float64),
        threshold=threshold,
        confidence_level=confidence_level,
        latency_ms=_latency(specialist, texts),
        texts_per_second=len(texts) / seconds,
        fields=dict(zip(space.fields, zip(*map(space.values, space.answers), strict=True), strict=False)),
    )


def _latency(specialist: Specialist, texts: Sequence[str]) -> tuple[float, float]:
    chosen = [texts[i] for i in np.linspace(0, len(texts) - 1, min(TIMED, len(texts))).astype(int)]
    times = []
    for text in chosen:
        start = time.perf_counter()
        specialist.answer_text(text)
        times.append((time.perf_counter() - start) * 1000.0)
    return float(np.quantile(times, 0.5)), float(np.quantile(times, 0.99))
