"""System prompts with slots: what they match, what they are refused for, and what finding one among many costs."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insource.cascade.prefixes import Prefixes
from insource.cascade.template import Template, Templates, fills, follows
from insource.config.template import literals, user_contexts, user_literals
from insource.errors import ConfigError
from insource.types import Match, Task

TICKETS = "You sort tickets for {company}. Answer with one of {labels}."


def matches(template, prompt):
    return follows(prompt, literals(template, "triage"))


@pytest.mark.parametrize(
    ("template", "prompt", "expected"),
    [
        (TICKETS, "You sort tickets for Acme. Answer with one of a, b.", True),
        (TICKETS, "You sort tickets for A. B. Answer with one of a.\nOr b.", True),
        (TICKETS, "You sort tickets for . Answer with one of a.", False),
        (TICKETS, "You sort tickets for Acme. Answer with one of .", False),
        (TICKETS, "You sort tickets for Acme. Answer with one of a", False),
        (TICKETS, " You sort tickets for Acme. Answer with one of a.", False),
        (TICKETS, "You sort tickets for Acme. Answer with one of a. ", False),
        (TICKETS, "you sort tickets for Acme. Answer with one of a.", False),
        (TICKETS, "", False),
        ("{anything} Answer in JSON.", "Sort it. Answer in JSON.", True),
        ("{anything} Answer in JSON.", " Answer in JSON.", False),
        ("Sort them: {rest}", "Sort them: a\nb\0c", True),
        ("Sort them: {rest}", "Sort them: ", False),
        ('Reply {{"label": {label}}}', 'Reply {"label": 7}', True),
        ('Reply {{"label": {label}}}', 'Reply {{"label": 7}}', False),
        ("start {a} start {b} start", "start start start", False),
        ("start {a} start {b} start", "start 1 start start 2 start", True),
        ("{a}abab abab{b}", "xababab ababy", True),
        ("(.*){a}[a-z]+ \\d", "(.*)x[a-z]+ \\d", True),
        ("(.*){a}[a-z]+ \\d", "anything xyz 7", False),
    ],
)
def test_what_a_template_matches(template, prompt, expected):
    assert matches(template, prompt) is expected


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.text("ab", max_size=3), min_size=2, max_size=4),
    st.text("ab", max_size=14),
)
def test_it_agrees_with_the_regular_expression_that_says_the_same(fixed, prompt):
    fixed[1:-1] = [text or "a" for text in fixed[1:-1]]
    expected = re.fullmatch("(.+?)".join(map(re.escape, fixed)), prompt, re.DOTALL) is not None
    assert follows(prompt, fixed) is expected
    assert fills(prompt, fixed) is expected  # no blanks in it


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("You sort tickets for Acme.", "has no slot; at least one, such as {company}, was expected. Add one, or set"),
        ("Braces only {{like}} these here", "has no slot"),
        ("You sort {a}{b} into labels", "has two slots side by side; fixed text between them was expected"),
        ("Sort {x}", "has 5 fixed characters; at least 8 outside its slots"),
        ("{{{{{{ }} {x}", "has 6 fixed characters"),
        ('Reply {"label": {label}} at once', "has a lone '{'; a slot such as {company}, or '{{' and '}}'"),
        ("Sort the tickets } of {x}", "has a lone '}'"),
        ("Sort the tickets of {} now", "has a lone '{'"),
        ("Sort the tickets of {two words} now", "has a lone '{'"),
    ],
)
def test_a_template_that_is_none_is_refused_by_name(template, said):
    with pytest.raises(ConfigError) as caught:
        literals(template, "triage")
    assert said in str(caught.value) and str(caught.value).startswith("Task 'triage': the system template")
    assert repr(template)[:60] in str(caught.value)


def test_the_parts_of_one():
    assert literals(TICKETS, "t") == ("You sort tickets for ", ". Answer with one of ", ".")
    assert literals('{a}: {{"x": 1}}{b}', "t") == ("", ': {"x": 1}', "")


@pytest.mark.parametrize(
    ("templates", "contexts"),
    [
        (("Source: {context}\nClaim: {text}",), (0,)),
        (("Claim: {text}\nSource: {context}",), ()),
        (("Claims: {text}",), ()),
        (("Ask: {a}; see: {context}; {b}?", "Claims: {text}", "Source: {context}\nClaim: {text}"), (0, 1, -1)),
        (("{{context}} {{{context}}} is {text}",), (0,)),
    ],
)
def test_a_slot_named_context_is_seen_last(templates, contexts):
    task = Task("t", Match(user_templates=templates))
    assert user_contexts(task) == contexts
    assert len(user_literals(task)) == len(templates)


def filed(*templates):
    return Templates(Template(literals(template, name), name, name) for name, template in templates)


def test_the_more_specific_template_wins_then_the_first_by_name():
    general, special = "You sort tickets for {company}.", "You sort tickets for {company}, kindly."
    made = filed(("a", general), ("z", special))
    assert made.find("You sort tickets for Acme, kindly.") == "z"
    assert made.find("You sort tickets for Acme, politely.") == "a"
    assert made.find("You sort mail for Acme.") is None
    for order in (("b", "a"), ("a", "b")):
        ties = {"a": "Sort {x} into labels", "b": "{x} Sort into labels"}
        assert filed(*((name, ties[name]) for name in order)).find("Sort Sort into labels, Sort into labels") in ("a",)


def test_a_tie_of_equally_many_fixed_characters_goes_to_the_first_by_name():
    pair = [("b", "Sort it: {x} now"), ("a", "Sort it: {x}, now"[:-5] + " now")]
    assert filed(*pair).find("Sort it: this now") == "a"
    assert filed(*reversed(pair)).find("Sort it: this now") == "a"


@pytest.mark.parametrize("length", [1, 7, 8, 63, 64, 65, 1_023, 1_024, 5_000])
def test_beginnings_and_ends_of_any_length_are_found(length):
    begins, ends = "b" * length, "e" * (length + 8)
    made = filed(("both", begins + "{x}" + ends), ("begin", begins + " only: {x}"), ("end", "{x} only " + ends + "!"))
    assert made.find(begins + "?" + ends) == "both"
    assert made.find(begins + " only: ?") == "begin"
    assert made.find("? only " + ends + "!") == "end"
    assert made.find(begins[:-1] + "?" + ends[:-1]) is None


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text("ab", max_size=6), max_size=30), st.text("ab", max_size=9))
def test_a_text_finds_every_key_that_it_begins_with_longer_ones_first(keys, text):
    expected = sorted({key for key in keys if text.startswith(key)}, key=len, reverse=True)
    assert list(Prefixes({key: key for key in keys}).of(text)) == expected


class CountingDict(dict):
    """Counts what it is asked."""

    asked = 0

    def __contains__(self, key):
        CountingDict.asked += 1
        return super().__contains__(key)


def cost(templates, prompt):
    """How many lookups a prompt costs, and how many templates are compared with it."""
    for prefixes in (templates._filed, *templates._filed._values.values()):
        prefixes._nearest = CountingDict(prefixes._nearest)
    CountingDict.asked = 0
    compared = len(list(templates.candidates(prompt)))
    return CountingDict.asked, compared


HOUSE = "You are a careful assistant of Example Bank, a regulated institution. " * 40


def many(count):
    """Templates that share a long beginning, as those of one house do, or have only a beginning, or only an end."""
    texts = [
        lambda n: f"{HOUSE}Desk {n:05d} {'of ours ' * (n % 7)}sorts for {{customer}}. Answer with one of {{labels}}.",
        lambda n: f"Desk {n:05d}: sort for {{customer}}.",
        lambda n: f"{{preamble}} Answer by the rules of desk {n:05d}",
    ]
    return filed(*((f"t{n}", texts[n % 3](n)) for n in range(count)))


PROMPTS = {
    f"{HOUSE}Desk 00003 of ours of ours of ours sorts for Ada. Answer with one of a, b.": "t3",
    "Desk 00004: sort for Ada.": "t4",
    "Anything. Answer by the rules of desk 00005": "t5",
    f"{HOUSE}Desk 99999 sorts for Ada. Answer with one of a, b.": None,
    "nothing of the kind " * 50_000: None,
}


@pytest.mark.parametrize(("prompt", "expected"), PROMPTS.items(), ids=range(len(PROMPTS)))
def test_neither_lookups_nor_comparisons_grow_with_the_number_of_templates(prompt, expected):
    few, plenty = many(60), many(10_000)
    assert few.find(prompt) == plenty.find(prompt) == expected
    (_, compared_few), (asked, compared) = cost(few, prompt), cost(plenty, prompt)
    assert compared_few == compared <= 1 and asked <= 25


def test_filed_by_their_first_words_alone_they_would():
    """The guard broken on purpose: beginnings clipped to 64 characters, as templates of one house share them."""
    plenty = many(9_999)
    clipped = [t for by_end in plenty._filed._values.values() for ts in by_end._values.values() for t in ts]
    prompt = next(iter(PROMPTS))
    assert sum(prompt.startswith(t.literals[0][:64]) and prompt.endswith(t.literals[-1]) for t in clipped) >= 3_333


class CountingText(str):
    """Counts the characters that its searches pass over."""

    steps = 0

    def find(self, text, start, end):
        found = super().find(text, start, end)
        CountingText.steps += (found + len(text) if found >= 0 else max(end, start)) - start
        return found


def backtracking(prompt, literals):
    """The guard broken on purpose: tries every place of each text, as a regular expression would."""
    head, *middle, tail = literals
    end = len(prompt) - len(tail) - 1

    def from_place(place, rest):
        if not rest:
            return place <= end
        found = prompt.find(rest[0], place + 1, end)
        while found >= 0:
            if from_place(found + len(rest[0]), rest[1:]):
                return True
            found = prompt.find(rest[0], found + 1, end)
        return False

    return prompt.startswith(head) and prompt.endswith(tail) and from_place(len(head), tuple(middle))


@pytest.mark.parametrize(
    ("way", "size"),
    [(follows, 1_000_000), (fills, 1_000_000), pytest.param(backtracking, 400, marks=pytest.mark.xfail(strict=True))],
)
def test_a_hostile_prompt_is_read_once(way, size):
    """Half-matches of every text of the template, and none of the last: the steps stay under the prompt's length."""
    fixed = literals("aaaaaaaa{x}aab{y}aab{z}aac{w}", "t")
    prompt = CountingText("a" * 8 + "aab" * (size // 3))
    CountingText.steps = 0
    assert not way(prompt, fixed)
    assert 0 < CountingText.steps <= len(prompt)
