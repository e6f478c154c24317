"""What is kept of each task's requests, for how long, and what that makes impossible, as it is said at the start."""

import pytest

from insource.config.keeping import WITHOUT_DIGESTS, WITHOUT_TEXTS, content_lines, keeping
from insource.types import Task, WhenKept
from tests.config_texts import config

MODES = """
[tasks.tickets]
content = "full"
retention_days = 90
[tasks.claims]
content = "full"
[tasks.hr]
content = "none"
[tasks.desk]
when_kept = "review"
retention_days = 7
[tasks.mail]
[tasks.chat]
[tasks.chat.guard]
fraud = 0.1
"""


def test_by_default_digests_are_kept_and_nothing_else_is_said_of_tasks(tmp_path):
    first, last = content_lines(config(tmp_path, ""))
    assert first == "content: digests only, no texts; kept for 30 days"
    assert last.startswith("never erased: rows of the ledger, which hold no text, and artifacts")


def test_the_lines_at_the_start_tell_every_mode_its_days_and_its_price(tmp_path):
    first, *tasks, last = content_lines(config(tmp_path, MODES))
    assert first == (
        'content: digests only, except for claims, tickets (content = "full") and hr (content = "none"); '
        "kept for 30 days"
    )
    gone = ", ".join(WITHOUT_TEXTS)
    assert tasks == [
        "content of tickets: texts for 90 days",
        "content of claims: texts for 30 days",
        f"content of hr: nothing; impossible: {gone}, {WITHOUT_DIGESTS}",
        f"content of desk: digests for 7 days; impossible: {gone}; texts that wait for review are kept until 7 days "
        "after their answer",
        f"content of mail: digests for 30 days; impossible: {gone}",
        f"content of chat: digests for 30 days; impossible: {gone}, watching its guards while it serves",
    ]
    assert "never erased" in last


def test_tasks_of_which_the_same_is_kept_share_a_line(tmp_path):
    text = "[store]\nretention_days = 1\n[tasks.b]\n[tasks.a]\n[tasks.c]\nretention_days = 1\n"
    first, line, _ = content_lines(config(tmp_path, text))
    assert first.endswith("; kept for 1 day") and line.startswith("content of a, b, c: digests for 1 day; impossible")


@pytest.mark.parametrize(("name", "told"), [
    ("tickets", ("full", 90, 0, None)),
    ("hr", ("none", None, len(WITHOUT_TEXTS) + 1, None)),
    ("desk", ("digest", 7, len(WITHOUT_TEXTS), 7)),
    ("nobody", ("digest", 30, len(WITHOUT_TEXTS), None)),
])  # fmt: skip
def test_what_is_kept_of_one_task(tmp_path, name, told):
    kept = keeping(config(tmp_path, MODES), name)
    assert (kept.content, kept.days, len(kept.impossible), kept.review_days) == told


def test_the_days_of_a_task_go_before_those_of_the_store(tmp_path):
    found = config(tmp_path, "[store]\nretention_days = 60\n" + MODES)
    days = {name: found.days_kept(task) for name, task in found.tasks.items()}
    assert days == {"tickets": 90, "claims": 60, "hr": 60, "desk": 7, "mail": 60, "chat": 60}
    assert found.days_kept(Task("x", retention_days=3)) == 3
    assert found.tasks["desk"].when_kept is WhenKept.REVIEW and found.tasks["mail"].retention_days is None


def test_what_is_refused_is_taken_where_nothing_contradicts(tmp_path):
    """The control: every setting that is refused beside another content is fine beside its own."""
    taken = config(
        tmp_path, "[tasks.a]\ncontent = 'full'\nwhen_kept = 'review'\nretention_days = 7\nlabels_per_day = 5"
    )
    assert taken.tasks["a"].labels_per_day == 5
    none = config(tmp_path, "[tasks.a]\ncontent = 'none'\nwhen_kept = 'best'\nlabels_per_day = 0")
    assert none.tasks["a"].content == "none"
