"""The table of dialects: which path speaks which, and how each is read and rendered.

It knows no field but `model` and `stream`, which all have in common.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import insource.gateway.wire.chat as chat
import insource.gateway.wire.completions as completions
import insource.gateway.wire.messages as messages
import insource.gateway.wire.moderations as moderations
import insource.gateway.wire.responses as responses
from insource.gateway.wire.coding import read_object
from insource.types import Answer, Message, Request

DIALECTS: Mapping[str, str] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/responses": "responses",
    "/v1/embeddings": "embeddings",
    "/v1/moderations": "moderations",
    "/v1/messages": "messages",
}
"""The dialect of each path that a body is read of; every other path is passed on unread."""

_CONVERSATIONS: Mapping[str, Callable[[dict[str, Any]], tuple[Message, ...]]] = {
    "chat": chat.conversation,
    "completions": completions.conversation,
    "responses": responses.conversation,
    "embeddings": lambda fields: (),
    "moderations": moderations.conversation,
    "messages": messages.conversation,
}
_RENDERERS: Mapping[str, Callable[[Request, Answer, int, tuple[str, ...]], list[bytes]]] = {
    "chat": chat.render,
    "completions": completions.render,
    "responses": responses.render,
    "moderations": moderations.render,
    "messages": messages.render,
}
_STREAMING = frozenset({"chat", "completions", "responses", "messages"})


def read(dialect: str, request_id: str, body: bytes, headers: Mapping[str, str], path: str) -> Request:
    """Read a body of one of the dialects; raise RequestError where it is no JSON object.

    Beyond that nothing is checked: what only the upstream can judge is left to it. What makes up the conversation
    leaves the fields for the messages; where it cannot be read as one it stays, and no specialist can honour it.
    """
    fields = read_object(body)
    model = fields.pop("model", None)
    conversation = _CONVERSATIONS[dialect](fields)
    return Request(
        id=request_id,
        messages=conversation,
        model=model if isinstance(model, str) else "",
        fields=fields,
        headers=headers,
        body=body,
        path=path,
        stream=fields.get("stream") is True and dialect in _STREAMING,
        dialect=dialect,
    )


def render(request: Request, answer: Answer, created: int, safe: tuple[str, ...] = ()) -> list[bytes]:
    """Return the bodies to send for an accepted answer: one JSON object, or the events of a stream.

    `created` is in seconds of Unix time; `safe` are the task's answers that flag nothing (a moderation). Usage is zero
    everywhere: no tokens were consumed.
    """
    return _RENDERERS[request.dialect](request, answer, created, safe)
