"""Evidence by betting: what a gambler who doubts a claim about a mean holds after outcomes in [0, 1].

Every number here is an e-process: under the claim its expectation never exceeds 1, so it reaches 1/alpha with
probability at most alpha, however often one looks (Ville 1939). It knows outcomes and means, not what they measure.

The gambler splits a capital of 1 over all fractions f in (0, 1), with density 2 (1 - f), and bets each share as that
fraction of the largest bet that cannot go broke: against "the mean is at most m" an outcome x multiplies it by
1 + f (x - m) / m. Such a mixture depends on the outcomes only by how often each was seen, never on their order, and
falls as m rises, so that bisection inverts it exactly. Sources: Robbins (1970), Cover (1991), Howard et al. (2021,
section on conjugate mixtures), Waudby-Smith and Ramdas (2024, section 4), Orabona and Jun (2024).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, betaln

from insource.risk.rows import Floats

TILT = 2.0
"""The density of the fractions is TILT (1 - f)^(TILT - 1): more on small bets, which small differences need."""
PANELS = 13
NODES = 5
HALVINGS = 60
TERMS = 4_000


def _fractions() -> tuple[Floats, Floats]:
    """Return the fractions of the discrete mixture and their widths: Gauss-Legendre on panels that halve towards 0."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    edges = np.append(0.0, 2.0 ** np.arange(1 - PANELS, 1))
    half = np.diff(edges)[:, None] / 2.0
    return (edges[:-1, None] + half * (1.0 + nodes)).ravel(), (half * weights).ravel()


FRACTIONS, WIDTHS = _fractions()


def log_shares(tilt: float) -> Floats:
    """Return the log of the capital's share on each fraction, density tilt (1 - f)^(tilt - 1); shares sum to 1."""
    shares = WIDTHS * (1.0 - FRACTIONS) ** (tilt - 1.0)
    return np.asarray(np.log(shares / shares.sum()), dtype=np.float64)


LOG_SHARES = log_shares(TILT)


def log_evidence_above(ones: Any, zeros: Any, mean: float) -> Floats:
    """Return the log e-value against "the mean of these 0/1 outcomes is at most `mean`", in closed form.

    `ones` and `zeros` are counts of any one shape (fractions of a count are allowed). With t = m + f (1 - m) the
    mixture is the integral over t in (m, 1) of t^ones (1 - t)^zeros / (m^ones (1 - m)^zeros) with the density above, an
    incomplete beta function: the one-sided beta-binomial mixture (Robbins 1970; Howard et al. 2021). Valid for every
    mean up to `mean`, since the likelihood ratio is monotone. Raises ValueError for a mean outside (0, 1) or negative
    counts.
    """
    check_mean("mean", mean)
    hits, misses = np.asarray(ones, dtype=np.float64), np.asarray(zeros, dtype=np.float64)
    if not (np.all(hits >= 0.0) and np.all(misses >= 0.0)):
        raise ValueError(f"counts {ones} and {zeros}; expected none below 0 and no NaN. Check the counts.")
    whole = betaln(hits + 1.0, misses + TILT) - hits * math.log(mean) - misses * math.log1p(-mean)
    above = betainc(misses + TILT, hits + 1.0, 1.0 - mean)
    vanished = above < 1e-290
    exact = math.log(TILT) - TILT * math.log1p(-mean) + whole + np.log(np.where(vanished, 1.0, above))
    if np.any(vanished):
        exact = np.array(exact)
        hits, misses = np.broadcast_arrays(hits, misses)
        exact[vanished] = _log_vanished(hits[vanished], misses[vanished], mean)
    return np.asarray(exact, dtype=np.float64)


def _log_vanished(hits: Floats, misses: Floats, mean: float) -> Floats:
    """Return the same where the share above the mean underflows: the integral over f as its series in (1 - m) / m.

    TILT / (misses + TILT) times 2F1(-hits, 1; misses + TILT + 1; -(1 - m) / m). There hits (1 - m) / m is below misses,
    so that terms fall from the first on, and each is positive while it counts.
    """
    term, total, odds = np.ones(hits.shape), np.ones(hits.shape), (1.0 - mean) / mean
    for k in range(TERMS):
        term = term * np.maximum(hits - k, 0.0) * odds / (misses + TILT + 1.0 + k)
        total += term
        if np.all(term <= 1e-17 * total):
            break
    return np.asarray(np.log(TILT / (misses + TILT)) + np.log(total), dtype=np.float64)


def log_evidence_below(ones: Any, zeros: Any, mean: float) -> Floats:
    """Return the log e-value against "the mean is at least `mean`": the same with the outcomes turned round."""
    check_mean("mean", mean)
    return log_evidence_above(zeros, ones, 1.0 - mean)


def log_factors(outcomes: Any, mean: float) -> Floats:
    """Return log(1 + f (x - mean) / mean) for outcomes x in [0, 1], shape (...), and every fraction f: (..., f).

    What one outcome does to each share of a capital that doubts "the mean is at most `mean`". For "at least", turn
    round both: 1 - x and 1 - mean.
    """
    excess = (np.asarray(outcomes, dtype=np.float64) - mean) / mean
    return np.asarray(np.log1p(FRACTIONS * excess[..., None]), dtype=np.float64)


def log_mixture(log_capitals: Floats, shares: Floats = LOG_SHARES) -> Floats:
    """Return the log of the whole capital from the logs of what each share has been multiplied by: (..., fractions)."""
    parts = log_capitals + shares
    most = parts.max(axis=-1, keepdims=True)
    return np.asarray(most[..., 0] + np.log(np.exp(parts - most).sum(axis=-1)), dtype=np.float64)


def spread(values: Floats, points: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Split each value over its two neighbours among `points`, keeping its mean: (lower place, share of the upper one).

    A factor of a bet is linear in the outcome and its log concave, so evidence from the split counts is never more
    than from the values themselves: a histogram replaces them at no cost in validity. Values on a point are exact.
    """
    places = np.clip(np.searchsorted(points, values, side="right") - 1, 0, points.size - 2)
    return places, np.asarray((values - points[places]) / (points[places + 1] - points[places]), dtype=np.float64)


def counts_of(values: Floats, points: Floats) -> Floats:
    """Return how often each point was seen, after `spread`."""
    places, upper = spread(values, points)
    counts = np.bincount(places, weights=1.0 - upper, minlength=points.size)
    counts[1:] += np.bincount(places, weights=upper, minlength=points.size)[:-1]
    return np.asarray(counts, dtype=np.float64)


def largest_rejected(log_evidence: Callable[[float], float], alpha: float) -> float:
    """Return the largest mean in [0, 1] that falling evidence rejects at `alpha`; 0.0 where it rejects none.

    Rejected means at least 1/alpha. The result is a lower confidence bound, on the safe side by the last bisection.
    """
    wanted = -math.log(alpha)
    rejected, kept = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (rejected + kept) / 2.0
        if not 0.0 < middle < 1.0:
            break
        if log_evidence(middle) >= wanted:
            rejected = middle
        else:
            kept = middle
    return rejected


def e_value(log_evidence: float) -> float:
    """Return the e-value itself, at most the largest float."""
    return math.exp(min(log_evidence, 709.0))


def checked_outcomes(name: str, values: Any, *, largest: float = 1.0, binary: bool = False) -> Floats:
    """Return one or many outcomes as a one-dimensional float array.

    Raises ValueError where one is NaN (a missing value is not evidence), lies outside [0, `largest`], or, with
    `binary`, is neither 0 nor 1.
    """
    numbers = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if numbers.ndim != 1:
        raise ValueError(f"{name} has shape {numbers.shape}; expected one number, or one for each row.")
    outside = ~((numbers >= 0.0) & (numbers <= largest))
    if binary:
        outside |= (numbers != 0.0) & (numbers != 1.0)
    if np.any(outside):
        wanted = "only 0 and 1" if binary else f"numbers from 0 to {largest:g}"
        raise ValueError(
            f"{name} holds {numbers[outside][0]} ({np.count_nonzero(outside)} of {numbers.size} unusable); "
            f"expected {wanted}. Leave out rows without a value: nothing is counted for them."
        )
    return numbers


def check_mean(name: str, value: float) -> None:
    """Raise ValueError unless `value` lies strictly between 0 and 1."""
    if not 0.0 < value < 1.0:
        raise ValueError(f"{name} is {value}; expected a number strictly between 0 and 1.")
