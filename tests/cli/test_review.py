"""`insource review`: listing, answering within the closed set, dismissing, and exporting as gold."""

import json
import os
import pty
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from getpass import getuser
from pathlib import Path

import pytest

import insource
from insource import traffic
from insource.answers import learn_answers
from insource.cli.review import ask, checked_answer
from insource.errors import UserError
from insource.store.registry import Registry

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
SPACE = learn_answers(['{"label": "Card"}', '{"label": "Refund"}'] * 8)
NUMBERS = learn_answers(["0", "1"] * 8)


@pytest.fixture
def queue(home):
    """Queues a request, and gives the registry's view of one."""

    def add(request_id="r-1", task="triage", text="where is my refund?", suggestion="card", minutes=0):
        with Registry.open(home) as registry:
            registry.ask_review(request_id, task, text, suggestion, NOON + timedelta(minutes=minutes), 0.25)

    def find(request_id="r-1"):
        with Registry.open(home) as registry:
            return registry.review(request_id)

    add.find = find
    return add


def test_nothing_waits(run):
    assert run("review").out == "Nothing waits for review.\n"
    assert json.loads(run("review", "--json", "-").out) == {"reviews": []}


def test_what_waits_is_listed_oldest_first(run, queue):
    queue("r-2", minutes=5, text="x" * 200)
    queue("r-1", text="two\nlines \x1b[31m")
    queue("o-1", task="other", minutes=1)
    out = run("review").out
    assert out.index("r-1") < out.index("o-1") < out.index("r-2") and "2026-11-21 12:05" in out
    assert "two lines \ufffd[31m" in out and "x" * 57 + "..." in out and "3 wait." in out
    rows = json.loads(run("review", "--task", "triage", "--json", "-").out)["reviews"]
    assert [(row["id"], row["text"], row["score"]) for row in rows] == [
        ("r-1", "two\nlines \x1b[31m", 0.25), ("r-2", "x" * 200, 0.25)
    ]  # fmt: skip


def test_one_is_shown_with_its_suggestion_and_the_known_answers(run, queue, registered):
    registered()
    queue(text="where is\nmy refund? \x1b[31m")
    done = run("review", "r-1")
    assert done.code == 0
    assert "request r-1, task triage, waiting, 2026-11-21 12:00 UTC\nwhere is\nmy refund? \ufffd[31m\n" in done.out
    assert "suggestion: card (score 0.2500)" in done.out
    assert "   1  card\n   2  refund\n" in done.out
    assert queue.find().state == "waiting"


def test_an_answer_is_recorded_in_the_teachers_form(run, queue, registered, home):
    registered()
    queue()
    done = run("review", "r-1", "--answer", "  REFUND ", "--json", "-")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert (told["state"], told["answer"], told["who"]) == ("answered", "refund", getuser())
    with Registry.open(home) as registry:
        (act,) = registry.acts("r-1")
    assert (act.who, act.what) == (getuser(), "review")
    again = run("review", "r-1", "--answer", "card")
    assert again.code == 2 and "was answered already" in again.err
    assert "answered by" in run("review", "r-1").out


def test_who_may_be_named_and_the_long_form_works(run, queue, registered):
    registered()
    queue()
    assert run("review", "answer", "r-1", "--dismiss", "--who", "ada").out == "dismissed by ada\n"
    assert (queue.find().state, queue.find().who) == ("dismissed", "ada")


def test_an_answer_outside_the_set_needs_force(run, queue, registered):
    registered()
    queue()
    done = run("review", "r-1", "--answer", "refunds")
    assert done.code == 2 and "'refunds' is no answer of task 'triage'" in done.err
    assert "one of 'card', 'refund' (did you mean 'refund'?) was expected" in done.err
    assert queue.find().state == "waiting"
    done = run("review", "r-1", "--answer", "refunds", "--force")
    assert done.code == 0 and "warning: 'refunds' is no answer of task 'triage'; it is recorded as it is" in done.err
    assert queue.find().answer == "refunds"


def test_where_no_set_is_known_an_answer_is_recorded_with_a_warning(run, queue):
    queue()
    done = run("review", "r-1", "--answer", "refund")
    assert done.code == 0 and "warning: task 'triage' has no version here whose answers are known" in done.err
    assert queue.find().answer == "refund"


@pytest.mark.parametrize(("arguments", "told"), [
    (("r-9",), "No request 'r-9' was queued for review"),
    (("r-1", "--answer", "card", "--dismiss"), "--answer and --dismiss were both given"),
    (("r-1", "--answer", "  "), "The answer is empty"),
    (("--task", "triage", "r-1"), "--task and --json before an id"),
])  # fmt: skip
def test_mistakes_are_told_and_nothing_is_recorded(run, queue, registered, arguments, told):
    registered()
    queue()
    done = run("review", *arguments)
    assert done.code == 2 and told in done.err
    assert queue.find().state == "waiting"


def test_the_answered_are_exported_as_gold_that_traffic_reads(run, queue, home, tmp_path):
    for number in range(4):
        queue(f"r-{number}", text=f"text {number}")
    for number, answer in enumerate(("card", "refund", "card")):
        run("review", f"r-{number}", "--answer", answer)
    with Registry.open(home) as registry:
        registry.purge_reviews(datetime.now(UTC) + timedelta(days=31), timedelta(days=30))
    queue("r-5", text="text 5"), queue("r-6", task="other", text="text 6")
    run("review", "r-5", "--answer", "refund"), run("review", "r-6", "--answer", "yes")
    done = run("review", "export", "gold.jsonl", "--task", "triage")
    assert done.code == 0
    assert "1 answered requests were written to gold.jsonl" in done.out and "3 more were left out" in done.out
    (example,) = traffic.read(tmp_path / "gold.jsonl").examples
    assert (example.request.messages[-1].text, example.gold, example.answer) == ("text 5", "refund", None)
    assert (example.task, example.time) == ("triage", NOON)
    assert json.loads(run("review", "export", "gold.jsonl", "--json", "-").out)["written"] == 2
    assert (tmp_path / "gold.jsonl").stat().st_mode & 0o077 == 0


def typing(*lines):
    told = iter(lines)
    return lambda prompt: next(told)


@pytest.mark.parametrize(("typed", "given"), [
    ("2", ("Refund", False)), (" 1 ", ("Card", False)), ("refund", ("refund", False)), ("d", (None, True)),
    ("", (None, False)), ("other", ("other", False)),
])  # fmt: skip
def test_a_person_picks_by_number_or_types(typed, given):
    assert ask(SPACE, typing(typed)) == given


def test_numbers_that_are_answers_are_answers():
    assert ask(NUMBERS, typing("1")) == ("1", False)
    assert ask(None, typing("1")) == ("1", False)
    with pytest.raises(UserError, match="3 is no number of the list; 1 to 2 was expected"):
        ask(SPACE, typing("3"))


def test_a_bare_value_is_recorded_as_the_whole_reply():
    assert checked_answer(SPACE, "refund", force=False, task="t") == '{"label": "Refund"}'
    with pytest.raises(UserError, match="one of 'Card', 'Refund' was expected"):
        checked_answer(SPACE, "zzz", force=False, task="t")


ENTRY = "from insource.cli.main import main; main()"


def test_on_a_terminal_it_asks(home, tmp_path, queue, registered):
    registered()
    queue()
    ours, theirs = pty.openpty()
    env = {**os.environ, "INSOURCE_HOME": str(home), "PYTHONPATH": str(Path(insource.__file__).parents[1])}
    child = subprocess.Popen(
        [sys.executable, "-c", ENTRY, "review", "r-1", "--who", "ada"], stdin=theirs, stdout=theirs, stderr=theirs,
        cwd=tmp_path, env=env,
    )  # fmt: skip
    os.write(ours, b"2\n")
    assert child.wait(timeout=60) == 0
    shown = os.read(ours, 100_000).decode()
    os.close(ours), os.close(theirs)
    assert "number or answer (d dismisses, nothing leaves it waiting)" in shown and "answered by ada: refund" in shown
    assert queue.find().answer == "refund"
