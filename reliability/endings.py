"""How a reply ended that met a fault, and whether a client can tell: the ways that count as typed, and what is none.

It knows replies and what upstreams meant to say; it knows no fault and no time.
"""

from __future__ import annotations

import json
from collections.abc import Set

from reliability.faults import STRAY, Whole
from reliability.raw_http import Reply

CODES = frozenset({"upstream_unreachable", "upstream_timeout", "upstream_failed", "upstream_resting"})
BY_A_STRAY = "answered with a stray reply"
"""An upstream's second reply to one request, taken for the reply to the next on its connection; HTTP/1.1 has no ids."""


def ending(reply: Reply, upstream: str, meant: Set[Whole], spare: Set[Whole]) -> tuple[str, str]:
    """Return how a reply ended, and what is wrong with that, "" for nothing.

    `meant` are the whole replies that the upstream gave, `spare` those of the fallback.
    """
    said, served = (reply.status, reply.body), served_by(reply)
    if not reply.status:
        return "nothing", "the connection ended without a reply"
    if not reply.whole:
        streams = reply.headers.get("content-type", "").startswith("text/event-stream")
        return "broken off", "a stream that ends without a word" if streams else ""
    if served == "spare":
        return "fallbacks", "" if said in spare else "another body than the fallback's"
    if served == upstream:
        if said in meant:
            return "relayed", ""
        if said == (200, STRAY):
            return BY_A_STRAY, ""
        return "told in the stream", "" if _last_code(reply.body) in CODES else "a whole reply that nobody sent"
    code = _code(reply.body)
    return "typed errors", "" if code in CODES and reply.status >= 500 else f"code {code!r}"


def served_by(reply: Reply) -> str:
    """Return who served a reply, by its header."""
    return reply.headers.get("x-insource-served-by", "")


def _last_code(body: bytes) -> str:
    """Return the code in a stream's last event."""
    last = body.rstrip().rpartition(b"\n\n")[2]
    return _code(last.partition(b"data: ")[2])


def _code(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return ""
