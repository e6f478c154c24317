"""What the scripted upstream says in each dialect: a recorded content as OpenAI's or Anthropic's API would write it.

It knows no HTTP, no latency and no fault. The gateway's own reading and rendering are not used here, so that each can
be tested against the other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from insource.types import Message, Usage

CREATED = 1700000000
MODEL = "scripted"
SAFE = "safe"
"""The recorded answer that flags nothing in a moderation; every other is a category."""


@dataclass(frozen=True, slots=True)
class Said:
    """One recorded reply: the digest of the request as its id, the model asked for, the content and its tokens."""

    digest: str
    model: str
    content: str
    usage: Usage
    fields: Mapping[str, Any]

    @property
    def pieces(self) -> list[str]:
        """The content in up to four pieces, as a stream gives it."""
        step = max(1, -(-len(self.content) // 4))
        return [self.content[at : at + step] for at in range(0, len(self.content), step)]

    @property
    def counted(self) -> bool:
        """Whether a stream is to end with its usage."""
        return bool((self.fields.get("stream_options") or {}).get("include_usage"))


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a conversation is read (raising KeyError, TypeError or ValueError) and a reply written, whole or streamed."""

    read: Callable[[Mapping[str, Any]], tuple[Message, ...]]
    whole: Callable[[Said], dict[str, Any]]
    events: Callable[[Said], Iterator[bytes]]


def _read_chat(fields: Mapping[str, Any]) -> tuple[Message, ...]:
    return tuple(_message(item["role"], item["content"]) for item in fields["messages"])


def _read_prompt(fields: Mapping[str, Any]) -> tuple[Message, ...]:
    prompt = fields["prompt"]
    (text,) = prompt if isinstance(prompt, list) else [prompt]
    return (_message("user", text),)


def _read_input(fields: Mapping[str, Any]) -> tuple[Message, ...]:
    given = fields["input"]
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if fields.get("instructions") is not None:
        items = [{"role": "system", "content": fields["instructions"]}, *items]
    return tuple(_message(item["role"], item["content"]) for item in items)


def _read_messages(fields: Mapping[str, Any]) -> tuple[Message, ...]:
    if type(fields["max_tokens"]) is not int:
        raise TypeError("max_tokens")
    system = fields.get("system")
    return (*([_message("system", system)] if system else []), *_read_chat(fields))


def _message(role: str, content: Any) -> Message:
    """Read text or parts; the text parts of every dialect become one kind."""
    if not isinstance(content, list):
        if content is not None and not isinstance(content, str):
            raise TypeError("content")
        return Message(role, content)
    parts = [{**part, "type": "text"} if part["type"] in ("input_text", "output_text") else part for part in content]
    return Message(role, tuple(parts))


def _chat(said: Said) -> dict[str, Any]:
    message = {"role": "assistant", "content": said.content, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    card = {"id": f"chatcmpl-{said.digest}", "object": "chat.completion", "created": CREATED, "model": said.model}
    return {**card, "choices": [choice], "usage": counts(said.usage)}


def _chat_events(said: Said) -> Iterator[bytes]:
    """Yield the role, the pieces, the end, the usage if asked for, and [DONE]."""
    deltas: list[tuple[dict[str, Any], str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": piece}, None) for piece in said.pieces] + [({}, "stop")]
    card = {"id": f"chatcmpl-{said.digest}", "object": "chat.completion.chunk", "created": CREATED, "model": said.model}
    for delta, finish in deltas:
        yield _event({**card, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
    if said.counted:
        yield _event({**card, "choices": [], "usage": counts(said.usage)})
    yield b"data: [DONE]\n\n"


def _completion(said: Said) -> dict[str, Any]:
    choice = {"index": 0, "text": said.content, "logprobs": None, "finish_reason": "stop"}
    card = {"id": f"cmpl-{said.digest}", "object": "text_completion", "created": CREATED, "model": said.model}
    return {**card, "choices": [choice], "usage": counts(said.usage)}


def _completion_events(said: Said) -> Iterator[bytes]:
    card = {"id": f"cmpl-{said.digest}", "object": "text_completion", "created": CREATED, "model": said.model}
    for text, finish in [*((piece, None) for piece in said.pieces), ("", "stop")]:
        yield _event({**card, "choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": finish}]})
    if said.counted:
        yield _event({**card, "choices": [], "usage": counts(said.usage)})
    yield b"data: [DONE]\n\n"


def _response(said: Said, status: str = "completed") -> dict[str, Any]:
    ended = status == "completed"
    usage = {
        "input_tokens": said.usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": said.usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": said.usage.prompt_tokens + said.usage.completion_tokens,
    }
    card = {"id": f"resp_{said.digest}", "object": "response", "created_at": CREATED, "status": status}
    card |= {"error": None, "incomplete_details": None, "instructions": said.fields.get("instructions"), "metadata": {}}
    card |= {"model": said.model, "output": [_item(said, said.content)] if ended else [], "tools": []}
    card |= {"parallel_tool_calls": True, "tool_choice": "auto", "temperature": 1.0, "top_p": 1.0, "store": False}
    return {**card, "usage": usage if ended else None}


def _item(said: Said, text: str | None) -> dict[str, Any]:
    card = {"id": f"msg_{said.digest}", "type": "message", "role": "assistant"}
    if text is None:
        return {**card, "status": "in_progress", "content": []}
    return {**card, "status": "completed", "content": [_part(text)]}


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


def _response_events(said: Said) -> Iterator[bytes]:
    at = {"item_id": f"msg_{said.digest}", "output_index": 0, "content_index": 0}
    steps: list[tuple[str, dict[str, Any]]] = [
        ("created", {"response": _response(said, "in_progress")}),
        ("in_progress", {"response": _response(said, "in_progress")}),
        ("output_item.added", {"output_index": 0, "item": _item(said, None)}),
        ("content_part.added", {**at, "part": _part("")}),
        *(("output_text.delta", {**at, "delta": piece, "logprobs": []}) for piece in said.pieces),
        ("output_text.done", {**at, "text": said.content, "logprobs": []}),
        ("content_part.done", {**at, "part": _part(said.content)}),
        ("output_item.done", {"output_index": 0, "item": _item(said, said.content)}),
        ("completed", {"response": _response(said)}),
    ]
    for number, (name, held) in enumerate(steps):
        yield _event({"type": f"response.{name}", **held, "sequence_number": number}, f"response.{name}")


def _anthropic(said: Said) -> dict[str, Any]:
    usage = {"input_tokens": said.usage.prompt_tokens, "output_tokens": said.usage.completion_tokens}
    card = {"id": f"msg_{said.digest}", "type": "message", "role": "assistant", "model": said.model}
    content = [{"type": "text", "text": said.content}]
    return {**card, "content": content, "stop_reason": "end_turn", "stop_sequence": None, "usage": usage}


def _anthropic_events(said: Said) -> Iterator[bytes]:
    usage = {"input_tokens": said.usage.prompt_tokens, "output_tokens": 1}
    start = {**_anthropic(said), "content": [], "stop_reason": None, "usage": usage}
    end = {"delta": {"stop_reason": "end_turn", "stop_sequence": None}}
    steps: list[dict[str, Any]] = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": p}} for p in said.pieces),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", **end, "usage": {"output_tokens": said.usage.completion_tokens}},
        {"type": "message_stop"},
    ]
    for step in steps:
        yield _event(step, step["type"])


DIALECTS: Mapping[str, Dialect] = {
    "/v1/chat/completions": Dialect(_read_chat, _chat, _chat_events),
    "/v1/completions": Dialect(_read_prompt, _completion, _completion_events),
    "/v1/responses": Dialect(_read_input, _response, _response_events),
    "/v1/messages": Dialect(_read_messages, _anthropic, _anthropic_events),
}


def moderated(content: str) -> dict[str, Any]:
    """Return one verdict of a moderation: the recorded answer as its category; where it is SAFE, nothing flagged."""
    held = {} if content == SAFE else {content: True}
    scores, types = dict.fromkeys(held, 1.0), {name: ["text"] for name in held}
    return {
        "flagged": bool(held),
        "categories": held,
        "category_scores": scores,
        "category_applied_input_types": types,
    }


def failure(path: str, status: int, code: str, message: str) -> dict[str, Any]:
    """Return an error as the API behind a path words it."""
    if not path.startswith("/v1/messages"):
        return {"error": {"message": message, "type": code, "param": None, "code": code}}
    kinds = {400: "invalid_request_error", 404: "not_found_error", 429: "rate_limit_error"}
    return {"type": "error", "error": {"type": kinds.get(status, "api_error"), "message": message}}


def counts(usage: Usage) -> dict[str, int]:
    """Return the tokens as OpenAI's completions name them."""
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _event(value: dict[str, Any], name: str | None = None) -> bytes:
    data = b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"
    return data if name is None else f"event: {name}\n".encode() + data
