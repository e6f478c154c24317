"""Whether a request's method and path stay inside the upstream's API, however they are disguised.

It knows no upstream: where that lies is the configuration's word alone (CVE-2024-6587: a caller named the address).
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import unquote_to_bytes

from insource.errors import RequestError

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_PLAIN = re.compile(r"/v1/[A-Za-z0-9_/-]+")
_TARGET = re.compile(r"/v1/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*(?:\?[!$-~]*)?")
_DECODINGS = 4


def check_destination(method: str, path: str) -> None:
    """Raise RequestError for a path outside /v1/, in whatever disguise, or a method that is none of an API's."""
    if method not in METHODS:
        raise RequestError(f"The method {method[:20]!r} was used; one of {', '.join(sorted(METHODS))} was expected. "
                           "Correct the method.")  # fmt: skip
    if not _PLAIN.fullmatch(path) and not _stays_inside(path):
        shown = path.split("?", 1)[0][:80]
        raise RequestError(f"The path {shown!r} was asked for; one under /v1/ was expected. Correct the path.")


def _stays_inside(target: str) -> bool:
    """Follow a path through as many decodings as a careless server might do; none may climb or break a line."""
    if not _TARGET.fullmatch(target):
        return False
    path = target.split("?", 1)[0]
    for _ in range(_DECODINGS):
        if not _is_tame(path):
            return False
        try:
            decoded = unquote_to_bytes(path).decode("utf-8")
        except UnicodeDecodeError:
            return False
        if decoded == path:
            return True
        path = decoded
    return False


def _is_tame(path: str) -> bool:
    """Say whether a path has no backslash, no control character, and no segment that climbs ("..;x" does, too)."""
    folded = unicodedata.normalize("NFKC", path)
    if "\\" in folded or not all(character.isprintable() for character in folded):
        return False
    return not any(segment.split(";", 1)[0].strip() in (".", "..") for segment in folded.split("/"))
