"""What a logged request says in its wire format beyond plain messages: system prompts, inputs and headers.

It knows decoded JSON values and the dialects; no shape of a line, no line and no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from insource.traffic.fields import BadShape, kind_of

ASKED_FORMATS = ("response_format", "output_config", "output_format")
"""Where a body asks for a JSON schema; `text.format` apart, as `text` is a key of insource's own lines."""

_CREDENTIALS = frozenset({"authorization", "proxy-authorization", "x-api-key", "api-key", "cookie", "set-cookie"})
_TEXT_PARTS = ("input_text", "output_text")


def conversation_of(body: Mapping[str, Any]) -> Any:
    """Return the messages of a request's body, with the system prompt in front that some dialects keep apart.

    That is `system` of /v1/messages and `instructions` of /v1/responses, whose messages are its `input`.
    """
    messages, system = body.get("messages"), body.get("system")
    if messages is None and "input" in body:
        messages, system = _input_of(body["input"]), body.get("instructions")
    if not isinstance(system, str | list) or not system or messages is None:
        return messages
    rest = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
    return [{"role": "system", "content": system}, *rest] if isinstance(rest, list) else rest


def headers_of(value: Any) -> dict[str, str]:
    """Return logged headers by name in small letters, without credentials; raise BadShape where they are no object."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadShape(f"'headers' is {kind_of(value)}; an object of names and texts was expected")
    named = {name.lower(): text for name, text in value.items() if isinstance(text, str)}
    return {name: text for name, text in named.items() if name not in _CREDENTIALS}


def _input_of(value: Any) -> Any:
    """Return the input of /v1/responses with its parts of text named as everywhere else."""
    if not isinstance(value, list):
        return value
    return [{**item, "content": _parts_of(item.get("content"))} if isinstance(item, dict) else item for item in value]


def _parts_of(content: Any) -> Any:
    if not isinstance(content, list):
        return content
    return [
        {**part, "type": "text"} if isinstance(part, dict) and part.get("type") in _TEXT_PARTS else part
        for part in content
    ]
