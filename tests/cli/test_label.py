"""`insource label`: what it lists, what it takes from a person, and where the answers go."""

import json
import os
import pty
import subprocess
from datetime import UTC, datetime, timedelta
from getpass import getuser

import pytest
from rich.console import Console

from insource.answers import learn_answers
from insource.cli.label import ask_each
from insource.store.columns import Source
from insource.store.ledger import Ledger
from insource.store.ledger_reader import LedgerReader, LedgerRow
from insource.store.registry import Registry
from insource.types import Audit, Content, Decision, Outcome, Reason

from .conftest import command, environment

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
SPACE = learn_answers(['{"label": "Card"}', '{"label": "Refund"}'] * 8)


@pytest.fixture
def recorded(home):
    """Writes escalated requests with their texts into the ledger; the first is the one versions disagree about."""

    def write(*names, task="triage", outcome=Outcome.ESCALATED, **more):
        with Ledger.open(home, clock=lambda: NOON) as ledger:
            for n, name in enumerate(names):
                time = NOON + timedelta(minutes=n)
                decision = Decision(name, time, outcome, Reason.BELOW_THRESHOLD, task, 1, score=0.1, threshold=0.5,
                                    audited=True, audit_rate=0.05)  # fmt: skip
                ledger.append_now(decision, Content(name, time, task, f"text of {name} \x1b[2J"), keep_text=True)
                ledger.audit(Audit(name, time, task, 1, False, n > 0, score=0.1, accepts=False))
                ledger.audit(Audit(name, time, task, 2, False, True, score=0.9, accepts=n == 0))

    return write


def gold(home, request_id="r-1"):
    with LedgerReader(home) as reader:
        return [(each.answer, each.who, each.source) for each in reader.feedback(request_id)]


def test_one_is_labelled_in_the_teachers_form_and_is_in_the_ledger(run, registered, recorded, home):
    registered()
    recorded("r-1")
    done = run("label", "triage", "--request", "r-1", "--answer", " REFUND", "--json", "-")
    assert done.code == 0, done.err
    assert json.loads(done.out)["labelled"] == [{"id": "r-1", "answer": "refund"}]
    assert gold(home) == [("refund", getuser(), Source.LABEL)]
    run("label", "triage", "--request", "r-1", "--answer", "card", "--who", "ada")
    assert gold(home)[-1] == ("card", "ada", Source.LABEL)
    assert "gold: ada gave the answer card (label)" in run("explain", "r-1").out


def test_what_is_worth_most_is_listed_first_until_it_is_labelled(run, registered, recorded):
    registered()
    recorded("r-1", "r-2", "r-3")
    found = json.loads(run("label", "triage", "--json", "-").out)["waiting"]
    assert [row["id"] for row in found] == ["r-1", "r-3", "r-2"]
    assert [audit["agrees"] for audit in found[0]["audits"]] == [False, True]
    out = run("label", "triage").out
    assert "3 may be labelled" in out and out.index("r-1") < out.index("r-3") and "\x1b" not in out
    run("label", "triage", "--request", "r-1", "--answer", "card")
    found = json.loads(run("label", "triage", "--json", "-").out)["waiting"]
    assert [row["id"] for row in found] == ["r-3", "r-2"]


@pytest.mark.parametrize(("arguments", "said"), [
    (("triage", "--request", "r-1"), "--request and --answer belong together"),
    (("triage", "--answer", "card"), "--request and --answer belong together"),
    (("triage", "--request", "r-9", "--answer", "card"), "no request of task 'triage' (it is not in the ledger)"),
    (("triage", "--request", "o-1", "--answer", "card"), "(it is of task 'other')"),
    (("triage", "--request", "r-1", "--answer", "crad"), "'crad' is no answer of task 'triage'; one of 'card', 'ref"),
    (("triage", "--request", "r-1", "--answer", " "), "The answer is empty"),
    (("nobody",), "known are triage"),
])  # fmt: skip
def test_mistakes_are_told_and_nothing_is_recorded(run, registered, recorded, home, arguments, said):
    registered()
    recorded("r-1")
    recorded("o-1", task="other")
    done = run("label", *arguments)
    assert done.code == 2 and said in done.err
    with Registry.open(home) as registry:
        assert registry.outgoing_feedback() == ()
    assert gold(home) == gold(home, "o-1") == []


def test_without_a_ledger_or_known_answers_there_is_nothing_to_label(run, registered, recorded, damage):
    registered()
    assert "There is no ledger in" in run("label", "triage").err
    recorded("o-1", task="other")
    assert "Nothing to label for triage" in run("label", "triage").out
    damage()
    done = run("label", "triage")
    assert done.code == 2 and "answers of task 'triage' are not known" in done.err


def test_while_a_gateway_writes_the_ledger_answers_wait_for_it(run, registered, recorded, home):
    registered()
    recorded("r-1")
    with Ledger.open(home, clock=lambda: NOON), Registry.open(home) as registry:
        done = run("label", "triage", "--request", "r-1", "--answer", "card")
        assert done.code == 0 and "The running gateway writes the ledger and takes it over." in done.out
        assert [each.answer for each in registry.outgoing_feedback()] == ["card"]
    assert gold(home) == []
    run("label", "triage")  # whoever comes next takes along what waits
    assert gold(home) == [("card", getuser(), Source.LABEL)]


def test_answers_of_the_review_queue_become_gold_too(run, registered, recorded, home):
    registered()
    recorded("r-1", "r-2", outcome=Outcome.KEPT)
    with Registry.open(home) as registry:
        registry.ask_review("r-1", "triage", "text of r-1", "card", NOON)
        registry.ask_review("r-9", "triage", "of no ledger", "card", NOON)
    assert run("review", "r-1", "--answer", "refund", "--who", "ada").code == 0
    assert gold(home) == [("refund", "ada", Source.REVIEW)]
    done = run("review", "r-9", "--answer", "refund")
    assert done.code == 0 and gold(home, "r-9") == []
    with Ledger.open(home, clock=lambda: NOON), Registry.open(home) as registry:
        registry.ask_review("r-2", "triage", "text of r-2", "card", NOON)
        assert "note: The running gateway writes the ledger" in run("review", "r-2", "--answer", "card").err


def rows(*names):
    return [
        LedgerRow(1, Decision(name, NOON, Outcome.ESCALATED, Reason.BELOW_THRESHOLD, "triage", 1), None, (),
                  Content(name, NOON, "triage", "a text", reference="card"), None, False)
        for name in names
    ]  # fmt: skip


def ask(space, names, *typed):
    said, recorded = iter(typed), []
    with open(os.devnull, "w") as nowhere:
        given = ask_each(rows(*names), space, lambda prompt: next(said), Console(file=nowhere), recorded.append)
    assert [each for one in recorded for each in one.items()] == list(given.items())
    return given, list(said)


def test_a_person_answers_skips_and_ends():
    card, refund = '{"label": "Card"}', '{"label": "Refund"}'
    assert ask(SPACE, "abcd", "card", "-", "2", "q") == ({"a": card, "c": refund}, [])
    assert ask(SPACE, "ab", "crad", "", "3", "1", " REFUND ") == ({"a": card, "b": refund}, [])
    assert ask(SPACE, "ab", "q", "card") == ({}, ["card"])


def test_words_of_the_prompt_that_are_answers_are_answers():
    space = learn_answers(["-", "q", "1"] * 8)
    given, left = ask(space, "abc", "q", "-", "1")
    assert given == {"a": "q", "b": "-", "c": "1"} and left == []


def test_on_a_terminal_it_asks_and_what_was_said_stays(home, tmp_path, registered, recorded):
    registered()
    recorded("r-1", "r-2")
    ours, theirs = pty.openpty()
    child = subprocess.Popen(command("label", "triage", "--who", "ada"), stdin=theirs, stdout=theirs, stderr=theirs,
                             cwd=tmp_path, env=environment(home))  # fmt: skip
    os.write(ours, b"nonsense\n2\nq\n")
    assert child.wait(timeout=120) == 0
    shown = os.read(ours, 100_000).decode()
    os.close(ours), os.close(theirs)
    assert "request r-1, escalated" in shown and "@1 differed from it, score 0.1000" in shown
    assert "is no answer of this task" in shown and "number or answer (- skips, q ends)" in shown
    assert "1 answers were recorded as gold references of triage" in shown and "\x1b[2J" not in shown
    assert gold(home) == [("refund", "ada", Source.LABEL)] and gold(home, "r-2") == []
