"""Which task a request belongs to, what told, and what finding it costs."""

import hashlib
import json
from dataclasses import replace

import pytest

from insource.cascade.match import Matched, Matcher
from insource.cascade.schema import Schema, digest, schema_of
from insource.errors import ConfigError, UnknownTask
from insource.types import Match, Message, Request, Task

PROMPT = "Sort the ticket."
TRIAGE = Task("triage", match=Match(models=("gpt-triage",), system_prompts=(PROMPT,)))
INTENT = Task("ticket-intent")


def request(model="gpt-4o", headers=None, system=None):
    messages = (Message("user", "where is my card?"),)
    if system is not None:
        messages = (Message("system", system), *messages)
    return Request("r1", messages, model, headers=headers or {})


@pytest.mark.parametrize(
    ("sent", "task", "by"),
    [
        (request("task:triage"), TRIAGE, "model"),
        (request("gpt-triage"), TRIAGE, "model"),
        (request(headers={"x-insource-task": "ticket-intent"}), INTENT, "header"),
        (request("gpt-triage", {"x-insource-task": "ticket-intent"}), INTENT, "header"),
        (request("task:triage", {"x-insource-task": "ticket-intent"}), TRIAGE, "model"),
        (request(system=PROMPT), TRIAGE, "system_prompt"),
    ],
)
def test_a_request_finds_its_task(sent, task, by):
    matched = Matcher([TRIAGE, INTENT]).match(sent)
    assert matched is not None
    assert (matched.task, matched.by) == (task, by)


@pytest.mark.parametrize("sent", [request(), request(system=PROMPT + " "), request(system="other")])
def test_what_belongs_to_no_task_matches_none(sent):
    assert Matcher([TRIAGE, INTENT]).match(sent) is None


def test_an_unknown_task_names_the_nearest():
    with pytest.raises(UnknownTask, match="'ticket-intend'; the nearest is 'ticket-intent'"):
        Matcher([TRIAGE, INTENT]).match(request("task:ticket-intend"))
    with pytest.raises(UnknownTask, match="no task is configured"):
        Matcher([]).match(request(headers={"x-insource-task": "x"}))


def test_two_tasks_cannot_claim_the_same_prompt():
    with pytest.raises(ConfigError, match="'triage' and 'other' both match the system prompt"):
        Matcher([TRIAGE, Task("other", match=Match(system_prompts=(PROMPT,)))])


TEMPLATE = "You sort tickets for {company}. Answer with one of {labels}."
SORTING = "You sort tickets for Acme. Answer with one of a, b."
SCHEMA = {"type": "object", "properties": {"label": {"enum": ["ä", "b"]}}, "required": ["label"]}
SHA = digest(SCHEMA)
CHAT = {"response_format": {"type": "json_schema", "json_schema": {"name": "ticket", "strict": True, "schema": SCHEMA}}}
RESPONSES = {"text": {"format": {"type": "json_schema", "name": "ticket", "schema": SCHEMA}}}
MESSAGES = {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}
OLDER_MESSAGES = {"output_format": {"type": "json_schema", "schema": SCHEMA}}

BY_HEADER = Task("by-header", match=Match(headers=(("X-App", "desk"),)))
BY_TEMPLATE = Task("by-template", match=Match(system_templates=(TEMPLATE,)))
BY_DIGEST = Task("by-digest", match=Match(schemas=(SHA,)))
BY_SCHEMA = Task("by-schema", match=Match(schemas=("ticket",)))
ALL = [BY_SCHEMA, BY_DIGEST, BY_TEMPLATE, BY_HEADER, INTENT, TRIAGE]


def told(tasks, sent):
    matched = Matcher(tasks).match(sent)
    return None if matched is None else (matched.task.name, matched.by)


def test_the_order_in_which_each_way_gives_way_to_the_one_before():
    """A request with everything at once, from which one thing after another is taken."""
    exact = replace(BY_TEMPLATE, name="exact", match=Match(system_prompts=(SORTING,)))
    sent = replace(request("task:triage", {"x-insource-task": "ticket-intent", "x-app": "desk"}, SORTING), fields=CHAT)
    tasks = [*ALL, exact]
    assert told(tasks, sent) == ("triage", "model")
    sent = replace(sent, model="gpt-triage")
    assert told(tasks, sent) == ("ticket-intent", "header")
    sent = replace(sent, headers={"x-app": "desk"})
    assert told(tasks, sent) == ("triage", "model")
    sent = replace(sent, model="gpt-4o")
    assert told(tasks, sent) == ("by-header", "header")
    sent = replace(sent, headers={"x-app": "other"})
    assert told(tasks, sent) == ("exact", "system_prompt")
    assert told(ALL, sent) == ("by-template", "system_template")
    sent = replace(sent, messages=sent.messages[1:])
    assert told(tasks, sent) == ("by-digest", "schema")
    assert told([BY_SCHEMA], sent) == ("by-schema", "schema")
    assert told(tasks, replace(sent, fields={})) is None


@pytest.mark.parametrize("value", ["Desk", "desk ", "", "desk, desk"])
def test_a_header_has_to_be_exact(value):
    assert told([BY_HEADER], request(headers={"x-app": value})) is None


@pytest.mark.parametrize("extra", [0, 40])
def test_headers_of_two_tasks_go_to_the_first_by_name_whatever_their_order(extra):
    """With few headers known and many sent, and the other way round."""
    tasks = [Task(name, match=Match(headers=((f"x-{name}", "1"),))) for name in ("b", "a")]
    sent = {"x-b": "1", "x-a": "1"} | {f"x-other-{n}": "1" for n in range(extra)}
    assert told(tasks, request(headers=sent)) == ("a", "header")
    assert told([*tasks, *(Task(f"t{n}", match=Match(headers=((f"y-{n}", "1"),))) for n in range(40))],
                request(headers=dict(reversed(sent.items())))) == ("a", "header")  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "name"), [(CHAT, "ticket"), (RESPONSES, "ticket"), (MESSAGES, None), (OLDER_MESSAGES, None)]
)
def test_the_schema_is_found_in_every_dialect(fields, name):
    assert schema_of(replace(request(), fields=fields)) == Schema(name, SCHEMA)
    assert told([BY_DIGEST], replace(request(), fields=fields)) == ("by-digest", "schema")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema"}},
        {"response_format": {"type": "text", "json_schema": {"name": "ticket"}}},
        {"response_format": "json_schema"},
        {"response_format": None, "text": "ticket", "output_config": {"effort": "low"}},
        {"text": {"format": {"type": "text"}}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": 7, "schema": [SCHEMA]}}},
    ],
)
def test_what_asks_for_no_schema_matches_none(fields):
    assert told([BY_DIGEST, BY_SCHEMA], replace(request(), fields=fields)) is None


def test_a_digest_is_that_of_the_canonical_json_and_changes_with_the_schema():
    canonical = json.dumps(SCHEMA, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert b"\xc3\xa4" in canonical and SHA == "sha256:" + hashlib.sha256(canonical).hexdigest()
    assert digest(dict(reversed(SCHEMA.items()))) == SHA
    assert digest({**SCHEMA, "required": []}) != SHA


def test_a_schema_nested_too_deeply_has_no_digest_and_matches_nothing():
    deep = {}
    for _ in range(100_000):
        deep = {"a": deep}
    fields = {"output_format": {"type": "json_schema", "schema": deep}}
    assert digest(deep) is None and told([BY_DIGEST], replace(request(), fields=fields)) is None
    while deep:  # taken apart by hand: deallocation would recurse as well
        deep = deep.pop("a")


class Once(dict):
    """A schema that may be looked through no more than it is allowed to."""

    def items(self):
        raise AssertionError("the schema was read")


def test_the_digest_is_computed_only_where_a_task_goes_by_digests():
    sent = replace(
        request(), fields={"text": {"format": {"type": "json_schema", "name": "ticket", "schema": Once(a=1)}}}
    )
    assert told([BY_SCHEMA], sent) == ("by-schema", "schema")
    with pytest.raises(AssertionError, match="was read"):
        told([BY_SCHEMA, BY_DIGEST], sent)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ({"headers": (("X-App", "desk"),)}, {"headers": (("x-app", "desk"),)}, "header x-app: 'desk'"),
        ({"system_templates": (TEMPLATE,)}, {"system_templates": (TEMPLATE.replace("company", "firm"),)}, "template"),
        ({"schemas": (SHA,)}, {"schemas": (SHA,)}, f"schema '{SHA}'"),
        ({"models": ("m",)}, {"models": ("m",)}, "model 'm'"),
    ],
)
def test_two_tasks_cannot_claim_the_same(first, second, said):
    with pytest.raises(ConfigError, match="'one' and 'two' both match the") as caught:
        Matcher([Task("one", match=Match(**first)), Task("two", match=Match(**second))])
    assert said in str(caught.value)


def test_a_task_may_say_the_same_twice():
    twice = Task("one", match=Match(system_templates=(TEMPLATE, TEMPLATE.replace("company", "firm"))))
    assert told([twice], request(system=SORTING)) == ("one", "system_template")


class Counting(dict):
    """Counts what it is asked."""

    asked = 0

    def get(self, *arguments):
        Counting.asked += 1
        return super().get(*arguments)

    def __contains__(self, key):
        Counting.asked += 1
        return super().__contains__(key)


def lookups(matcher, sent):
    """How many lookups a request costs in all the indexes."""
    templates = matcher._by_template._filed
    for prefixes in (templates, *templates._values.values()):
        prefixes._nearest = Counting(prefixes._nearest)
    for name in [name for name, held in vars(matcher).items() if isinstance(held, dict)]:
        setattr(matcher, name, Counting(getattr(matcher, name)))
    Counting.asked = 0
    matcher.match(sent)
    return Counting.asked


def of(count):
    return [
        Task(
            f"t{n:05d}",
            match=Match((f"m{n}",), (f"prompt {n}",), (("x-app", f"{n}"),), (f"Sort for {n:05d}: {{x}}",), (f"s{n}",)),
        )
        for n in range(count)
    ]


SENT = [
    request("task:t00009"),
    request("m9"),
    request(headers={"x-insource-task": "t00009"}),
    request(headers={"x-app": "9", "x-other": "1"}),
    request(system="prompt 9"),
    request(system="Sort for 00009: this"),
    replace(request(), fields={"output_format": {"type": "json_schema", "name": "s9"}}),
    replace(request(system="Sort for nobody: this", headers={"x-app": "none"}), fields=CHAT),
]


@pytest.mark.parametrize("sent", SENT, ids=range(len(SENT)))
def test_the_lookups_do_not_grow_with_the_number_of_tasks(sent):
    few, many = Matcher(of(10)), Matcher(of(10_000))
    found, expected = many.match(sent), few.match(sent)
    assert (found and (found.task.name, found.by)) == (expected and (expected.task.name, expected.by))
    assert lookups(few, sent) == lookups(many, sent) <= 10


class Searching(Matcher):
    """The guard broken on purpose: asks task by task."""

    def _of_prompt(self, request):
        for task in self._by_name.values():
            if self._by_prompt.get(request.system_prompt) is task:
                return Matched(task, "system_prompt")
        return None


def test_a_search_through_the_tasks_would_be_seen():
    assert lookups(Searching(of(10_000)), request(system="no prompt")) > 10_000


SORTED = Task("sorted", match=Match(user_templates=("Sort this ticket: {text}",)))
POLITE = Task("polite", match=Match(user_templates=("Sort this ticket: {text} Thank you.",)))


def saying(*texts, system=None):
    """A conversation in which the user says these, the assistant something between them."""
    said = [Message("user", text) for text in texts]
    turns = [turn for text in said for turn in (text, Message("assistant", "Sort this ticket: mine"))][:-1]
    return Request("r1", (*([Message("system", system)] if system else []), *turns), "gpt-4o")


@pytest.mark.parametrize(
    ("sent", "task"),
    [
        (saying("Sort this ticket: my card"), "sorted"),
        (saying("Sort this ticket: my card Thank you."), "polite"),
        (saying("Sort this ticket: my card Thank you. "), "sorted"),
        (saying("Sort this ticket: Sort this ticket: x"), "sorted"),
        (saying("hello", "Sort this ticket: my card"), "sorted"),
        (saying("Sort this ticket: my card", "thanks"), None),
        (saying(" Sort this ticket: my card"), None),
        (saying("Sort this ticket: "), None),
        (saying("Sort this ticket: \n\t "), None),
        (saying("Sort this ticket:   Thank you."), "sorted"),
        (saying("Sort this ticket: {text}"), "sorted"),
        (saying("say"), None),
        (saying("x", system="Sort this ticket: y"), None),
        (Request("r1", (Message("system", "Sort this ticket: y"),)), None),
        (Request("r1", (Message("user", ({"type": "image_url"},)),)), None),
        (Request("r1", (Message("user", ({"type": "text", "text": "Sort this ticket: y"},)),)), "sorted"),
    ],
)
def test_the_user_s_last_message_tells_by_its_template(sent, task):
    """Of tasks that overlap the more specific gets it; slots with nothing but blanks give a specialist nothing."""
    for tasks in ([SORTED, POLITE], [POLITE, SORTED]):
        assert told(tasks, sent) == (None if task is None else (task, "user_template"))


def test_what_a_user_writes_takes_no_request_from_a_task_that_something_else_names():
    sent = replace(request("task:triage", {"x-insource-task": "ticket-intent", "x-app": "desk"}, SORTING), fields=CHAT)
    sent = replace(sent, messages=(sent.messages[0], Message("user", "Sort this ticket: x")))
    tasks = [*ALL, SORTED]
    taken_away = [
        ("triage", {"model": "gpt-4o"}),
        ("ticket-intent", {"headers": {"x-app": "desk"}}),
        ("by-header", {"headers": {}}),
        ("by-template", {"messages": sent.messages[1:]}),
        ("by-digest", {"fields": {}}),
        ("sorted", {}),
    ]
    for name, left in taken_away:
        assert told(tasks, sent)[0] == name
        sent = replace(sent, **left)


def test_two_tasks_cannot_claim_the_same_user_s_template():
    with pytest.raises(ConfigError, match="'sorted' and 'other' both match the user template"):
        Matcher([SORTED, Task("other", match=Match(user_templates=("Sort this ticket: {another}",)))])


def test_messages_are_not_read_where_no_task_goes_by_them():
    class Unread:
        def __iter__(self):
            raise AssertionError("read")

        __reversed__ = __iter__

        def __getitem__(self, place):
            return Message("user", "x")

    sent = Request("r1", Unread(), "gpt-4o")
    assert told([TRIAGE, INTENT], sent) is None
    with pytest.raises(AssertionError, match="read"):
        told([SORTED], sent)
