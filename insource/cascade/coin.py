"""The audit coin: a keyed hash of the request's id, uniform on [0, 1) and the same again for the same key and id.

Request ids are given by the gateway, so that no caller can choose how the coin falls.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

Coin = Callable[[str], float]


def hash_coin(key: bytes | int) -> Coin:
    """Return a coin for the key (at most 64 bytes, or a seed): request id -> uniform number in [0, 1)."""
    secret = key if isinstance(key, bytes) else str(key).encode()

    def toss(request_id: str) -> float:
        digest = blake2b(request_id.encode(), key=secret, digest_size=8).digest()
        return (int.from_bytes(digest, "big") >> 11) / 2**53

    return toss
