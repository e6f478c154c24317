"""A contender: one version with all that is compared of it. It knows figures; not how they were found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insource.risk.bounds import binomial_interval
from insource.training.comparing.cost import Cost
from insource.training.outcome import told
from insource.types import Require, SpecialistVersion

LEVEL = 0.95
PARTS = ("compute", "energy", "training", "upstream", "total")


@dataclass(frozen=True, slots=True)
class Contender:
    """`right` and `accepted` bool (n,) are of the test rows that all contenders share, in the same order.

    `latency_ms` p50 and p99 at the concurrency asked, `answer_seconds` of one core an answer, `sent_up` the share of
    requests that are escalated or audited, `size_bytes` with its trunk.
    """

    name: str
    version: SpecialistVersion
    right: NDArray[np.bool_]
    accepted: NDArray[np.bool_]
    macro_f1: float
    size_bytes: int
    latency_ms: tuple[float, float]
    answer_seconds: float
    joules_per_thousand: float
    training_seconds: float
    cost: Cost
    sent_up: float

    @property
    def accuracy(self) -> float:
        """Share of right answers on the test rows."""
        return float(self.right.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """The exact binomial 95 % interval of the accuracy."""
        low, high = binomial_interval(int((~self.right).sum()), len(self.right), LEVEL)
        return 1.0 - high, 1.0 - low

    @property
    def coverage(self) -> float:
        """The certified coverage; 0 where nothing is certified."""
        return self.version.calibration.coverage if self.version.calibration else 0.0

    @property
    def figures(self) -> tuple[float, ...]:
        """What the front is drawn by: errors, cost, p50 and share sent up, all the better the smaller.

        Cost and time with two digits that count, the share to a tenth of a point: finer differences are none.
        """
        errors = float((~self.right).sum())
        return errors, float(f"{self.cost.total:.1e}"), float(f"{self.latency_ms[0]:.2g}"), round(self.sent_up, 3)

    def misses(self, require: Require) -> Iterator[tuple[str, str]]:
        """Give each requirement of the task that is not met: its name, and what is wrong."""
        for name, asked, found, text in (
            ("accuracy", require.accuracy, self.accuracy, "accuracy {:.1%} under {:.1%}"),
            ("coverage", require.coverage, self.coverage, "certified coverage {:.1%} under {:.1%}"),
        ):
            if asked is not None and found < asked:
                yield name, text.format(found, asked)
        for name, asked, found, text in (
            ("latency_ms", require.latency_ms, self.latency_ms[0], "p50 {:.2g} ms over {:g}"),
            ("size_mb", require.size_mb, self.size_bytes / 1e6, "{:.1f} MB over {:g}"),
        ):
            if asked is not None and found > asked:
                yield name, text.format(found, asked)

    def to_json(self, require: Require, *, on_front: bool) -> dict[str, Any]:
        """Return the stable form that the reference documents."""
        low, high = self.interval
        cost = {name: None if (part := getattr(self.cost, name)) is None else f"{part:f}" for name in PARTS}
        return {
            "name": self.name,
            "version": self.version.version,
            "family": self.version.family,
            "digest": self.version.digest,
            "accuracy": self.accuracy,
            "accuracy_interval": {"low": low, "high": high},
            "macro_f1": self.macro_f1,
            "calibration": told(self.version.calibration),
            "accepted": float(self.accepted.mean()),
            "cost_per_thousand": cost,
            "joules_per_thousand": self.joules_per_thousand,
            "latency_ms": {"p50": self.latency_ms[0], "p99": self.latency_ms[1]},
            "sent_up": self.sent_up,
            "size_bytes": self.size_bytes,
            "training_seconds": self.training_seconds,
            "on_front": on_front,
            "misses": [text for _, text in self.misses(require)],
        }
