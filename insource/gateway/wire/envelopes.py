"""Errors as the clients of each dialect expect them: OpenAI's envelope, and Anthropic's for its messages.

It adds nothing to an error's own words, and those never hold a request's text.
"""

from __future__ import annotations

from typing import Any

from insource.errors import InsourceError
from insource.gateway.wire.coding import encode, event

_ANTHROPIC = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""Anthropic's names by status (its API's "Errors" page); other 4xx are invalid_request_error, the rest api_error."""


def envelope(
    error: InsourceError, dialect: str = "chat", *, request_id: str | None = None, status: int | None = None
) -> bytes:
    """Return the error as the dialect's clients expect it; `status` is the one sent, by default the error's own."""
    message = f"{error} {error.hint}" if str(error) else error.hint
    code = status or error.status
    if dialect == "messages":
        kind = _ANTHROPIC.get(code, "invalid_request_error" if code < 500 else "api_error")
        told: dict[str, Any] = {"type": kind, "message": message, "code": error.code}
        return encode({"type": "error", "error": told, "request_id": request_id})
    kind = "invalid_request_error" if code < 500 and code != 429 else "insource_error"
    return encode({"error": {"message": message, "type": kind, "param": None, "code": error.code}})


def broken_off(error: InsourceError, dialect: str = "chat") -> bytes:
    """Return the event that tells a client, in the middle of a stream, why no more come.

    It begins with a blank line, since what came before may have ended within an event.
    """
    if dialect == "responses":
        told = {"type": "error", "code": error.code, "message": f"{error} {error.hint}", "param": None}
        return b"\n\n" + event({**told, "sequence_number": 0}, "error")
    head = b"\n\nevent: error\n" if dialect == "messages" else b"\n\n"
    return head + b"data: " + envelope(error, dialect) + b"\n\n"
