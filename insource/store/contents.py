"""The text of an exchange: its salted digest for the append-only row, and the erasable row that holds it.

It knows no connection. Once the erasable row is gone its salt is gone, and the digest left behind says nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from datetime import timedelta

from insource.store.columns import Values, micros
from insource.types import Content

SALT_BYTES = 32


def content_digest(salt: bytes, content: Content) -> bytes:
    """Return SHA-256 over the salt and text, answer and reference, each as: present or not, length, UTF-8 bytes.

    Lone surrogates, which JSON can bring, are encoded as UTF-8 would if it could. 32 bytes.
    """
    return parts_digest(salt, [_bytes(value) for value in (content.text, content.answer, content.reference)])


def parts_digest(salt: bytes, parts: Sequence[bytes | None]) -> bytes:
    """Return the same from the bytes of text, answer and reference, as the contents table holds them."""
    digest = hashlib.sha256(salt)
    for data in parts:
        digest.update(b"\0" if data is None else b"\1" + len(data).to_bytes(8, "big") + data)
    return digest.digest()


def content_rows(content: Content, retention: timedelta, keep_text: bool) -> tuple[bytes, Values]:
    """Return the digest for the append-only row, and the values for the contents table.

    The salt is always kept until the content expires; text, answer and reference only with `keep_text`.
    """
    salt = os.urandom(SALT_BYTES)
    kept = (
        (_bytes(content.text), _bytes(content.answer), _bytes(content.reference)) if keep_text else (None, None, None)
    )
    expires = micros(content.time + retention)
    values = (salt, *kept, micros(content.time), content.task, expires)
    return content_digest(salt, content), values


def _bytes(value: str | None) -> bytes | None:
    return None if value is None else value.encode("utf-8", "surrogatepass")
