"""Guards: of the requests whose reference is one answer, at most a share may be accepted with another answer.

It knows those rows' scores and which were wrong; the answer's name and the rest of the traffic stay outside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import bdtr

from insource.risk.bounds import binomial_upper_bound, check_share, rows_needed
from insource.risk.rows import checked


@dataclass(frozen=True, slots=True)
class GuardCertificate:
    """The smallest threshold that keeps a guard: accept iff score >= threshold, -inf where all may be accepted.

    None where the rows are too few: `rows_lacking` more are needed. `missed` of `rows` are accepted wrongly there.
    """

    threshold: float | None
    rows: int
    missed: int
    missed_upper_bound: float | None
    rows_lacking: int = 0


def certify_guard(scores: Any, wrong: Any, *, limit: float, confidence_level: float) -> GuardCertificate:
    """Certify the smallest t with P(score >= t and answer wrong | reference is the guarded answer) <= `limit`.

    `scores` float (n,) and `wrong` bool (n,) of the rows whose reference is that answer, and of no others.

    Exact at delta = 1 - confidence_level for all thresholds at once, without a correction. The loss 1{score >= t and
    wrong} never rises with t, so the bad thresholds form a ray that ends in t*, and as t rises to t* the share missed
    tends to its value at t* (the events shrink to {score >= t* and wrong}), which is therefore at least `limit`. The
    count missed never rises with t either: if any bad t passes the exact test, then so does t*, and that one test
    passes with probability at most delta. So does every higher threshold, the band's included, keep the guard.
    Raises ValueError for NaN scores, shapes that differ, or shares outside (0, 1).
    """
    check_share("limit", limit)
    check_share("confidence_level", confidence_level)
    values, flags = checked(scores, wrong)
    rows = int(values.size)
    allowed = _may_miss(rows, limit, 1.0 - confidence_level)
    if allowed < 0:
        return GuardCertificate(None, rows, 0, None, rows_needed(limit, confidence_level) - rows)
    mistakes = np.sort(values[flags])[::-1]
    threshold = -math.inf
    if mistakes.size > allowed:
        threshold = float(np.nextafter(mistakes[allowed], math.inf))
    missed = int(np.count_nonzero(mistakes >= threshold))
    return GuardCertificate(threshold, rows, missed, binomial_upper_bound(missed, rows, confidence_level))


def _may_miss(rows: int, limit: float, delta: float) -> int:
    """Return the most rows that may be missed with the exact test still passing; -1 where not even none may."""
    if rows == 0:
        return -1
    return int(np.searchsorted(bdtr(np.arange(rows + 1), rows, limit), delta, side="right")) - 1
