"""Several candidates at once: which of many e-values stand, with the share of false ones among them bounded."""

from __future__ import annotations

import math
from collections.abc import Iterable

from insource.risk.bounds import check_share


def e_bh(e_values: Iterable[float], alpha: float) -> tuple[bool, ...]:
    """Return, for each e-value, whether its hypothesis is rejected at false discovery rate `alpha`.

    Of K e-values the k largest are rejected, for the largest k whose k-th largest is at least K / (alpha k). The
    e-values may depend on each other in any way and may be read at any time. Raises ValueError where one is NaN or
    below 0. Source: Wang and Ramdas (2022), "False discovery rate control with e-values", the base e-BH procedure.
    """
    check_share("alpha", alpha)
    values = tuple(e_values)
    if unusable := [value for value in values if math.isnan(value) or value < 0.0]:
        raise ValueError(f"e_values hold {unusable[0]}; expected numbers from 0 up.")
    falling = sorted(values, reverse=True)
    passing = [value for rank, value in enumerate(falling, start=1) if alpha * rank * value >= len(values)]
    return tuple(bool(passing) and value >= passing[-1] for value in values)
