"""The JSON schema that a request asks its answer to have: its name and its digest, in every dialect.

It knows where each wire format puts the schema; not which task the schema belongs to.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from insource.types import Request

DIGEST_PREFIX = "sha256:"


class Schema(NamedTuple):
    """The name, where the dialect has one, and the schema itself."""

    name: str | None
    schema: Mapping[str, Any] | None


def schema_of(request: Request) -> Schema | None:
    """Return the JSON schema that a request asks for, None where it asks for none.

    It stands in response_format.json_schema (chat), text.format (responses) or output_config.format, formerly
    output_format (messages, which names none).
    """
    fields = request.fields
    if not fields:
        return None
    chat = _object(fields.get("response_format"))
    if chat is not None:
        return _read(_object(chat.get("json_schema")), chat)
    for place in ("text", "output_config"):
        inner = _object(fields.get(place))
        wanted = _object(inner.get("format")) if inner is not None else None
        if wanted is not None:
            return _read(wanted, wanted)
    older = _object(fields.get("output_format"))
    return _read(older, older) if older is not None else None


def digest(schema: Mapping[str, Any]) -> str | None:
    """Return "sha256:" and the SHA-256, in hex, of a schema's canonical JSON; None where it is nested too deeply.

    Canonical is json.dumps(schema, sort_keys=True, separators=(",", ":"), ensure_ascii=False) in UTF-8.
    """
    try:
        text = json.dumps(schema, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    except RecursionError:
        return None
    return DIGEST_PREFIX + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _read(holder: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> Schema | None:
    if holder is None or wanted.get("type") != "json_schema":
        return None
    name = holder.get("name")
    return Schema(name if isinstance(name, str) and name else None, _object(holder.get("schema")))


def _object(value: Any) -> Mapping[str, Any] | None:
    return value if isinstance(value, Mapping) else None
