"""An artifact's table of contents: which files, how long, with which digest. The manifest's digest names the artifact.

It knows bytes and JSON; it does not know where artifacts lie.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

FORMAT = 1
NAME = "manifest.json"
LARGEST = 4 * 1024 * 1024


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file: its SHA-256 in hexadecimal, and its length in bytes."""

    sha256: str
    bytes: int


class Listing(msgspec.Struct, frozen=True):
    """The part of a manifest that this room reads; the rest belongs to whoever wrote it."""

    format: int
    kind: str
    files: dict[str, FileEntry]


def encode(manifest: Mapping[str, Any]) -> bytes:
    """Return the canonical bytes: JSON with sorted keys and no spaces, so that equal manifests have equal digests."""
    return msgspec.json.encode(manifest, order="sorted")


def decode(data: bytes) -> tuple[dict[str, Any], Listing]:
    """Return the whole manifest and its listing; ValueError where it is not a manifest of this format."""
    listing = msgspec.json.decode(data, type=Listing)
    if listing.format != FORMAT:
        raise ValueError(f"its format is {listing.format}, this insource reads format {FORMAT}")
    for name in listing.files:
        if not is_plain_name(name):
            raise ValueError(f"it names the file {name!r}, which is not a plain name within the folder")
    manifest: dict[str, Any] = msgspec.json.decode(data)
    return manifest, listing


def digest_of(data: bytes) -> str:
    """Return SHA-256 in 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def is_plain_name(name: str) -> bool:
    """Say whether `name` is one visible file directly in the folder, and not the manifest itself."""
    return bool(name) and name != NAME and not name.startswith(".") and "\0" not in name and Path(name).name == name


def is_digest(text: str) -> bool:
    """Say whether `text` is 64 hexadecimal digits in lower case."""
    return len(text) == 64 and set(text) <= set("0123456789abcdef")
