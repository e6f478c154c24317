"""The OpenAI wire format: a body read into a Request, an accepted answer rendered, an error in the envelope.

It knows no sockets. Fields it does not know stay in the Request and in the bytes to forward.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from insource.errors import InsourceError, RequestError
from insource.types import Answer, Message, Request

Headers = list[tuple[bytes, bytes]]

JSON: tuple[bytes, bytes] = (b"content-type", b"application/json")
EVENTS: Headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
NO_USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
"""An accepted answer consumed no tokens anywhere, so zero is what it reports; nothing is estimated."""

_DECODER = msgspec.json.Decoder()
_ENCODER = msgspec.json.Encoder()


def read_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the headers by lower-case name; a repeated one is joined by commas (cookies by semicolons)."""
    headers: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        if key in headers:
            text = headers[key] + ("; " if key == "cookie" else ", ") + text
        headers[key] = text
    return headers


def read_completion(request_id: str, body: bytes, headers: Mapping[str, str], path: str) -> Request:
    """Read a chat completion's body; raise RequestError where it is no JSON object.

    Beyond that nothing is checked: what only the upstream can judge is left to it.
    """
    try:
        fields = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"The body is not valid JSON ({_brief(error)}). Send a chat completion request.") from error
    if not isinstance(fields, dict):
        raise RequestError(f"The body is a JSON {type(fields).__name__}; an object was expected. Send an object.")
    model = fields.pop("model", None)
    return Request(
        id=request_id,
        messages=_messages(fields.pop("messages", None)),
        model=model if isinstance(model, str) else "",
        fields=fields,
        headers=headers,
        body=body,
        path=path,
        stream=fields.get("stream") is True,
    )


def render(request: Request, answer: Answer, created: int) -> list[bytes]:
    """Return the bodies to send for an accepted answer: one JSON object, or the events of a stream."""
    card: dict[str, Any] = {"id": f"chatcmpl-{request.id}", "object": "chat.completion", "created": created}
    card["model"] = request.model
    if not request.stream:
        message: dict[str, Any] = {"role": "assistant", "content": answer.content, "refusal": None, "annotations": []}
        card["choices"] = [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}]
        return [_ENCODER.encode({**card, "usage": NO_USAGE})]
    card["object"] = "chat.completion.chunk"
    options = request.fields.get("stream_options")
    counted = isinstance(options, dict) and options.get("include_usage") is True
    if counted:
        card["usage"] = None
    events = [
        _event(card, [_delta({"role": "assistant", "content": ""}, None)]),
        _event(card, [_delta({"content": answer.content}, None)]),
        _event(card, [_delta({}, "stop")]),
    ]
    if counted:
        events.append(_event({**card, "usage": NO_USAGE}, []))
    return [*events, b"data: [DONE]\n\n"]


def envelope(error: InsourceError) -> bytes:
    """Return the error as OpenAI's clients expect it."""
    message = f"{error} {error.hint}" if str(error) else error.hint
    kind = "invalid_request_error" if error.status < 500 and error.status != 429 else "insource_error"
    return _ENCODER.encode({"error": {"message": message, "type": kind, "param": None, "code": error.code}})


def encode(value: Any) -> bytes:
    """Return the value as JSON."""
    return _ENCODER.encode(value)


def decode(body: bytes) -> Any:
    """Return the JSON value of a body; raises msgspec.DecodeError."""
    return _DECODER.decode(body)


def _messages(value: Any) -> tuple[Message, ...]:
    """Read the messages; none at all where one is not as it should be, so that no specialist sees a part of them."""
    if not isinstance(value, list):
        return ()
    messages: list[Message] = []
    for item in value:
        role = item.get("role") if isinstance(item, dict) else None
        content = item.get("content") if isinstance(item, dict) else None
        if isinstance(content, list) and all(isinstance(part, dict) for part in content):
            content = tuple(content)
        elif content is not None and not isinstance(content, str):
            return ()
        if not isinstance(role, str):
            return ()
        messages.append(Message(role, content))
    return tuple(messages)


def _delta(delta: dict[str, Any], finish: str | None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}


def _event(card: dict[str, Any], choices: list[dict[str, Any]]) -> bytes:
    return b"data: " + _ENCODER.encode({**card, "choices": choices}) + b"\n\n"


def _brief(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)[:120]
