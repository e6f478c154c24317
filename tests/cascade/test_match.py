import pytest

from insource.cascade.match import Matcher
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
