"""Are guards held? At most 10 % of each rare answer may be accepted with another answer."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.figure import Figure
from benchmarks.pools import Pool, pool
from insource.risk.calibrate import calibrate
from insource.risk.simulate import allowed

SETS = ("unfair_tos", "unsafe_queries", "sms_smishing")
LIMIT, TARGET, LEVEL, SPLITS, RARE = 0.10, 0.05, 0.95, 200, 0.10


def run(data: Path, home: Path, *, quick: bool) -> list[Figure]:
    """200 random halves of each pool certify; the whole pool is looked at."""
    figures = []
    for name in SETS:
        found = pool(data, name)
        figures.append(_held(found, 20 if quick else SPLITS))
        if name == "unfair_tos":
            merged = np.where(
                found.references == max(set(found.references.tolist()), key=found.references.tolist().count),
                "other",
                "any unfair clause",
            )
            figures.append(_held(replace(found, name="unfair_tos, one guard for all", references=merged), SPLITS))
    return figures


def _held(found: Pool, splits: int) -> Figure:
    counts = Counter(found.references.tolist())
    rare = {answer for answer, rows in counts.items() if rows < RARE * len(found.references)}
    rare = rare or {min(counts, key=lambda answer: counts[answer])}
    random = np.random.default_rng(3)
    broken, coverage, opened = Counter[str](), [], 0
    for _ in range(splits):
        half = random.permutation(len(found.scores))[: len(found.scores) // 2]
        calibration = calibrate(
            found.scores[half],
            found.wrong[half],
            found.references[half],
            dict.fromkeys(rare, LIMIT),
            target_risk=TARGET,
            confidence_level=LEVEL,
            method="strict",
        )
        threshold = np.inf if calibration.threshold is None else calibration.threshold
        accepted = found.scores >= threshold
        opened += calibration.threshold is not None
        coverage.append(float(accepted.mean()))
        for answer in rare:
            rows = found.references == answer
            broken[answer] += bool((accepted & found.wrong & rows).sum() > LIMIT * rows.sum())
    worst = max(broken.values(), default=0) / splits
    limit = allowed(1 - LEVEL, splits)
    few = min(counts[answer] // 2 for answer in rare)
    return Figure(
        f"{found.name}: {len(rare)} guarded, {few} rows or more each",
        f"worst guard broken in {worst:.1%}, mean coverage {np.mean(coverage):.1%}, "
        f"accepts anything in {opened / splits:.0%}",
        f"broken in <= {limit:.1%}",
        worst <= limit,
    )
