"""`/v1/chat/completions`: OpenAI's chat completions and their chunks.

Rendering is on the hot path: JSON is put together from constant parts, only what varies is encoded.
"""

from __future__ import annotations

from typing import Any

from insource.gateway.wire.coding import encode
from insource.gateway.wire.conversation import read_messages
from insource.types import Answer, Message, Request

_USAGE = b'{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}'
"""An accepted answer consumed no tokens anywhere, so zero is what it reports; nothing is estimated."""
_DONE = b"data: [DONE]\n\n"


def conversation(fields: dict[str, Any]) -> tuple[Message, ...]:
    """Take `messages` out of the fields; none at all where one is not as it should be."""
    return read_messages(fields.pop("messages", None)) or ()


def render(request: Request, answer: Answer, created: int, safe: tuple[str, ...]) -> list[bytes]:
    """Return one chat completion, or its chunks."""
    name, model, content = encode("chatcmpl-" + request.id), encode(request.model), encode(answer.content)
    if not request.stream:
        return [
            b'{"id":%b,"object":"chat.completion","created":%d,"model":%b,"choices":[{"index":0,"message":'
            b'{"role":"assistant","content":%b,"refusal":null,"annotations":[]},"logprobs":null,'
            b'"finish_reason":"stop"}],"usage":%b}' % (name, created, model, content, _USAGE)
        ]
    counted = usage_asked(request)
    head = b'data: {"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b' % (name, created, model)
    start = head + (b',"usage":null' if counted else b"") + b',"choices":[{"index":0,"delta":'
    events = [
        start + b'{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}\n\n',
        start + b'{"content":%b},"logprobs":null,"finish_reason":null}]}\n\n' % content,
        start + b'{},"logprobs":null,"finish_reason":"stop"}]}\n\n',
    ]
    if counted:
        events.append(head + b',"usage":%b,"choices":[]}\n\n' % _USAGE)
    return [*events, _DONE]


def usage_asked(request: Request) -> bool:
    """Say whether a stream is to end with its usage."""
    options = request.fields.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True
