"""What a relayed reply says in each dialect: text, tokens, whether it was complete; one JSON body, or event by event.

It reads the little it needs through typed decoders and knows no bytes but those of a JSON value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from insource.types import Usage

CUT = ("length", "max_tokens", "max_output_tokens")
"""The reasons for an end by which a dialect says that a limit on tokens cut the reply off."""


@dataclass(slots=True)
class Said:
    """What a reply has said so far; `text` is UTF-8, `spoke` says whether it held any, `ended` whether it is whole.

    `pieces` counts the texts that were not empty; `stale` says that something generated, text or not, has come since
    the tokens were last told.
    """

    text: bytearray = field(default_factory=bytearray)
    spoke: bool = False
    told: _Usage = field(default_factory=lambda: _Usage())
    ended: bool = False
    cut: bool = False
    failed: bool = False
    pieces: int = 0
    stale: bool = False

    def say(self, text: Any) -> None:
        """Add a piece of text; what is none is left out."""
        if isinstance(text, str):
            self.text += text.encode()
            self.spoke = True
            self.pieces += text != ""
            self.stale = self.stale or text != ""

    def count(self, usage: _Usage | None) -> None:
        """Take the token counts that are given; later ones replace earlier ones."""
        if usage is None:
            return
        for name in _Usage.__struct_fields__:
            if (tokens := getattr(usage, name)) is not None:
                setattr(self.told, name, tokens)
        if usage.completion is not None:
            self.stale = False

    def usage(self) -> Usage | None:
        """Return the tokens; None where they are unknown or no sensible numbers."""
        return usage_of(self.told.prompt, self.told.completion)


class _Usage(msgspec.Struct):
    """OpenAI's `prompt_tokens` and `input_tokens` hold those of the cache; Anthropic's come beside `input_tokens`."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None

    @property
    def prompt(self) -> int | None:
        """All tokens of the prompt, cached or not; -1 where one of the counts is below 0."""
        if self.prompt_tokens is not None or self.input_tokens is None:
            return self.prompt_tokens
        counts = (self.input_tokens, self.cache_creation_input_tokens or 0, self.cache_read_input_tokens or 0)
        return sum(counts) if min(counts) >= 0 else -1

    @property
    def completion(self) -> int | None:
        """The tokens of the reply."""
        return self.completion_tokens if self.completion_tokens is not None else self.output_tokens


class _Message(msgspec.Struct):
    content: Any = None


class _Choice(msgspec.Struct):
    index: int = 0
    message: _Message | None = None
    delta: _Message | None = None
    text: Any = None
    finish_reason: str | None = None


class _Completion(msgspec.Struct):
    """A chat or text completion, or one of its chunks; also whatever else has no more than a usage."""

    choices: list[_Choice] = []
    usage: _Usage | None = None


class _Block(msgspec.Struct):
    type: str = ""
    text: Any = None
    content: Any = None
    stop_reason: str | None = None


class _Incomplete(msgspec.Struct):
    reason: str | None = None


class _Response(msgspec.Struct):
    status: str | None = None
    output: list[_Block] = []
    usage: _Usage | None = None
    incomplete_details: _Incomplete | None = None


class _ResponseEvent(msgspec.Struct):
    type: str = ""
    delta: Any = None
    response: _Response | None = None


class _AnthropicMessage(msgspec.Struct):
    content: list[_Block] = []
    stop_reason: str | None = None
    usage: _Usage | None = None


class _AnthropicEvent(msgspec.Struct):
    type: str = ""
    message: _AnthropicMessage | None = None
    delta: _Block | None = None
    usage: _Usage | None = None


class _Verdict(msgspec.Struct):
    flagged: bool
    category_scores: dict[str, float | None] = {}
    categories: dict[str, bool | None] = {}


class _Moderation(msgspec.Struct):
    results: list[_Verdict] = []
    usage: _Usage | None = None


_completion = msgspec.json.Decoder(_Completion).decode
_response = msgspec.json.Decoder(_Response).decode
_response_event = msgspec.json.Decoder(_ResponseEvent).decode
_anthropic = msgspec.json.Decoder(_AnthropicMessage).decode
_anthropic_event = msgspec.json.Decoder(_AnthropicEvent).decode
_moderation = msgspec.json.Decoder(_Moderation).decode


def read_completion(said: Said, data: bytes | bytearray, safe: str | None) -> None:
    """Read a chat or text completion: its first choice."""
    body = _completion(data)
    said.count(body.usage)
    if body.choices:
        choice = body.choices[0]
        said.say(choice.message.content if choice.message is not None else choice.text)
        said.cut = choice.finish_reason in CUT


def take_chunk(said: Said, data: bytes | bytearray) -> None:
    """Take a chunk of a chat or text completion; the usage may come after the end."""
    if data == b"[DONE]":
        said.ended = True
        return
    body = _completion(data)
    said.stale = said.stale or bool(body.choices)
    for choice in body.choices:
        if choice.finish_reason is not None:
            said.ended = True
        if choice.index == 0:
            said.say(choice.delta.content if choice.delta is not None else choice.text)
            said.cut = said.cut or choice.finish_reason in CUT
    said.count(body.usage)


def read_response(said: Said, data: bytes | bytearray, safe: str | None) -> None:
    """Read a response: the text parts of its messages."""
    _whole_response(said, _response(data))


def take_response_event(said: Said, data: bytes | bytearray) -> None:
    """Take an event of a response; the last one holds it whole."""
    if data == b"[DONE]":  # some servers send it here as well
        return
    event = _response_event(data)
    if event.type == "response.output_text.delta":
        said.say(event.delta)
    elif event.type in ("response.completed", "response.incomplete"):
        said.ended = True
        if event.response is not None:
            _whole_response(said, event.response, deltas=said.spoke)
    elif event.type in ("response.failed", "error"):
        said.failed = True


def _whole_response(said: Said, response: _Response, *, deltas: bool = False) -> None:
    said.count(response.usage)
    said.failed = response.status in ("failed", "cancelled")
    details = response.incomplete_details
    said.cut = details is not None and details.reason in CUT
    if deltas:
        return
    for item in response.output:
        if item.type == "message" and isinstance(item.content, list):
            for part in item.content:
                if isinstance(part, dict) and part.get("type") == "output_text":
                    said.say(part.get("text"))


def read_message(said: Said, data: bytes | bytearray, safe: str | None) -> None:
    """Read Anthropic's message: its text blocks."""
    _whole_message(said, _anthropic(data))


def take_message_event(said: Said, data: bytes | bytearray) -> None:
    """Take an event of Anthropic's message; its counts of tokens are running totals."""
    event = _anthropic_event(data)
    said.count(event.usage)
    if event.type == "content_block_delta":
        said.stale = True  # thinking and a tool's input are generated as well
        if event.delta is not None and event.delta.type == "text_delta":
            said.say(event.delta.text)
    elif event.type == "content_block_start":
        said.stale = True
    elif event.type == "message_start" and event.message is not None:
        _whole_message(said, event.message)
    elif event.type == "message_delta" and event.delta is not None:
        said.cut = event.delta.stop_reason in CUT
    elif event.type == "message_stop":
        said.ended = True
    elif event.type == "error":
        said.failed = True


def _whole_message(said: Said, message: _AnthropicMessage) -> None:
    said.count(message.usage)
    said.cut = message.stop_reason in CUT
    for block in message.content:
        if block.type == "text":
            said.say(block.text)


def read_moderation(said: Said, data: bytes | bytearray, safe: str | None) -> None:
    """Read the one verdict of a moderation: the flagged category with the highest score, or `safe`."""
    body = _moderation(data)
    said.count(body.usage)
    if len(body.results) != 1:
        return
    verdict = body.results[0]
    if not verdict.flagged:
        said.say(safe)
        return
    flagged = [name for name, held in verdict.categories.items() if held]
    if flagged:
        said.say(max(flagged, key=lambda name: verdict.category_scores.get(name) or 0.0))


Whole = Callable[[Said, bytes | bytearray, str | None], None]
Take = Callable[[Said, bytes | bytearray], None]

READERS: Mapping[str, tuple[Whole, Take]] = {
    "chat": (read_completion, take_chunk),
    "completions": (read_completion, take_chunk),
    "responses": (read_response, take_response_event),
    "messages": (read_message, take_message_event),
    "moderations": (read_moderation, take_chunk),
    "embeddings": (read_completion, take_chunk),
    "other": (read_completion, take_chunk),
}
"""How a whole body and an event are read, by dialect; of what is passed on unread, the usage is tried all the same."""


def usage_of(prompt: int | None, completion: int | None) -> Usage | None:
    """Return the counts as tokens; None where the prompt's is missing or one is no sensible number."""
    if prompt is None:
        return None
    completion = completion or 0
    return Usage(prompt, completion) if 0 <= prompt < 2**53 and 0 <= completion < 2**53 else None
