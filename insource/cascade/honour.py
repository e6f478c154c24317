"""Whether a closed-set specialist can honour every field that a request sets; if not, the request goes up.

Fields are checked before the specialist is asked; what depends on the answer itself (length, stop, format) after.
A field nobody knows is never ignored: the upstream may give it a meaning. The fields stand in `honoured`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from insource.cascade.honoured import HONOURED, NAMED, NOTHING

CHARACTERS_PER_TOKEN = 4
"""The documented estimate where no tokenizer is at hand; used only to see whether an answer fits `max_tokens`."""
UNNAMED = "a field that no API is known to have"


def unsupported(fields: Mapping[str, Any], dialect: str = "chat") -> str | None:
    """Return the first field that no closed-set specialist can honour, or None; null counts as not set.

    A dialect that no specialist answers in (embeddings) honours none.
    """
    honoured = HONOURED.get(dialect, NOTHING)
    for name, value in fields.items():
        if value is None or name in honoured.always:
            continue
        within = honoured.within.get(name)
        if within is None or not within(value):
            return name
    return None


def told(field: str) -> str:
    """Return a field's name as it may be written down: a name that no API has may hold a word of the request."""
    return field if field in NAMED else UNNAMED


def unfit(fields: Mapping[str, Any], content: str, dialect: str = "chat") -> str | None:
    """Return the field under which the upstream's reply could not be this content, or None.

    The limit on tokens is compared with an estimate of four characters a token; a stop sequence must not occur in the
    content; a JSON format needs a JSON object, and a JSON schema its top-level keys and enumerations.
    """
    honoured = HONOURED.get(dialect, NOTHING)
    for name, unset in honoured.limits.items():
        limit = fields.get(name)
        if limit is None:
            limit = unset
        if limit is not None and not _fits(limit, content):
            return name
    for name in honoured.stops:
        stop = fields.get(name)
        if stop is not None and not _unstopped(stop, content):
            return name
    for name, find in honoured.forms.items():
        form = find(fields[name]) if fields.get(name) is not None else None
        if form is not None and not _formed(form, content):
            return name
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
    return kind == "json_object" or _conforms(form, value)


def _conforms(form: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    wrapper = form.get("json_schema", form)  # chat wraps the schema; responses and messages do not
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
