"""What a specialist sees of a request."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insource.errors import DataError
from insource.inputs import MAX_CHARACTERS, MESSAGES, InputSettings, text_of
from insource.types import Message, Request

IMAGE = ({"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "data:"}})
PARTS = ({"type": "text", "text": "two "}, {"type": "text", "text": "parts"})


def request(*messages: tuple[str, object]) -> Request:
    return Request("r", tuple(Message(role, content) for role, content in messages))  # type: ignore[arg-type]


TALK = request(("system", "Sort."), ("user", "first"), ("assistant", "a"), ("user", "second"))


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ("last_user", "second"),
        ("user", "first\nsecond"),
        ("all", "system: Sort.\nuser: first\nassistant: a\nuser: second"),
    ],
)
def test_each_choice_of_messages(messages, text):
    assert text_of(TALK, messages) == text


def test_parts_of_text_are_joined():
    assert text_of(request(("user", PARTS))) == "two parts"


@pytest.mark.parametrize("messages", MESSAGES)
def test_a_needed_part_that_is_not_text_gives_none(messages):
    assert text_of(request(("user", IMAGE)), messages) is None


def test_a_part_that_is_not_needed_does_no_harm():
    pictured = request(("user", IMAGE), ("assistant", None), ("user", "and now?"))
    assert text_of(pictured) == "and now?"
    assert text_of(pictured, "user") is None
    assert text_of(pictured, "all") is None


@pytest.mark.parametrize("messages", MESSAGES)
@pytest.mark.parametrize("conversation", [(), (("user", ""),), (("user", " \n\t"),), (("user", None),)])
def test_no_text_but_blanks_gives_none(messages, conversation):
    assert text_of(request(*conversation), messages) is None


def test_a_long_text_keeps_its_head():
    long = "ä" * 10_000_000
    assert text_of(request(("user", "a" + long))) == "a" + "ä" * (MAX_CHARACTERS - 1)
    assert InputSettings(max_characters=3).text_of(request(("user", "abcdef"))) == "abc"


def test_nothing_else_is_changed():
    text = "  A\0b\r\n\u2028ﬁ ½ <tag> "
    assert text_of(request(("user", text))) == text


@pytest.mark.parametrize("messages", ["last", "", "ALL"])
def test_another_choice_is_refused(messages):
    with pytest.raises(DataError, match="last_user, user, all"):
        text_of(TALK, messages)


@given(st.sampled_from(MESSAGES), st.integers(1, 10**6))
def test_settings_round_trip(messages, characters):
    settings = InputSettings(messages, characters)
    assert InputSettings.from_json(settings.to_json()) == settings


@pytest.mark.parametrize(
    "stored", [{}, {"messages": "all"}, {"messages": "all", "max_characters": 0}, [],
               {"messages": "x", "max_characters": 1},
               {"messages": "all", "max_characters": 5, "more": 1}, {"messages": "all", "max_characters": True}]
)  # fmt: skip
def test_damaged_settings_are_refused(stored):
    with pytest.raises(DataError):
        InputSettings.from_json(stored)


@given(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant", "tool"]),
                          st.none() | st.text(max_size=20)), max_size=5), st.sampled_from(MESSAGES))  # fmt: skip
def test_the_text_is_never_blank_nor_too_long(conversation, messages):
    text = InputSettings(messages, 10).text_of(request(*conversation))
    assert text is None or (0 < len(text) <= 10 and not text.isspace())


@pytest.mark.parametrize(("messages", "seen"), [("last_user", "hi"), ("user", "hi"), ("all", "user: hi")])
def test_a_bare_text_is_seen_as_a_user_s_message(messages, seen):
    settings = InputSettings(messages)
    assert settings.text_of_user("hi") == settings.text_of(request(("user", "hi"))) == seen
    assert settings.text_of_user(" \n") is None
