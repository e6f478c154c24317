"""Streams for `--budget`, prepared once for all their orders, and the selections that insource's own is held against.

It replays with insource's own loop: the same student, warm-up, schedule and pacer for each selection.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.ordered import Asked, Ordered, reordered
from insource.cascade.coin import hash_coin
from insource.lifecycle.neighbours import Selection
from insource.lifecycle.replay import Plan, Replay
from insource.lifecycle.schedule import default_warmup
from insource.training.develop import RowSet
from insource.training.students.contract import Probabilities, Rows
from insource.types import Task


class Random:
    """Any request is as good as another."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng([seed, 1])

    def fit(self, rows: RowSet, probabilities: Probabilities) -> None:
        """Learn nothing."""

    def __call__(self, rows: Rows, probabilities: Probabilities) -> NDArray[np.float64]:
        """Return uniform numbers."""
        return self._random.random(len(rows))


class Margin(Random):
    """The least distance between the two most probable answers first."""

    def __call__(self, rows: Rows, probabilities: Probabilities) -> NDArray[np.float64]:
        """Return the margin."""
        top = np.sort(probabilities, axis=1)
        return top[:, -1] - top[:, -2]


class Entropy(Random):
    """The most even probabilities first."""

    def __call__(self, rows: Rows, probabilities: Probabilities) -> NDArray[np.float64]:
        """Return the negative entropy."""
        return (probabilities * np.log(np.maximum(probabilities, 1e-30))).sum(axis=1)


@dataclass(frozen=True)
class Spent:
    """What a replay came to: the share of replies that are right by gold, and the calls made."""

    accuracy: float
    calls: int


def spend(asked: Asked, seed: int, share: float, select: Selection | None, family: str) -> Spent:
    """Replay the set in the order of `seed` with so many calls a request; `select` None is insource's own selection."""
    order = np.random.default_rng(seed).permutation(len(asked.stream))
    stream = reordered(asked.stream, order)
    task = Task(asked.name)
    budget = round(share * len(stream))
    plan = Plan(task, family, seed, min(default_warmup(task.target_risk), budget // 2), budget)
    material = Ordered(asked.material, order, asked.room, sentences=True)
    replayed = asyncio.run(Replay(stream, material, plan, hash_coin(seed), lambda done, total: None, select).run())
    kept = replayed.accepted | replayed.spent
    return Spent(float(1.0 - (kept & replayed.wrong).mean()), int((~kept).sum()))
