"""Does a score rank? The area under the curve of the score against "agrees with the reference".

It knows order only: a score may rank well and be badly calibrated, or the other way round.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import rankdata

from insource.risk.rows import checked


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
