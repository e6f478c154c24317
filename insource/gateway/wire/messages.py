"""`/v1/messages`: Anthropic's messages and their events.

A conversation that ends with the assistant asks for its continuation ("prefill"); that is left to the upstream.
"""

from __future__ import annotations

from typing import Any

from insource.gateway.wire.coding import encode, event
from insource.gateway.wire.conversation import read_messages
from insource.types import Answer, Message, Request

_USAGE = {"input_tokens": 0, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 0}


def conversation(fields: dict[str, Any]) -> tuple[Message, ...]:
    """Take `system` and `messages` out of the fields; what is odd, or a prefill, stays."""
    system = _system(fields)
    messages = read_messages(fields.get("messages"))
    if messages is None:
        return system
    if not messages or messages[-1].role != "assistant":
        del fields["messages"]
    return system + messages


def render(request: Request, answer: Answer, created: int, safe: tuple[str, ...]) -> list[bytes]:
    """Return one message, or the events that build it."""
    text = answer.content or ""
    card: dict[str, Any] = {"id": f"msg_{request.id}", "type": "message", "role": "assistant", "model": request.model}
    if not request.stream:
        end = {"stop_reason": "end_turn", "stop_sequence": None, "usage": _USAGE}
        return [encode({**card, "content": [{"type": "text", "text": text}], **end})]
    start = {**card, "content": [], "stop_reason": None, "stop_sequence": None, "usage": _USAGE}
    steps: list[dict[str, Any]] = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": _USAGE},
        {"type": "message_stop"},
    ]
    return [event(step, step["type"]) for step in steps]


def _system(fields: dict[str, Any]) -> tuple[Message, ...]:
    """Take the system prompt out of the fields, a text or a list of blocks."""
    value = fields.get("system")
    if isinstance(value, list) and value and all(isinstance(block, dict) for block in value):
        value = tuple(value)
    elif not isinstance(value, str):
        return ()
    del fields["system"]
    return (Message("system", value),)
