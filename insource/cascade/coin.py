"""The audit coin: a keyed hash of the request's id, uniform on [0, 1) and the same again for the same key and id.

Request ids are given by the gateway, so that no caller can choose how the coin falls.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

Coin = Callable[[str], float]

HIGHEST_RATE = 0.5


def hash_coin(key: bytes | int) -> Coin:
    """Return a coin for the key (at most 64 bytes, or a seed): request id -> uniform number in [0, 1)."""
    secret = key if isinstance(key, bytes) else str(key).encode()

    def toss(request_id: str) -> float:
        digest = blake2b(request_id.encode(), key=secret, digest_size=8).digest()
        return (int.from_bytes(digest, "big") >> 11) / 2**53

    return toss


def coin_rate(audit_rate: float, coverage: float) -> float:
    """Return how often the coin picks a request, so that audits cost `audit_rate` more calls for each request.

    Only audits of accepted requests cost a call, since escalated ones have their reference anyway: a version that
    certified the share `coverage` can toss at audit_rate / coverage, at most 0.5 (or `audit_rate`, where that is more).
    Where nothing is certified there is no coin: every request is evidence.
    """
    return min(max(HIGHEST_RATE, audit_rate), audit_rate / coverage) if coverage > 0.0 else 0.0
