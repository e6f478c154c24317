"""The template miner: templates before, after and around the data, kept apart, in any script, at any length."""

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from insource.cascade.template import follows
from insource.config.template import literals as read_template
from insource.inputs import slots_of
from insource.training.discovery import prefixes, templates
from insource.training.discovery.matching import template_text
from insource.training.discovery.templates import fixed_texts, mine
from insource.training.discovery.tokens import ends_alike, tokens_of, words_in
from tests.training.discovery_logs import chats, tickets

TEXTS = [text for text, _ in tickets(1, 150)]
FILLED = st.text(max_size=40)


@pytest.mark.parametrize(
    "template",
    [
        "Classify this ticket: {}",
        "{}\n\nName the topic of the ticket above.",
        'Read the ticket.\n"""\n{}\n"""\nWhich topic is it? One word.',
        "صنف هذه التذكرة من فضلك: {}",
        "以下の問い合わせを分類し、種類を一つ答えて。\n{}",
        'Sort {{this}} [tasks.x] "now" \\ # {}',
    ],
)
def test_a_template_is_found_before_after_and_around_its_data(template):
    found = mine([template.replace("{}", text) for text in TEXTS], 20)
    assert found[0] == tuple(template.split("{}")) and len(found) == 1


def test_two_slots_and_what_stands_between_them():
    rows = [f"Claim: {a}\nSource: {b}\nIs the claim supported?" for a, b in zip(TEXTS, TEXTS[::-1], strict=True)]
    (found,) = mine(rows, 20)
    assert slots_of(rows[0], found) is not None and len(found) == 3 and "Source:" in found[1]


HEADS = ("Is this message about money? {}", "Is this message about parcels? {}")
TAILS = ("Read the message.\n{}\nIs it about money?", "Read the message.\n{}\nIs it about parcels?")
MIDDLES = (
    "{}\nSort the text above for the money desk of ours.\n{}",
    "{}\nSay of the text above if it is about parcels at all.\n{}",
)


@pytest.mark.parametrize("pair", [HEADS, TAILS, MIDDLES])
def test_templates_that_differ_little_stay_two(pair):
    rows = [template.replace("{}", text) for template in pair for text in TEXTS]
    found = mine(rows, 20)
    for template in pair:
        own = [next((t for t in found if slots_of(template.replace("{}", text), t)), None) for text in TEXTS]
        other = pair[1 - pair.index(template)]
        taken = set(own) - {None}
        assert taken and all(slots_of(other.replace("{}", text), t) is None for t in taken for text in TEXTS)


def test_without_the_rule_for_few_ways_to_go_on_they_would_be_one(monkeypatch):
    monkeypatch.setattr(prefixes, "COVER", 1.1)
    assert len(mine([template.replace("{}", text) for template in HEADS for text in TEXTS], 20)) == 1


def test_a_phrase_in_the_data_is_no_template_of_its_own():
    rows = ["Classify this ticket: " + ("I would like to know " if n % 4 == 0 else "") + t for n, t in enumerate(TEXTS)]
    assert mine(rows, 20) == [("Classify this ticket: ", "")]


def test_numbers_and_links_are_data():
    coin = random.Random(2)
    rows = [f"Today is 2026-{coin.randint(10, 12)}-{coin.randint(10, 28)}. Sort this ticket now: {t} https://t.co/{n}"
            for n, t in enumerate(TEXTS)]  # fmt: skip
    (found,) = mine(rows, 20)
    assert found[0] == "Today is 2026-" and ". Sort this ticket now:" in found[1]
    assert all(slots_of(row, found) for row in rows)


def test_strays_that_begin_alike_do_not_shorten_a_template():
    rows = [f"Which topic has this ticket? Answer in one word. {text}" for text in TEXTS * 2]
    rows += [" Which one?", "Which way to the station is the shortest?"] * 3
    assert mine(rows, 20) == [("Which topic has this ticket? Answer in one word. ", "")]


def test_free_chat_has_no_template():
    assert mine([text for text, _ in chats(3, 600)], 20) == []


@pytest.mark.parametrize("texts", [[], ["one"], ["the same text each time"] * 50, [""] * 30, ["a"] * 30])
def test_nothing_to_mine(texts):
    for found in mine(texts, 20):
        assert all(slots_of(text, found) for text in texts)


def test_long_prompts_are_known_by_their_beginning_and_end():
    rows = ["Sort this ticket for us: " + text + " lorem ipsum" * 9_000 + str(n) for n, text in enumerate(TEXTS[:40])]
    (found,) = mine(rows, 20)
    assert found[0] == "Sort this ticket for us: " and len(rows[0]) > 100_000


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60), st.lists(st.text(max_size=8), min_size=2, max_size=4).map(tuple))
@example("aXbXc", ("a", "X", "c"))
@example("xx", ("x", "x"))
def test_slots_are_those_of_the_gateways_own_matcher(text, fixed):
    if all(fixed[1:-1]):
        slots = slots_of(text, fixed)
        assert (slots is not None) == follows(text, fixed)
        if slots is not None:
            joined = "".join(a + b for a, b in zip(fixed, [*slots, ""], strict=True))
            assert joined == text and all(slots)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=20), min_size=2, max_size=3).map(tuple))
def test_a_template_is_written_so_that_the_configuration_reads_it_back(fixed):
    if sum(map(len, fixed)) >= 8:
        assert read_template(template_text(fixed), "x") == fixed


def test_braces_that_were_not_doubled_would_not_be_read_back():
    fixed = ("Sort {this} ticket: ", "")
    assert read_template(template_text(fixed), "x") == fixed
    assert read_template(fixed[0] + "{text}", "x") != fixed


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=10), st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=6), st.text(max_size=10))
def test_what_texts_share_at_both_ends_never_overlaps(head, middles, tail):
    texts = [head + middle + tail for middle in middles]
    begins, ends = ends_alike(texts)
    assert all(t.startswith(begins) and t.endswith(ends) and len(t) > len(begins) + len(ends) for t in texts)
    assert fixed_texts(texts, 0) is None or all(slots_of(t, fixed_texts(texts, 0)) for t in texts)


def test_tokens():
    assert tokens_of("See https://x.y/z?q=1 @ann @bob on 3 May!!") == [
        "See",
        "0",
        "@ann",
        "@bob",
        "on",
        "0",
        "May",
        "!",
    ]
    assert tokens_of("one two three", from_end=True) == ["three", "two", "one"]
    assert words_in(("a b", "{c}")) == 3 and templates.FEWEST_WORDS == 3
