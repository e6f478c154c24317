"""How long answers take with so many callers at once, all specialists by turns, while nothing else is done here.

It knows opened specialists and requests; not how they were made.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from insource.backends.specialist import Specialist
from insource.types import Request

ROUNDS = 5
WARM = 10
MOST = 300
"""Answers of one specialist in one round, at most."""
LONGEST = 2.0
"""Seconds of one specialist in one round, at most; but every caller has its turn."""


@dataclass(frozen=True, slots=True)
class Pace:
    """p50 and p99 of an answer in milliseconds, and the seconds of one core that it takes."""

    latency_ms: tuple[float, float]
    answer_seconds: float
    answers: int


def measure_paces(
    specialists: Sequence[Specialist], requests: Sequence[Request], callers: int, seconds: float = LONGEST
) -> list[Pace]:
    """Ask each specialist in five rounds by turns, so that what disturbs, disturbs all alike.

    `callers` ask at once, each its next request as soon as it has its answer; a request waits in the specialist's
    queue as it would while serving. Time on the cores is this process's own, and so knows nothing of other processes.
    Must not be called from a running event loop.
    """
    return asyncio.run(_paces(specialists, requests, callers, seconds))


async def _paces(
    specialists: Sequence[Specialist], requests: Sequence[Request], callers: int, seconds: float
) -> list[Pace]:
    taken: list[list[float]] = [[] for _ in specialists]
    cores = [0.0] * len(specialists)
    for specialist in specialists:
        for request in requests[:WARM]:
            await specialist.answer(request)
    for turn in range(ROUNDS):
        for number, specialist in enumerate(specialists):
            start = time.process_time()
            taken[number] += await _round(specialist, _from(requests, turn), callers, seconds)
            cores[number] += time.process_time() - start
    return [
        Pace((float(np.quantile(each, 0.5)), float(np.quantile(each, 0.99))), core / len(each), len(each))
        for each, core in zip(taken, cores, strict=True)
    ]


async def _round(specialist: Specialist, requests: Sequence[Request], callers: int, seconds: float) -> list[float]:
    """Return the milliseconds of each answer."""
    waiting, times = iter(requests), []
    end = time.perf_counter() + seconds

    async def call() -> None:
        for request in waiting:
            start = time.perf_counter()
            await asyncio.sleep(0)  # the others are heard in between, also by one that answers on the event loop
            await specialist.answer(request)
            now = time.perf_counter()
            times.append((now - start) * 1000.0)
            if now > end:
                return

    await asyncio.gather(*(call() for _ in range(callers)))
    return times


def _from(requests: Sequence[Request], turn: int) -> list[Request]:
    """Return up to 300 requests, other ones in each round as far as there are others."""
    start = turn * MOST % len(requests)
    return [requests[(start + step) % len(requests)] for step in range(min(MOST, len(requests)))]
