"""Bytes to values and back: JSON, headers, server-sent events.

It knows no dialect, and what it says of a body never quotes the body.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec

from insource.errors import RequestError

Headers = list[tuple[bytes, bytes]]

JSON: tuple[bytes, bytes] = (b"content-type", b"application/json")
EVENTS: Headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]

_DECODER = msgspec.json.Decoder()
_ENCODER = msgspec.json.Encoder()

encode = _ENCODER.encode
"""Return a value as JSON, in bytes."""
decode = _DECODER.decode
"""Return the JSON value of a body; raises msgspec.DecodeError, or UnicodeDecodeError."""


def read_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the headers by lower-case name; a repeated one is joined by commas (cookies by semicolons)."""
    headers: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        if key in headers:
            text = headers[key] + ("; " if key == "cookie" else ", ") + text
        headers[key] = text
    return headers


def read_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a body; raise RequestError where it is none."""
    try:
        fields = decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        fields = _mended(body, error)
    if not isinstance(fields, dict):
        raise RequestError(f"The body is a JSON {type(fields).__name__}; an object was expected. Send an object.")
    return fields


def event(value: Any, name: str | None = None) -> bytes:
    """Return a server-sent event that holds a value as JSON, with an `event:` line where it has a name."""
    data = b"data: " + encode(value) + b"\n\n"
    return data if name is None else b"event: " + name.encode() + b"\n" + data


def _mended(body: bytes, first: Exception) -> Any:
    r"""Read what msgspec refuses though an API may take it: half a surrogate pair ("\ud83d"), read as "?".

    The bytes to forward stay as they are.
    """
    try:
        loaded = json.loads(body.decode(), parse_constant=_no_number)
        return decode(json.dumps(loaded, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):  # msgspec's errors and Unicode's are ValueErrors
        raise RequestError(f"The body is not valid JSON ({_where(first)}). Send a JSON object.") from first


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _where(error: Exception) -> str:
    """Say what is wrong and at which byte; msgspec's messages name no more than that."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"no UTF-8 (byte {error.start})"
    return str(error)[:120]
