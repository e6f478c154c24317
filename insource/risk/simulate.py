"""Is the promise kept? Certify on draws from a pool whose every answer is known, and count how often it is broken.

It knows a pool's scores and mistakes. Its figures are about the procedure; no served request depends on them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insource.risk.band import certify
from insource.risk.guards import certify_guard
from insource.risk.rows import Bools, Floats, checked, highest_first


def violation_rate(
    pool_scores: Any,
    pool_wrong: Any,
    *,
    rows: int,
    target_risk: float,
    confidence_level: float,
    draws: int,
    seed: int,
    replacement: bool = False,
) -> dict[str, float]:
    """Certify `draws` samples of `rows` pool rows; count thresholds whose risk over the whole pool is above target.

    Returns `violations` (share of draws), `coverage` (mean share of the pool accepted), `certified` (share of draws
    with a threshold), the same for the naive threshold as `naive_violations` and `naive_coverage`, `allowed`
    (delta plus two standard errors), and `oracle` (the largest coverage of the pool within the target).
    Drawn without replacement the pool's risk includes the sample's rows, as a split of one data set has it.
    """
    scores, wrong = checked(pool_scores, pool_wrong)
    pool = _Pool(scores, wrong)
    kept: list[tuple[bool, float]] = []
    naive: list[tuple[bool, float]] = []
    certified = 0
    for drawn in _draws(scores.size, rows, draws, seed, replacement):
        certificate = certify(scores[drawn], wrong[drawn], target_risk=target_risk, confidence_level=confidence_level)
        certified += certificate.threshold is not None
        kept.append(pool.judge(certificate.threshold, target_risk))
        naive.append(pool.judge(naive_threshold(scores[drawn], wrong[drawn], target_risk), target_risk))
    return {
        **_summary("", kept),
        **_summary("naive_", naive),
        "certified": certified / draws,
        "allowed": allowed(1.0 - confidence_level, draws),
        "oracle": pool.oracle(target_risk),
    }


def guard_violation_rate(
    pool_scores: Any,
    pool_wrong: Any,
    *,
    rows: int,
    limit: float,
    confidence_level: float,
    draws: int,
    seed: int,
    replacement: bool = False,
) -> dict[str, float]:
    """Do the same for a guard: the pool is of rows whose reference is the guarded answer.

    A violation is a threshold at which more than `limit` of the pool is accepted wrongly. `coverage` is the mean share
    of those rows accepted; the naive threshold is the lowest at which the sample itself stays within the limit.
    """
    scores, wrong = checked(pool_scores, pool_wrong)
    kept: list[tuple[bool, float]] = []
    naive: list[tuple[bool, float]] = []
    certified = 0
    for drawn in _draws(scores.size, rows, draws, seed, replacement):
        guard = certify_guard(scores[drawn], wrong[drawn], limit=limit, confidence_level=confidence_level)
        certified += guard.threshold is not None
        kept.append(_missed(scores, wrong, guard.threshold, limit))
        naive.append(_missed(scores, wrong, naive_guard(scores[drawn], wrong[drawn], limit), limit))
    return {
        **_summary("", kept),
        **_summary("naive_", naive),
        "certified": certified / draws,
        "allowed": allowed(1.0 - confidence_level, draws),
    }


def naive_threshold(scores: Floats, wrong: Bools, target_risk: float) -> float | None:
    """Return the threshold of the largest coverage whose risk on these very rows is within target: the control."""
    values, flags = highest_first(scores, wrong)
    counts = np.arange(1, values.size + 1)
    boundary = np.append(values[1:] < values[:-1], True)[: values.size]
    within = np.flatnonzero(boundary & (np.cumsum(flags) <= target_risk * counts))
    if within.size == 0:
        return None
    last = int(within[-1])
    return -math.inf if last == values.size - 1 else float(np.nextafter(values[last + 1], math.inf))


def naive_guard(scores: Floats, wrong: Bools, limit: float) -> float:
    """Return the lowest threshold at which these very rows stay within the limit: the guards' control."""
    mistakes = np.sort(scores[wrong])[::-1]
    may_miss = int(limit * scores.size)
    return -math.inf if mistakes.size <= may_miss else float(np.nextafter(mistakes[may_miss], math.inf))


def allowed(delta: float, draws: int) -> float:
    """Return the most violations, as a share, to expect of a procedure at exactly delta: plus two standard errors."""
    return delta + 2.0 * math.sqrt(delta * (1.0 - delta) / draws)


class _Pool:
    """The pool sorted once, so that each threshold's risk is one search."""

    def __init__(self, scores: Floats, wrong: Bools) -> None:
        values, flags = highest_first(scores, wrong)
        self._rising = values[::-1]
        self._errors = np.append(0, np.cumsum(flags))

    def judge(self, threshold: float | None, target_risk: float) -> tuple[bool, float]:
        """Return (is the risk above target, share accepted) of a threshold over the whole pool."""
        if threshold is None:
            return False, 0.0
        accepted = self._rising.size - int(np.searchsorted(self._rising, threshold, side="left"))
        return bool(self._errors[accepted] > target_risk * accepted), accepted / self._rising.size

    def oracle(self, target_risk: float) -> float:
        """Return the largest share that could be accepted within the target, knowing everything."""
        counts = np.arange(self._errors.size)
        boundary = np.concatenate([[True], self._rising[::-1][1:] < self._rising[::-1][:-1], [True]])
        return float(np.flatnonzero(boundary & (self._errors <= target_risk * counts))[-1] / self._rising.size)


def _missed(scores: Floats, wrong: Bools, threshold: float | None, limit: float) -> tuple[bool, float]:
    if threshold is None:
        return False, 0.0
    accepted = scores >= threshold
    return bool(np.count_nonzero(accepted & wrong) > limit * scores.size), float(accepted.mean())


def _draws(pool: int, rows: int, draws: int, seed: int, replacement: bool) -> Iterator[NDArray[np.int64]]:
    if not 0 < rows <= pool and not replacement:
        raise ValueError(f"{rows} rows from a pool of {pool}; expected 1 to {pool}. Draw fewer, or with replacement.")
    generator = np.random.default_rng(seed)
    return (generator.choice(pool, size=rows, replace=replacement) for _ in range(draws))


def _summary(name: str, judged: list[tuple[bool, float]]) -> dict[str, float]:
    broken, share = zip(*judged, strict=True)
    return {f"{name}violations": float(np.mean(broken)), f"{name}coverage": float(np.mean(share))}
