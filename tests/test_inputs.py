"""What a specialist sees of a request."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insource.errors import DataError
from insource.inputs import MAX_CHARACTERS, MESSAGES, InputSettings, slots_of, text_of
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


SLOTS = InputSettings(templates=(("Sort this ticket: ", " Thank you."), ("Sort this ticket: ", ""), ("", " or ", "?")))


@pytest.mark.parametrize(
    ("said", "seen"),
    [
        ("Sort this ticket: my card", "my card"),
        ("Sort this ticket: my card Thank you.", "my card"),
        ("tea or coffee?", "tea\ncoffee"),
        ("Sort this ticket: a or b?", "a or b?"),
        ("Sort this ticket: Sort this ticket: x", "Sort this ticket: x"),
        ("Sort this ticket:  \n", "Sort this ticket:  \n"),
        ("Sort this ticket: ", "Sort this ticket: "),
        ("my card", "my card"),
        ("  Sort this ticket: my card", "  Sort this ticket: my card"),
    ],
)
def test_of_a_message_that_follows_a_template_the_slots_are_seen(said, seen):
    """The first template that fits; slots with nothing but blanks say nothing, and the message is seen whole."""
    assert SLOTS.text_of(request(("system", "Sort."), ("user", "Sort this ticket: old"), ("user", said))) == seen
    assert SLOTS.text_of_user(said) == seen


CHECK = ("Source: ", "\nClaim: ", "\nTrue?")
PAIRS = InputSettings(templates=(CHECK, ("Look: ", "")), contexts=(0, -1))


@pytest.mark.parametrize(
    ("said", "seen"),
    [
        ("Source: the loan\nis open\nClaim: repaid\nTrue?", "repaid\nthe loan\nis open"),
        ("Look: the loan", "the loan"),
        ("repaid\nthe loan", "repaid\nthe loan"),
        ("Source:  \nClaim: repaid\nTrue?", "repaid\n "),
    ],
)
def test_a_context_is_seen_last(said, seen):
    assert PAIRS.text_of_user(said) == seen


def test_control_without_contexts_the_slots_keep_their_order():
    said = "Source: the loan\nClaim: repaid\nTrue?"
    assert InputSettings(templates=PAIRS.templates).text_of_user(said) == "the loan\nrepaid"


def test_settings_with_contexts_round_trip_and_without_read_as_they_did():
    assert InputSettings.from_json(PAIRS.to_json()) == PAIRS and PAIRS.to_json()["contexts"] == [0, -1]
    assert "contexts" not in SLOTS.to_json()


@pytest.mark.parametrize("contexts", [[0], [0, 1], [2, -1], [-2, -1], [True, -1], [0, None], {}, [0, -1, -1]])
def test_contexts_that_name_no_slot_are_refused(contexts):
    with pytest.raises(DataError, match="contexts"):
        InputSettings.from_json({**PAIRS.to_json(), "contexts": contexts})


def test_where_more_than_the_last_message_is_seen_templates_say_nothing():
    said = request(("user", "Sort this ticket: a"), ("user", "Sort this ticket: b"))
    assert InputSettings("user", templates=SLOTS.templates).text_of(said) == "Sort this ticket: a\nSort this ticket: b"


def test_a_message_is_clipped_before_its_slots_are_looked_for():
    """What the ledger keeps is clipped; learning from it has to see what serving saw."""
    long = "Sort this ticket: " + "x" * MAX_CHARACTERS + " Thank you."
    seen = SLOTS.text_of_user(long)
    assert seen == SLOTS.text_of_user(long[:MAX_CHARACTERS]) == "x" * (MAX_CHARACTERS - len("Sort this ticket: "))


@given(st.lists(st.text("ab ", max_size=3), min_size=2, max_size=4), st.lists(st.text("xy \n"), min_size=3, max_size=3))
def test_slots_of_what_was_filled_in_are_found_again(fixed, values):
    fixed[1:-1] = [text if text.strip() else "a" for text in fixed[1:-1]]
    slots = [value + "z" for value in values[: len(fixed) - 1]]
    text = fixed[0] + "".join(slot + literal for slot, literal in zip(slots, fixed[1:], strict=True))
    found = slots_of(text, fixed)
    assert found is not None and fixed[0] + "".join(f + t for f, t in zip(found, fixed[1:], strict=True)) == text


@given(st.lists(st.lists(st.text(max_size=4), min_size=2, max_size=3), min_size=1, max_size=3))
def test_settings_with_templates_round_trip(templates):
    settings = InputSettings(templates=tuple(map(tuple, templates)))
    assert InputSettings.from_json(settings.to_json()) == settings
    assert "templates" not in InputSettings().to_json()


@pytest.mark.parametrize("templates", ["ab", [["a"]], [["a", 1]], [{"a": "b", "c": "d"}], None])
def test_damaged_templates_are_refused(templates):
    with pytest.raises(DataError, match="lists of two texts"):
        InputSettings.from_json({"messages": "last_user", "max_characters": 5, "templates": templates})


@pytest.mark.parametrize("messages", MESSAGES)
@pytest.mark.parametrize("said", ["Sort this ticket: Sort this ticket: x", "my card", "x" * (MAX_CHARACTERS + 9)])
def test_what_the_ledger_kept_reads_as_what_was_seen(messages, said):
    """The recorder keeps a request's text without templates, so that it is not taken out of its slots twice."""
    sent, settings = request(("system", "Sort."), ("user", said)), InputSettings(messages, templates=SLOTS.templates)
    assert settings.text_of_kept(text_of(sent, messages)) == settings.text_of(sent)
