"""`/v1/completions`: OpenAI's older text completions and their chunks.

A prompt of token numbers, or several prompts, is no conversation and stays where it was, for the upstream.
"""

from __future__ import annotations

from typing import Any

from insource.gateway.wire.chat import usage_asked
from insource.gateway.wire.coding import encode, event
from insource.gateway.wire.conversation import one_text
from insource.types import Answer, Message, Request

_USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


def conversation(fields: dict[str, Any]) -> tuple[Message, ...]:
    """Take a `prompt` of one text out of the fields, as the user's message."""
    text = one_text(fields.get("prompt"))
    if text is None:
        return ()
    del fields["prompt"]
    return (Message("user", text),)


def render(request: Request, answer: Answer, created: int, safe: tuple[str, ...]) -> list[bytes]:
    """Return one text completion, or its chunks."""
    card = {"id": f"cmpl-{request.id}", "object": "text_completion", "created": created, "model": request.model}
    if not request.stream:
        return [encode({**card, "choices": [_choice(answer.content)], "usage": _USAGE})]
    counted = usage_asked(request)
    null = {"usage": None} if counted else {}
    events = [event({**card, "choices": [_choice(answer.content)], **null})]
    if counted:
        events.append(event({**card, "choices": [], "usage": _USAGE}))
    return [*events, b"data: [DONE]\n\n"]


def _choice(text: str | None) -> dict[str, Any]:
    """Return the whole text as one choice; a chunk has the same form, and its type knows no end without a reason."""
    return {"text": text, "index": 0, "logprobs": None, "finish_reason": "stop"}
