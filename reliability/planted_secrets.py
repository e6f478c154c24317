"""Secrets of many shapes to plant, and the forms in which one may stand somewhere. It plants and looks for nothing."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from urllib.parse import quote

SHAPES: tuple[tuple[str, str, int], ...] = (
    ("sk-proj-", "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ0123456789_-", 48),
    ("sk-ant-api03-", "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ0123456789_-", 60),
    ("AIza", "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ0123456789_-", 35),
    ("gsk_", "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ0123456789", 52),
    ("hf_", "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ", 34),
    ("", "0123456789abcdef", 32),
    ("", "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ0123456789", 84),
)
"""How keys begin, what they consist of, and how long the rest is; the last two, such as Azure's, begin like nothing."""


def make_secret(chance: random.Random, number: int) -> str:
    """Return a secret of the shape number `number`, in turn; one without a beginning starts with a letter."""
    begins, of, length = SHAPES[number % len(SHAPES)]
    return (begins or "a") + "".join(chance.choice(of) for _ in range(length - (not begins)))


def forms(secret: str) -> Iterator[bytes]:
    """Yield a secret as it may stand somewhere: whole, cut, in base64 at each offset, quoted as in an address."""
    plain = secret.encode()
    yield plain
    yield plain[:24]  # a cut that spares the end of a key has still told it
    for offset in range(3):
        yield base64.b64encode(b"x" * offset + plain)[4 if offset else 0 : -4]
    if (quoted := quote(secret, safe="").encode()) != plain:
        yield quoted
