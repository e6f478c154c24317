"""Does a score rank? The area under the curve of the score against "agrees with the reference".

It knows order only: a score may rank well and be badly calibrated, or the other way round.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import rankdata

from insource.risk.bounds import binomial_lower_bound
from insource.risk.rows import Bools, Floats, checked

SLIPS_LEVEL = 0.95
MOST_SLIPS = 0.8


def area_under_curve(scores: Any, agrees: Any) -> float | None:
    """Return the chance that an agreeing row scores above a disagreeing one, ties counted half.

    None where one of the kinds is missing. Source: the Mann-Whitney statistic; Hanley and McNeil 1982.
    """
    values, flags = checked(scores, agrees)
    agreeing = int(np.count_nonzero(flags))
    disagreeing = int(flags.size) - agreeing
    if agreeing == 0 or disagreeing == 0:
        return None
    ranks = rankdata(values)
    above = float(ranks[flags].sum()) - agreeing * (agreeing + 1) / 2.0
    return above / (agreeing * disagreeing)


def without_slips(area: float, values: Floats, wrong: Bools) -> float:
    """Return the area under the curve among the disagreements that a score could foresee.

    A reference that slips at random disagrees wherever it falls, which no score can know: such rows rank by chance and
    pull the area towards a half. What disagrees even in the tenth with the highest scores is taken for slips, at its
    lower bound, so that only what is shown is made good; at most four fifths of all disagreements. `area` is that of
    all rows and is returned where nothing is shown; a half stays a half.
    """
    highest = np.argsort(-values, kind="stable")[: len(values) // 10]
    if not len(highest) or not wrong.any():
        return area
    slips = binomial_lower_bound(int(np.count_nonzero(wrong[highest])), len(highest), SLIPS_LEVEL)
    share = min(slips / float(wrong.mean()), MOST_SLIPS)
    return min((area - share / 2.0) / (1.0 - share), 1.0)
