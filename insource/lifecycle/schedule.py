"""When a version is tried, and when it takes over.

It knows counts and shares; neither scores nor requests. EXPERIMENTS.md has the figures behind the constants.
"""

from __future__ import annotations

import math

from insource.risk.bounds import binomial_lower_bound

GROWTH = 1.25
"""A version is tried whenever the requests have grown by this factor."""

FEWEST_WARMUP = 600


def default_warmup(target_risk: float) -> int:
    """Return the length of the shadow period, in requests: max(600, 30 / target_risk)."""
    return max(FEWEST_WARMUP, math.ceil(30.0 / target_risk))


def segments(requests: int, warmup: int, growth: float) -> list[tuple[int, int]]:
    """Return from where to where each version serves: the shadow period first, then ever longer."""
    ends, end = [], warmup
    while end < requests:
        ends.append(end)
        end = max(end + 1, math.ceil(end * growth))
    return list(zip([0, *ends], [*ends, requests], strict=True))


def takes_over(new: float, serving: float, *, stands: bool) -> bool:
    """Say whether a version that certified the coverage `new` replaces one that certified `serving` and still `stands`.

    Each has its own certificate, so the promise holds either way. An unlucky certificate then costs nothing; without
    this rule it can stop a task that was being served well.
    """
    return not stands or new >= serving


def stands(errors: int, audited: int, target_risk: float, confidence_level: float) -> bool:
    """Say whether a version's own audits leave its promise standing: the lower bound on its risk is within the target.

    `audited` counts the accepted requests that the coin picked since it took over, `errors` the wrong ones among them.
    """
    return binomial_lower_bound(errors, audited, confidence_level) <= target_risk
