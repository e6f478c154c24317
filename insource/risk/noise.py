"""The floor that inconsistent references put under any measurable risk.

It knows only how often repeated questions were answered differently, not which of the answers was right.
"""

from __future__ import annotations

import math


def label_noise(differing: float) -> float:
    """Return the share e of slips behind a share `differing` of question pairs answered differently.

    e = 1 - sqrt(1 - d), for independent slips over many answers. A target_risk at or under e cannot be reached.
    Raises ValueError where `differing` lies outside [0, 1]. Assumes independent slips and many answers.
    """
    if not 0.0 <= differing <= 1.0:
        raise ValueError(f"differing is {differing}; expected a share from 0 to 1. Pass differing over all pairs.")
    return 1.0 - math.sqrt(1.0 - differing)
