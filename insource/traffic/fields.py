"""Single fields of a traffic line: times, replies, usage, messages, checked one by one.

It knows decoded JSON values; no shape, no line and no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from insource.types import Message, Usage


class BadShape(Exception):
    """A line that cannot be read; the message is the reason for its report. It never leaves this room."""


_KINDS = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}


def kind_of(value: Any) -> str:
    """Name the kind of a decoded JSON value, with its article."""
    return _KINDS.get(type(value), "a number")


def object_of(value: Any, name: str) -> dict[str, Any]:
    """Return a JSON object; raise BadShape where it is something else."""
    if not isinstance(value, dict):
        raise BadShape(f"'{name}' is {kind_of(value)}; an object was expected")
    return value


def messages_of(value: Any) -> tuple[Message, ...]:
    """Return the conversation: text is one message of the user, a list holds messages with role and content."""
    if isinstance(value, str):
        return (Message("user", value),)
    if not isinstance(value, list):
        raise BadShape("no text" if value is None else f"the messages are {kind_of(value)}; a list was expected")
    if not value:
        raise BadShape("no text: the list of messages is empty")
    return tuple([_message_of(item) for item in value])


def _message_of(value: Any) -> Message:
    if not isinstance(value, dict):
        raise BadShape(f"a message is {kind_of(value)}; an object with role and content was expected")
    role, content = value.get("role"), value.get("content")
    if not isinstance(role, str) or not role:
        raise BadShape("a message has no role; 'system', 'user' or 'assistant' was expected")
    if isinstance(content, list):
        if not all(isinstance(part, dict) for part in content):
            raise BadShape("a message's content has a part that is not an object")
        return Message(role, tuple(content))
    if content is not None and not isinstance(content, str):
        raise BadShape(f"a message's content is {kind_of(content)}; text or a list of parts was expected")
    return Message(role, content)


def paired(text: str, context: Any) -> str:
    """Return what the user's message says of a text and its context: a line for each, as of a template's two slots.

    Raises BadShape where the context is no text.
    """
    if not isinstance(context, str):
        raise BadShape(f"'context' is {kind_of(context)}; text was expected")
    return f"{text}\n{context}"


def answer_of(value: Any) -> str | None:
    """Return an answer as the text the teacher would have sent; None where it is null or blank.

    Text stays as it is; an object or a list becomes compact JSON with its keys in their order, a number or a truth
    value its JSON text.
    """
    if isinstance(value, str):
        return value if value and not value.isspace() else None
    return None if value is None else msgspec.json.encode(value).decode()


def name_of(value: Any, key: str) -> str | None:
    """Return a name; a whole number counts as one. Raises BadShape for anything else but null."""
    if value is None or isinstance(value, str):
        return value or None
    if type(value) is int:
        return str(value)
    raise BadShape(f"'{key}' is {kind_of(value)}; a name was expected")


def reply_of(response: Any) -> Any:
    """Return the content of a reply: of a chat completion, of its message, or the text itself; None where none."""
    if not isinstance(response, dict):
        return response
    choices = response.get("choices")
    if isinstance(choices, list):
        first = choices[0] if choices and isinstance(choices[0], dict) else {}
        message = first.get("message")
        return _content_of(message.get("content") if isinstance(message, dict) else first.get("text"))
    if isinstance(response.get("message"), dict):
        return _content_of(response["message"].get("content"))
    if isinstance(response.get("output"), list) and response.get("object") == "response":
        items = [item for item in response["output"] if isinstance(item, dict) and item.get("type") == "message"]
        return _content_of([part for item in items for part in item.get("content") or () if isinstance(part, dict)])
    if "content" in response and ("role" in response or len(response) == 1):
        return _content_of(response["content"])
    return response if response and not response.get("error") else None


def _content_of(content: Any) -> Any:
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        texts = [part.get("text") for part in content]
        return "".join(text for text in texts if isinstance(text, str)) or None
    return content


def unpacked(value: Any) -> Any:
    """Return a conversation or a reply that an export wrote as JSON text; anything else as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[")):
        return value
    try:
        inner = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return value
    first = inner[0] if isinstance(inner, list) and inner else inner
    known = isinstance(first, dict) and not {"role", "messages", "choices"}.isdisjoint(first)
    return inner if known else value


_TOKENS = (
    ("prompt_tokens", "completion_tokens"),
    ("input_tokens", "output_tokens"),
    ("promptTokens", "completionTokens"),
    ("input", "output"),
)


def usage_of(reply: Any) -> Usage | None:
    """Return the tokens a reply used, by OpenAI's, Anthropic's or Langfuse's names; None where they are not told."""
    found = reply.get("usage") if isinstance(reply, Mapping) else None
    found = found if isinstance(found, Mapping) else reply
    if not isinstance(found, Mapping):
        return None
    for names in _TOKENS:
        counts: list[Any] = [found.get(name) for name in names]
        if all(type(count) is int and count >= 0 for count in counts):
            return Usage(*counts)
    return None


def time_of(value: Any) -> datetime | None:
    """Return an ISO 8601 time, or a number of seconds (or milli-, micro-, nanoseconds) since 1970, as UTC.

    A time without a zone counts as UTC. Raises BadShape for anything else but null.
    """
    if value is None or value == "":
        return None
    try:
        if isinstance(value, str):
            return _parsed(value)
        if type(value) in (int, float):
            return _since_1970(float(value))
    except (ValueError, OverflowError, OSError):
        pass
    shown = repr(value) if isinstance(value, (int, float)) else repr(str(value)[:40])
    raise BadShape(f"the time {shown} is neither ISO 8601 nor seconds since 1970")


def _parsed(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return _since_1970(float(text))
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _since_1970(number: float) -> datetime:
    size = abs(number)
    scale = 1 if size < 1e11 else 1e3 if size < 1e14 else 1e6 if size < 1e17 else 1e9
    return datetime.fromtimestamp(number / scale, UTC)
