"""Two versions beside each other, on the same rows and in the same minutes: what the smaller one cost and saved.

It knows opened specialists; not how either was made.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insource.backends.specialist import Specialist
from insource.training.develop import named
from insource.training.snapshot import Snapshot
from insource.training.students.contract import Rows

TIMED = 500
WARM = 20


@dataclass(frozen=True, slots=True)
class Measured:
    """One version: accuracy on the rows, bytes it serves with, p50 and p99 of single answers, joules of a thousand."""

    accuracy: float
    size_bytes: int
    latency_ms: tuple[float, float]
    joules_per_thousand: float

    def to_json(self) -> dict[str, Any]:
        """Return the figures by name."""
        return asdict(self) | {"latency_ms": {"p50": self.latency_ms[0], "p99": self.latency_ms[1]}}


@dataclass(frozen=True, slots=True)
class Beside:
    """Source and result on the same `rows`, and the share of them on which both say the same."""

    source: Measured
    result: Measured
    agreement: float
    rows: int

    def no_better(self) -> bool:
        """Whether the result is better in nothing: accuracy, size and time (energy goes with time)."""
        old, new = self.source, self.result
        return (
            new.accuracy <= old.accuracy and new.size_bytes >= old.size_bytes and new.latency_ms[0] >= old.latency_ms[0]
        )

    def to_json(self) -> dict[str, Any]:
        """Return the figures by name."""
        return {
            "rows": self.rows,
            "agreement": self.agreement,
            "source": self.source.to_json(),
            "result": self.result.to_json(),
        }


def measure_beside(
    source: Specialist,
    result: Specialist,
    sizes: tuple[int, int],
    snapshot: Snapshot,
    rows: Rows,
    joules: Callable[[float], float],
) -> Beside:
    """Answer `rows` of a snapshot with both; up to 500 of them also one at a time, by turns, for the latency.

    `sizes` are the bytes of both, `joules` says what seconds on one core take.
    """
    texts = [snapshot.texts[i] for i in rows]
    references = named(snapshot.classes[rows], snapshot.answers.answers)
    said = [np.array([label for label, _ in each.answer_texts(texts)]) for each in (source, result)]
    times = _times((source, result), texts)
    measured = [
        Measured(
            accuracy=float((labels == references).mean()),
            size_bytes=size,
            latency_ms=(float(np.quantile(taken, 0.5)), float(np.quantile(taken, 0.99))),
            joules_per_thousand=joules(float(np.quantile(taken, 0.5))),  # 1,000 answers of so many thousandths
        )
        for labels, size, taken in zip(said, sizes, times, strict=True)
    ]
    return Beside(measured[0], measured[1], float((said[0] == said[1]).mean()), len(rows))


def _times(specialists: tuple[Specialist, Specialist], texts: list[str]) -> list[NDArray[np.float64]]:
    """Return milliseconds of single answers, (texts,) of each specialist, taken by turns: both share what disturbs."""
    chosen = [texts[i] for i in np.linspace(0, len(texts) - 1, min(TIMED, len(texts))).astype(int)]
    for specialist in specialists:
        for text in chosen[:WARM]:
            specialist.answer_text(text)
    taken = np.empty((2, len(chosen)))
    for place, text in enumerate(chosen):
        for number, specialist in enumerate(specialists):
            start = time.perf_counter()
            specialist.answer_text(text)
            taken[number, place] = (time.perf_counter() - start) * 1000.0
    return list(taken)
