"""Whether a closed-set specialist can honour every field that a request sets; if not, the request goes up.

Fields are checked before the specialist is asked; what depends on the answer itself (length, stop, format) after.
A field nobody knows is never ignored: the upstream may give it a meaning.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

CHARACTERS_PER_TOKEN = 4
"""The documented estimate where no tokenizer is at hand; used only to see whether an answer fits `max_tokens`."""

_ALWAYS = frozenset(
    """model messages temperature top_p seed max_tokens max_completion_tokens stream stream_options user metadata
    store stop presence_penalty frequency_penalty response_format service_tier reasoning_effort verbosity
    safety_identifier prompt_cache_key prompt_cache_retention parallel_tool_calls""".split()
)

_WITHIN: Mapping[str, Callable[[Any], bool]] = {
    "n": lambda value: type(value) is int and value == 1,
    "tools": lambda value: value == [],
    "functions": lambda value: value == [],
    "tool_choice": lambda value: value in ("none", "auto"),
    "function_call": lambda value: value in ("none", "auto"),
    "logprobs": lambda value: value is False,
    "top_logprobs": lambda value: type(value) is int and value == 0,
    "logit_bias": lambda value: value == {},
    "modalities": lambda value: value == ["text"],
}


def unsupported(fields: Mapping[str, Any]) -> str | None:
    """Return the first field that no closed-set specialist can honour, or None; null counts as not set."""
    for name, value in fields.items():
        if value is None or name in _ALWAYS:
            continue
        within = _WITHIN.get(name)
        if within is None or not within(value):
            return name
    return None


def unfit(fields: Mapping[str, Any], content: str) -> str | None:
    """Return the field under which the upstream's reply could not be this content, or None.

    `max_tokens` is compared with an estimate of four characters a token; a stop sequence must not occur in the
    content; a JSON format needs a JSON object, and a JSON schema its top-level keys and enumerations.
    """
    for name in ("max_completion_tokens", "max_tokens"):
        limit = fields.get(name)
        if limit is not None and not _fits(limit, content):
            return name
    stop = fields.get("stop")
    if stop is not None and not _unstopped(stop, content):
        return "stop"
    form = fields.get("response_format")
    if form is not None and not _formed(form, content):
        return "response_format"
    return None


def _fits(limit: Any, content: str) -> bool:
    tokens = max(1, math.ceil(len(content) / CHARACTERS_PER_TOKEN))
    return type(limit) is int and limit >= tokens


def _unstopped(stop: Any, content: str) -> bool:
    sequences = [stop] if isinstance(stop, str) else stop
    if not isinstance(sequences, list) or not all(isinstance(sequence, str) for sequence in sequences):
        return False
    return not any(sequence and sequence in content for sequence in sequences)


def _formed(form: Any, content: str) -> bool:
    kind = form.get("type") if isinstance(form, Mapping) else None
    if kind == "text":
        return True
    if kind not in ("json_object", "json_schema"):
        return False
    try:
        value = json.loads(content)
    except ValueError:
        return False
    if not isinstance(value, dict):
        return False
    return kind == "json_object" or _conforms(form.get("json_schema"), value)


def _conforms(wrapper: Any, value: Mapping[str, Any]) -> bool:
    schema = wrapper.get("schema") if isinstance(wrapper, Mapping) else None
    if not isinstance(schema, Mapping) or not isinstance(schema.get("properties"), Mapping):
        return False
    properties = schema["properties"]
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(key in value for key in required if isinstance(key, str)):
        return False
    if not set(value) <= set(properties):
        return False
    return all(_allowed(properties[key], item) for key, item in value.items())


def _allowed(rule: Any, item: Any) -> bool:
    choices = rule.get("enum") if isinstance(rule, Mapping) else None
    return not isinstance(choices, list) or item in choices
