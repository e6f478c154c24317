"""The text of an exchange: its salted digest for the append-only row, and the erasable row that holds it, sealed.

It knows no connection. Once the erasable row or a key of its seal is gone, its salt is gone, and the digest left behind
says nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from datetime import timedelta

from insource.store.columns import Values, micros, moment
from insource.store.content_keys import ContentKeys, Seal
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
    """Return the digest for the append-only row, and the values for the contents table, not sealed yet.

    The salt is always kept until the content expires; text, answer and reference only with `keep_text`. It expires
    after the content's own days, else after `retention`.
    """
    salt = os.urandom(SALT_BYTES)
    kept = (
        (_bytes(content.text), _bytes(content.answer), _bytes(content.reference)) if keep_text else (None, None, None)
    )
    expires = micros(content.time + (retention if content.days is None else timedelta(days=content.days)))
    values = (salt, *kept, micros(content.time), content.task, expires, content.subject)
    return content_digest(salt, content), values


def sealed_rows(keys: ContentKeys, rows: Sequence[Values]) -> list[Values]:
    """Return rows of the contents table, numbers first, parts sealed, with the ids of the subject's and the day's keys.

    Rows of a subject that was erased since are left out. Keys are made where they are missing, and durable on return.
    """
    found = []
    keys.ensure(row[-1] for row in rows if row[-1] is not None)
    for seq, *parts, time, task, expires, subject in rows:
        seal = keys.seal_of(subject=subject, time=moment(time), expires=moment(expires))
        if seal is None:
            continue
        sealed = [part if part is None else keys.seal(seal, place(seq, at), part) for at, part in enumerate(parts)]
        if sealed[0] is None:  # erased a moment ago
            continue
        found.append((seq, *sealed, time, task, expires, None if subject is None else seal[0], seal[-1]))
    return found


def opened_row(
    keys: ContentKeys | None, seq: int, parts: Sequence[bytes | None], subject: bytes | None, day: bytes | None
) -> list[bytes | None]:
    """Return the parts of a row (salt, text, answer and reference, as many as are given) as `opened` does each.

    All are None where there are no keys.
    """
    if keys is None:
        return [None] * len(parts)
    return [None if part is None else opened(keys, seq, at, part, subject, day) for at, part in enumerate(parts)]


def opened(
    keys: ContentKeys, seq: int, at: int, sealed: bytes, subject: bytes | None, day: bytes | None
) -> bytes | None:
    """Return the part `at` (of salt, text, answer and reference) of a row; None where a key of it was destroyed.

    Raises ArtifactDamaged where it was altered.
    """
    return keys.opened(seal_of_row(subject, day), place(seq, at), sealed)


def seal_of_row(subject: bytes | None, day: bytes | None) -> Seal:
    """Return the seal of a row, from its columns."""
    return tuple(bytes(each) for each in (subject, day) if each is not None)


def place(seq: int, at: int) -> bytes:
    """Return what a sealed part is bound to: its row and its column."""
    return b"contents" + seq.to_bytes(8, "big", signed=True) + bytes([at])


def _bytes(value: str | None) -> bytes | None:
    return None if value is None else value.encode("utf-8", "surrogatepass")
