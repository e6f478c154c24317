"""What the dialects' ways of writing a conversation have in common: roles with text, or with a list of parts.

It knows no field's name but role and content. What it cannot read it does not guess at.
"""

from __future__ import annotations

from typing import Any

from insource.types import Message


def read_messages(value: Any) -> tuple[Message, ...] | None:
    """Read a list of messages; None where one is not as it should be, so that no specialist sees a part of them."""
    if not isinstance(value, list):
        return None
    messages: list[Message] = []
    for item in value:
        if not isinstance(item, dict):
            return None
        role, content = item.get("role"), item.get("content")
        if isinstance(content, list) and all(isinstance(part, dict) for part in content):
            content = tuple(content)
        elif content is not None and not isinstance(content, str):
            return None
        if not isinstance(role, str):
            return None
        messages.append(Message(role, content))
    return tuple(messages)


def one_text(value: Any) -> str | None:
    """Return the text of a string, or of a list of one string; None for all else."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, str) else None
