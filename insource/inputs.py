"""The one way from a request to the text that a specialist sees; its settings stand in the manifest.

Training, backtest and gateway all come through here, so they see the same text. It knows no file and no wire format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from insource.errors import DataError
from insource.types import Message, Request

MAX_CHARACTERS = 20_000
"""A specialist sees at most this many characters (Unicode code points); of a longer text, the beginning."""

MESSAGES = ("last_user", "user", "all")
"""Which messages of a conversation can be seen: the user's last, all the user's, or all with their roles."""


@dataclass(frozen=True, slots=True)
class InputSettings:
    """How requests become text; written into the manifest, so that serving does what training did."""

    messages: str = "last_user"
    max_characters: int = MAX_CHARACTERS

    def __post_init__(self) -> None:
        if self.messages not in MESSAGES:
            raise DataError(f"messages is {self.messages!r}; one of {', '.join(MESSAGES)} was expected.")
        if type(self.max_characters) is not int or self.max_characters < 1:
            raise DataError(f"max_characters is {self.max_characters!r}; a whole number of at least 1 was expected.")

    def text_of(self, request: Request) -> str | None:
        """Return the text the specialist sees, or None where there is none or a needed part is not text."""
        text = _read(request.messages, self.messages)
        if text is None:
            return None
        clipped = text[: self.max_characters]
        return clipped if clipped and not clipped.isspace() else None

    def text_of_user(self, text: str) -> str | None:
        """Return the text the specialist sees where a user's message says `text` and nothing else is said."""
        return self.text_of(Request("", (Message("user", text),)))

    def to_json(self) -> dict[str, Any]:
        """Return what the manifest holds."""
        return {"messages": self.messages, "max_characters": self.max_characters}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> InputSettings:
        """Read what `to_json` wrote; raise DataError where it is something else."""
        if not isinstance(value, Mapping) or set(value) != {"messages", "max_characters"}:
            raise DataError(f"Input settings read {value!r}; 'messages' and 'max_characters' were expected.")
        return cls(value["messages"], value["max_characters"])


_BY_MESSAGES = {messages: InputSettings(messages) for messages in MESSAGES}


def text_of(request: Request, messages: str = "last_user") -> str | None:
    """Return the text of a request with the default clip of MAX_CHARACTERS.

    "last_user" is the text of the user's last message; "user" joins all the user's messages with a newline; "all" is
    the whole conversation, each message as "role: text" on its own line. None where there is no text but blanks, or
    where a message that would be needed has a part that is not text (an image, a sound, a tool's call).
    Raises DataError for another value of `messages`.
    """
    settings = _BY_MESSAGES.get(messages)
    return (settings or InputSettings(messages)).text_of(request)


def _read(conversation: tuple[Message, ...], messages: str) -> str | None:
    if messages == "last_user":
        return next((message.text for message in reversed(conversation) if message.role == "user"), None)
    chosen = [m for m in conversation if m.role == "user"] if messages == "user" else list(conversation)
    texts = [message.text for message in chosen]
    if any(text is None for text in texts):
        return None
    if messages == "user":
        return "\n".join(text for text in texts if text is not None)
    if not any(text.strip() for text in texts if text is not None):
        return None
    return "\n".join(f"{message.role}: {text}" for message, text in zip(chosen, texts, strict=True))
