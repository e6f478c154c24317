"""When a version is tried, when it takes over, and how often the audit coin picks a request meanwhile.

It knows counts and shares; neither scores nor requests. EXPERIMENTS.md has the figures behind the constants.
"""

from __future__ import annotations

import math

from insource.risk.bounds import binomial_lower_bound

GROWTH = 1.25
"""A version is tried whenever the requests have grown by this factor."""

FEWEST_WARMUP = 600
HIGHEST_RATE = 0.5


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


def coin_rate(audit_rate: float, coverage: float) -> float:
    """Return how often the coin picks a request, so that audits cost `audit_rate` more calls for each request.

    Only audits of accepted requests cost a call, since escalated ones have their reference anyway: a version that
    certified the share `coverage` can toss at audit_rate / coverage, at most 0.5 (or `audit_rate`, where that is more).
    Where nothing is certified there is no coin: every request is evidence.
    """
    return min(max(HIGHEST_RATE, audit_rate), audit_rate / coverage) if coverage > 0.0 else 0.0


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
