"""Recorded references to answer from: what the scripted doubles look up, and how they count tokens.

It knows neither latency nor faults; it only finds the answer recorded for a conversation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from insource.inputs import text_of
from insource.types import Example, Message, Request, Usage

_Key = tuple[tuple[str, str | None], ...]


class References:
    """Finds the answer recorded for a request: by its whole conversation, else by its last user message.

    Where a text stands several times with different answers, the first is given.
    """

    def __init__(self, recorded: Mapping[str, str] | Iterable[Example]) -> None:
        """Take texts mapped to answers, or examples; those without an answer are left out."""
        self._by_conversation: dict[_Key, str] = {}
        self._by_text: dict[str, str] = {}
        if isinstance(recorded, Mapping):
            self._by_text.update(recorded)
            return
        for example in recorded:
            if example.answer is None:
                continue
            self._by_conversation.setdefault(_key(example.request.messages), example.answer)
            text = text_of(example.request)
            if text is not None:
                self._by_text.setdefault(text, example.answer)

    def __len__(self) -> int:
        return len(self._by_text)

    def find(self, request: Request) -> str | None:
        """Return the recorded answer, or None."""
        found = self._by_conversation.get(_key(request.messages)) if self._by_conversation else None
        if found is not None:
            return found
        text = text_of(request)
        return self._by_text.get(text) if text is not None else None


def estimated_usage(messages: Iterable[Message], content: str) -> Usage:
    """Return the documented estimate of tokens: a quarter of the characters, rounded up; no tokenizer is involved."""
    prompt = sum(len(message.text or "") for message in messages)
    return Usage(math.ceil(prompt / 4), math.ceil(len(content) / 4))


def _key(messages: Iterable[Message]) -> _Key:
    return tuple((message.role, message.text) for message in messages)
