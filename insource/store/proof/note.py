"""Checkpoints as signed notes (C2SP tlog-checkpoint, signed-note): origin, size and root, signed with Ed25519.

It knows the text and the key's forms; it does not know where either is kept, nor whether it should be signed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Self

from insource.errors import StoreError

ED25519 = b"\x01"
_MARK = "\u2014 "
PRIVATE = "PRIVATE+KEY"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The tree of one log at one size."""

    origin: str
    size: int
    root: bytes

    def body(self) -> str:
        """Return the text that is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @classmethod
    def read(cls, note: str) -> Self:
        """Read a note's text without looking at its signatures; StoreError for what is no checkpoint."""
        try:
            origin, size, root, *_ = note.split("\n")
            found = cls(origin, int(size), _decoded(root))
        except (ValueError, binascii.Error) as error:
            raise _no_checkpoint(note) from error
        if not origin or found.size < 0 or len(found.root) != 32 or not note.startswith(found.body() + "\n"):
            raise _no_checkpoint(note)
        return found


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that checks notes: a name, and 32 bytes of Ed25519."""

    name: str
    key: bytes

    @property
    def id(self) -> bytes:
        """The four bytes by which a signature names its key."""
        return hashlib.sha256(self.name.encode() + b"\n" + ED25519 + self.key).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(ED25519 + self.key).decode()}"

    @classmethod
    def read(cls, text: str) -> Self:
        """Read NAME+ID+KEY; StoreError where it is none, or the id is another key's."""
        try:
            name, id_, data = text.strip().split("+", 2)
            raw = _decoded(data)
        except (ValueError, binascii.Error) as error:
            raise _no_key(text) from error
        found = cls(name, raw[1:])
        if not name or raw[:1] != ED25519 or len(raw) != 33 or found.id.hex() != id_:
            raise _no_key(text)
        return found

    def signed(self, note: str) -> bool:
        """Say whether the note carries this key's signature."""
        body, _, signatures = note.partition("\n\n")
        for line in signatures.split("\n"):
            if line.startswith(f"{_MARK}{self.name} "):
                try:
                    data = _decoded(line.rpartition(" ")[2])
                except (ValueError, binascii.Error):
                    continue
                if data[:4] == self.id and _verified(self.key, data[4:], (body + "\n").encode()):
                    return True
        return False


@dataclass(frozen=True, slots=True, repr=False)
class PrivateKey:
    """A key that signs: a name, and a seed of 32 bytes. It is never shown."""

    name: str
    seed: bytes

    def public(self) -> PublicKey:
        """Return the key that checks what this one signs."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return PublicKey(self.name, Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw())

    def sign(self, body: str) -> str:
        """Return the note: the text, an empty line, and the signature's line."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        signature = Ed25519PrivateKey.from_private_bytes(self.seed).sign(body.encode())
        line = base64.b64encode(self.public().id + signature).decode()
        return f"{body}\n{_MARK}{self.name} {line}\n"

    def text(self) -> str:
        """Return what a key file holds."""
        data = base64.b64encode(ED25519 + self.seed).decode()
        return f"{PRIVATE}+{self.name}+{self.public().id.hex()}+{data}\n"

    @classmethod
    def read(cls, text: str) -> Self:
        """Read a key file; StoreError, without the text, where it is none."""
        try:
            *kind, name, _, data = text.strip().split("+", 4)
            raw = _decoded(data)
        except (ValueError, binascii.Error):
            raise StoreError(_DAMAGED_KEY) from None
        if "+".join(kind) != PRIVATE or raw[:1] != ED25519 or len(raw) != 33:
            raise StoreError(_DAMAGED_KEY)
        return cls(name, raw[1:])


_DAMAGED_KEY = (
    "The file of the proof's private key holds no key; PRIVATE+KEY+NAME+ID+KEY was expected. "
    "Restore it from a backup, or run `insource audit reconcile` to begin with a new one."
)


def _decoded(text: str) -> bytes:
    """Return what base64 stands for; ValueError for what it is not written as.

    Bits that the last character has to spare must be zero (RFC 4648, section 3.5), else its change would go unnoticed.
    """
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data).decode() != text:
        raise ValueError("base64 that is not canonical")
    return data


def _verified(key: bytes, signature: bytes, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _no_checkpoint(note: str) -> StoreError:
    return StoreError(
        f"{note[:60]!r} is no checkpoint; an origin, a size and a root on lines of their own, and a signature, were "
        "expected. Give the file that `insource audit checkpoint --out FILE` wrote, unchanged."
    )


def _no_key(text: str) -> StoreError:
    return StoreError(f"{text[:60]!r} is no public key; NAME+ID+KEY was expected. `insource audit key` prints it.")
