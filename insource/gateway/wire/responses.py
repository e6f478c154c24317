"""`/v1/responses`: OpenAI's responses and their events.

Items that are no plain message (a tool's call, a file, a reference) become messages without text: system prompts still
match, and no specialist reads past them. Nothing is stored here, and the reply says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from insource.gateway.wire.coding import encode, event
from insource.types import Answer, Message, Request

_TEXTS = ("input_text", "output_text")
_USAGE = {
    "input_tokens": 0,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 0,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 0,
}
_ECHOED: Mapping[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": None,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}
"""Fields of a request that its response repeats, and what it says where they were not set."""


def conversation(fields: dict[str, Any]) -> tuple[Message, ...]:
    """Take `input` out of the fields, after `instructions` as the system prompt; an odd input stays."""
    given = fields.get("input")
    instructions = fields.get("instructions")
    system = (Message("system", instructions),) if isinstance(instructions, str) else ()
    if isinstance(given, str):
        del fields["input"]
        return (*system, Message("user", given))
    if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
        return system
    del fields["input"]
    return (*system, *(_message(item) for item in given))


def render(request: Request, answer: Answer, created: int, safe: tuple[str, ...]) -> list[bytes]:
    """Return one response, or the events that build it."""
    item_id, text = f"msg_{request.id}", answer.content or ""
    part = {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
    item = {"id": item_id, "type": "message", "status": "completed", "role": "assistant", "content": [part]}
    done = _card(request, created, "completed", [item])
    if not request.stream:
        return [encode(done)]
    begun = _card(request, created, "in_progress", [])
    at = {"item_id": item_id, "output_index": 0, "content_index": 0}
    empty = {**item, "status": "in_progress", "content": []}
    steps: list[tuple[str, dict[str, Any]]] = [
        ("response.created", {"response": begun}),
        ("response.in_progress", {"response": begun}),
        ("response.output_item.added", {"output_index": 0, "item": empty}),
        ("response.content_part.added", {**at, "part": {**part, "text": ""}}),
        ("response.output_text.delta", {**at, "delta": text, "logprobs": []}),
        ("response.output_text.done", {**at, "text": text, "logprobs": []}),
        ("response.content_part.done", {**at, "part": part}),
        ("response.output_item.done", {"output_index": 0, "item": item}),
        ("response.completed", {"response": done}),
    ]
    return [event({"type": name, "sequence_number": number, **held}, name) for number, (name, held) in enumerate(steps)]


def _message(item: dict[str, Any]) -> Message:
    """Read one item of an input; what is no plain message has no text."""
    role, content = item.get("role"), item.get("content")
    if item.get("type", "message") == "message" and isinstance(role, str):
        if isinstance(content, str):
            return Message(role, content)
        if isinstance(content, list) and all(isinstance(part, dict) for part in content):
            return Message(role, tuple(_part(part) for part in content))
    return Message("assistant" if item.get("type") == "reasoning" else "user", (item,))


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if part.get("type") in _TEXTS and isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    return part


def _card(request: Request, created: int, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
    fields = request.fields
    ended = status == "completed"
    card: dict[str, Any] = {
        "id": f"resp_{request.id}",
        "object": "response",
        "created_at": created,
        "status": status,
        "background": False,
        "completed_at": created if ended else None,
        "conversation": None,
        "error": None,
        "incomplete_details": None,
        "model": request.model,
        "output": output,
        "previous_response_id": None,
        "store": False,
        "usage": _USAGE if ended else None,
    }
    for name, unset in _ECHOED.items():
        value = fields.get(name)
        card[name] = unset if value is None else value
    return card
