"""The one way from a request to the text that a specialist sees; its settings stand in the manifest.

Training, backtest and gateway all come through here, so they see the same text. It knows no file and no wire format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from insource.errors import DataError
from insource.types import Message, Request

MAX_CHARACTERS = 20_000
"""A specialist sees at most this many characters (Unicode code points); of a longer text, the beginning."""

MESSAGES = ("last_user", "user", "all")
"""Which messages of a conversation can be seen: the user's last, all the user's, or all with their roles."""


@dataclass(frozen=True, slots=True)
class InputSettings:
    """How requests become text; written into the manifest, so that serving does what training did.

    `templates` are the fixed texts of the user's templates, the more specific first: of a last message that follows
    one, what stands in its slots is seen, a line for each slot. They say nothing where more than it is seen.
    `contexts` has for each template the number of a slot to be seen last, -1 where they are seen in their order; empty
    where all are.
    """

    messages: str = "last_user"
    max_characters: int = MAX_CHARACTERS
    templates: tuple[tuple[str, ...], ...] = ()
    contexts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.messages not in MESSAGES:
            raise DataError(f"messages is {self.messages!r}; one of {', '.join(MESSAGES)} was expected.")
        if type(self.max_characters) is not int or self.max_characters < 1:
            raise DataError(f"max_characters is {self.max_characters!r}; a whole number of at least 1 was expected.")

    def text_of(self, request: Request) -> str | None:
        """Return the text the specialist sees, or None where there is none or a needed part is not text."""
        text = _read(request, self.messages)
        if text is None:
            return None
        clipped = text[: self.max_characters]
        if self.templates and self.messages == "last_user":
            each = zip(self.templates, self.contexts or repeat(-1), strict=False)
            found = (in_slots(clipped, fixed, last) for fixed, last in each)
            clipped = next((slots for slots in found if slots), clipped)
        return clipped if clipped and not clipped.isspace() else None

    def text_of_user(self, text: str) -> str | None:
        """Return the text the specialist sees where a user's message says `text` and nothing else is said."""
        return self.text_of(Request("", (Message("user", text),)))

    def text_of_kept(self, text: str) -> str | None:
        """Return the text the specialist saw where the ledger kept `text`: the messages it reads, without templates."""
        return self.text_of_user(text) if self.messages == "last_user" else text

    def to_json(self) -> dict[str, Any]:
        """Return what the manifest holds."""
        found: dict[str, Any] = {"messages": self.messages, "max_characters": self.max_characters}
        if self.templates:
            found["templates"] = [list(fixed) for fixed in self.templates]
        return {**found, "contexts": list(self.contexts)} if self.contexts else found

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> InputSettings:
        """Read what `to_json` wrote; raise DataError where it is something else."""
        if not isinstance(value, Mapping) or set(value) - {"templates", "contexts"} != {"messages", "max_characters"}:
            raise DataError(f"Input settings read {value!r}; 'messages' and 'max_characters' were expected.")
        templates = value.get("templates", [])
        if not isinstance(templates, list) or not all(map(_is_fixed, templates)):
            raise DataError(
                f"Input settings have the templates {templates!r}; lists of two texts or more were expected."
            )
        contexts = value.get("contexts", [])
        if not _are_contexts(contexts, templates):
            raise DataError(
                f"Input settings have the contexts {contexts!r}; the number of a slot, or -1, for each of "
                f"{len(templates)} templates was expected."
            )
        return cls(value["messages"], value["max_characters"], tuple(map(tuple, templates)), tuple(contexts))


def slots_of(text: str, literals: Sequence[str]) -> list[str] | None:
    """Return what stands in the slots where a text follows a template, else None; linear in the text's length.

    A template is its fixed texts, before, between and after its slots. Each in the middle is taken where it comes
    first, which leaves the most room for the rest; so no place is searched twice. A slot holds one character or more.
    """
    head, *middle, tail = literals
    place, end = len(head), len(text) - len(tail)
    if end <= place or not text.startswith(head) or not text.endswith(tail):
        return None
    slots = []
    for literal in middle:
        there = text.find(literal, place + 1, end - 1)
        if there < 0:
            return None
        slots.append(text[place:there])
        place = there + len(literal)
    return [*slots, text[place:end]] if place < end else None


def in_slots(text: str, literals: Sequence[str], last: int = -1) -> str | None:
    """Return what stands in a template's slots, a line for each; None where the text does not follow, or all blank.

    The slot numbered `last` comes at the end; all in their order where that is -1.
    """
    slots = slots_of(text, literals)
    if slots is None or not any(slot.strip() for slot in slots):
        return None
    return "\n".join(slots if last < 0 else [*slots[:last], *slots[last + 1 :], slots[last]])


def _is_fixed(literals: object) -> bool:
    return isinstance(literals, list) and len(literals) > 1 and all(isinstance(text, str) for text in literals)


def _are_contexts(contexts: object, templates: list[list[str]]) -> bool:
    if not isinstance(contexts, list) or (contexts and len(contexts) != len(templates)):
        return False
    pairs = zip(contexts, templates, strict=False)
    return all(type(last) is int and -1 <= last < len(fixed) - 1 for last, fixed in pairs)


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


def last_of_user(request: Request) -> str | None:
    """Return the text of the user's last message, whole; None where there is none or a part of it is not text."""
    return next((message.text for message in reversed(request.messages) if message.role == "user"), None)


def _read(request: Request, messages: str) -> str | None:
    if messages == "last_user":
        return last_of_user(request)
    conversation = request.messages
    chosen = [m for m in conversation if m.role == "user"] if messages == "user" else list(conversation)
    texts = [message.text for message in chosen]
    if any(text is None for text in texts):
        return None
    if messages == "user":
        return "\n".join(text for text in texts if text is not None)
    if not any(text.strip() for text in texts if text is not None):
        return None
    return "\n".join(f"{message.role}: {text}" for message, text in zip(chosen, texts, strict=True))
