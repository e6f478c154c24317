"""Simulated canaries: on each request the incumbent and the candidate are each right or wrong, by known shares."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Wrong = NDArray[np.bool_]

REQUESTS = 20_000
DISCORDANCE = 0.06
BOTH_WRONG = 0.04


def canary(seed: tuple[int, ...], drop: float = 0.0, requests: int = REQUESTS) -> tuple[Wrong, Wrong]:
    """Return which requests the incumbent and which the candidate answers wrongly, the latter `drop` more often.

    On `discordance(drop)` of the requests exactly one of them is wrong, on 4 % both.
    """
    share = discordance(drop)
    chance = np.random.default_rng(seed).random(requests)
    candidate_only = chance < (share + drop) / 2.0
    either = chance < share
    both = chance >= 1.0 - BOTH_WRONG
    return (either & ~candidate_only) | both, candidate_only | both


def discordance(drop: float) -> float:
    """Return 6 %, or what a larger drop needs: a twelfth of it to the candidate's favour."""
    return max(DISCORDANCE, 1.2 * drop)
