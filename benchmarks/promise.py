"""Is the promise kept, and what does it cost? Certify on random rows of real pools and look at the whole pool."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from scipy.stats import binom

from benchmarks.figure import Figure
from benchmarks.pools import Pool, pool
from insource.risk.band import certify
from insource.risk.simulate import violation_rate

SETS = ("banking77", "trec_questions", "twitter_financial_news", "sms_smishing", "tweeteval_offensive")
TARGETS, ROWS, DRAWS, LEVEL = (0.02, 0.05, 0.10), (300, 1000), 500, 0.95
SAME_WITHIN = 0.02
COMPARED = 20


def run(data: Path, home: Path, *, quick: bool) -> list[Figure]:
    """500 random splits of each of five sets, three targets, two sizes; the naive threshold beside as control."""
    figures: list[Figure] = []
    for name in SETS[:1] if quick else SETS:
        rows_of = pool(data, name)
        figures += [_kept(rows_of, target, rows, 50 if quick else DRAWS) for target in TARGETS for rows in ROWS]
        figures.append(_price(rows_of, 3 if quick else COMPARED))
    return figures


def _kept(found: Pool, target: float, rows: int, draws: int) -> Figure:
    seen = violation_rate(
        found.scores, found.wrong, rows=rows, target_risk=target, confidence_level=LEVEL, draws=draws, seed=1
    )
    everything = float(found.wrong.mean()) > target
    control = not everything or seen["naive_violations"] > seen["violations"]
    return Figure(
        f"{found.name}, {target:.0%}, {rows} rows",
        f"exceeded {seen['violations']:.1%} (naive {seen['naive_violations']:.1%}), coverage {seen['coverage']:.1%} "
        f"(oracle {seen['oracle']:.1%})",
        f"exceeded <= {seen['allowed']:.1%}, naive more often",
        seen["violations"] <= seen["allowed"] and control,
    )


def _price(found: Pool, draws: int) -> Figure:
    """Compare coverage with a second, plain implementation of the step-down band."""
    random = np.random.default_rng(2)
    ours, plain = [], []
    for _ in range(draws):
        drawn = random.choice(len(found.scores), 300, replace=False)
        scores, wrong = found.scores[drawn], found.wrong[drawn]
        ours.append(certify(scores, wrong, target_risk=0.05, confidence_level=LEVEL).coverage)
        plain.append(plain_band(scores, wrong, 0.05, 1 - LEVEL))
    lost = float(np.mean(plain) - np.mean(ours))
    return Figure(
        f"{found.name}, price of the promise", f"{100 * lost:+.2f} points under a plain implementation",
        "at most 2 points", lost <= SAME_WITHIN,
    )  # fmt: skip


def plain_band(scores: np.ndarray, wrong: np.ndarray, alpha: float, delta: float) -> float:
    """Return the coverage that the step-down simultaneous exact band certifies, written plainly and slowly."""
    order = np.argsort(-scores, kind="stable")
    errors, ranked, n = np.cumsum(wrong[order]), scores[order], len(scores)
    grid, m = [], math.ceil(math.log(delta) / math.log(1 - alpha))
    while m < n:
        grid.append(m)
        m = max(m + 1, round(1.03 * m))
    grid = sorted({_boundary(ranked, point) for point in [*grid, n]} - {0})
    kept, j = 0, 0
    while j < len(grid):
        level = _level(grid[j:], alpha, delta)
        passing = [i for i in range(j, len(grid)) if binom.cdf(errors[grid[i] - 1], grid[i], alpha) <= level]
        if not passing:
            break
        kept, j = grid[passing[-1]], passing[-1] + 1
    return kept / n


def _boundary(ranked: np.ndarray, m: int) -> int:
    while 0 < m < len(ranked) and ranked[m - 1] == ranked[m]:
        m -= 1
    return m


def _level(grid: list[int], alpha: float, delta: float) -> float:
    low, high = math.log(delta / 100), math.log(0.5)
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if _crossing(grid, alpha, math.exp(middle)) <= delta else (low, middle)
    return math.exp(low)


def _crossing(grid: list[int], alpha: float, c: float) -> float:
    """Return the probability that a walk with Bernoulli(alpha) steps meets F(S_m; m, alpha) <= c on the grid."""
    state, total, before = np.ones(1), 0.0, 0
    for m in grid:
        state = np.convolve(state, binom.pmf(np.arange(m - before + 1), m - before, alpha))
        low = binom.cdf(np.arange(len(state)), m, alpha) <= c
        total += float(state[low].sum())
        state[low], before = 0.0, m
    return total
