"""Exact binomial bounds on a share, and the rows they need.

They know counts only: whether the rows behind a count were drawn fairly is the caller's business.
"""

from __future__ import annotations

import math

from scipy.special import betainccinv, betaincinv


def binomial_upper_bound(errors: int, rows: int, confidence_level: float) -> float:
    """Return the one-sided upper bound on the share of errors; 1.0 where there are no rows.

    The largest p whose chance of `errors` or fewer among `rows` is still 1 - confidence_level.
    Raises ValueError for impossible counts. Source: Clopper and Pearson 1934.
    """
    _check(errors, rows, confidence_level)
    if errors == rows:
        return 1.0
    return float(betainccinv(errors + 1, rows - errors, 1.0 - confidence_level))


def binomial_lower_bound(errors: int, rows: int, confidence_level: float) -> float:
    """Return the one-sided lower bound on the share of errors; 0.0 where there are none.

    The smallest p whose chance of `errors` or more among `rows` is still 1 - confidence_level.
    Raises ValueError for impossible counts. Source: Clopper and Pearson 1934.
    """
    _check(errors, rows, confidence_level)
    if errors == 0:
        return 0.0
    return float(betaincinv(errors, rows - errors + 1, 1.0 - confidence_level))


def binomial_interval(errors: int, rows: int, confidence_level: float) -> tuple[float, float]:
    """Return the central two-sided interval (low, high): each end one-sided at half of 1 - confidence_level."""
    one_sided = 1.0 - (1.0 - confidence_level) / 2.0
    return binomial_lower_bound(errors, rows, one_sided), binomial_upper_bound(errors, rows, one_sided)


def rows_needed(target_risk: float, confidence_level: float) -> int:
    """Return how many rows without an error put the upper bound at or under `target_risk`.

    ceil(ln delta / ln(1 - target_risk)) with delta = 1 - confidence_level: fewer rows certify nothing at all.
    Raises ValueError where either lies outside (0, 1).
    """
    check_share("target_risk", target_risk)
    check_share("confidence_level", confidence_level)
    return math.ceil(math.log(1.0 - confidence_level) / math.log1p(-target_risk))


def check_share(name: str, value: float) -> None:
    """Raise ValueError unless `value` lies strictly between 0 and 1."""
    if not 0.0 < value < 1.0:
        raise ValueError(f"{name} is {value}; expected a number strictly between 0 and 1. Pass such a share.")


def _check(errors: int, rows: int, confidence_level: float) -> None:
    check_share("confidence_level", confidence_level)
    if not 0 <= errors <= rows:
        raise ValueError(f"{errors} errors among {rows} rows; expected 0 <= errors <= rows. Check the counts.")
