"""`insource learn`: from the ledger to a candidate, what it says of what it left alone, and how it gives way."""

import json
import os
from datetime import UTC, datetime

import pytest

from insource.cli import learn
from insource.errors import UserError
from insource.store.ledger import Ledger
from insource.store.registry import Registry
from insource.types import Content, Decision, Outcome, Reason, Settlement


@pytest.fixture(autouse=True)
def unhurried(monkeypatch):
    """This process is the tests': it keeps its priority and its cores."""
    monkeypatch.setattr(learn, "give_way", lambda threads: 1)


@pytest.fixture
def collected(home, tickets, tmp_path):
    """A ledger of escalated requests whose texts were kept, and the configuration that keeps them."""
    (tmp_path / "insource.toml").write_text('[tasks.triage]\ncontent = "full"\n[tasks.other]\n')
    now = datetime.now(UTC)
    with Ledger.open(home, clock=lambda: now) as ledger:
        for n, line in enumerate(tickets(300)):
            name, text = f"r-{n}", line["text"]
            ledger.append_now(Decision(name, now, Outcome.ESCALATED, Reason.NO_SPECIALIST, "triage"),
                              Content(name, now, "triage", text), keep_text=True)  # fmt: skip
            ledger.settle(Settlement(name, now, 200, "up", 0.1),
                          Content(name, now, "triage", text, reference=line["answer"]), keep_text=True)  # fmt: skip


def test_it_registers_a_candidate_and_then_waits_for_more(run, collected):
    done = run("learn", "--family", "linear")
    assert done.code == 0, done.err
    assert done.out.startswith("triage@1 (linear) is a candidate: 300 references certify, 0 more teach, 0 are gold")
    assert "the steward takes it from here" in done.out
    assert "at low priority" in done.err
    done = run("learn", "--family", "linear")
    assert done.out == "triage: nothing to learn yet: 0 new references of 300; at least 60 were expected\n"
    found = json.loads(run("learn", "triage", "--anyway", "--family", "linear", "--json", "-").out)
    assert found["tasks"]["triage"]["version"] == 2
    assert found["tasks"]["triage"]["lessons"]["evidence"] == 300


def test_it_goes_on_with_base_and_balance_of_the_last_version(run, collected, tmp_path, home, tickets, tiny_base):
    path = tmp_path / "may.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in tickets(60)))
    chosen = ("--task", "triage", "--base", tiny_base, "--balance", 0.5)
    assert run("train", path, *chosen, "--family", "linear").code == 0
    for given, balance in (((), 0.5), (("--balance", 0), 0.0)):
        done = run("learn", "--family", "encoder-frozen", "--anyway", *given)
        assert done.code == 0, done.err
        with Registry.open(home) as registry:
            last = registry.versions("triage")[-1]
        told = last.lineage["recipe"]
        assert (last.family, told["base"], told["balance"]) == ("encoder-frozen", str(tiny_base), balance)


def test_what_cannot_be_learned_is_told(run, collected, tmp_path):
    done = run("learn", "other")
    assert done.code == 2 and 'content = "full" was expected' in done.err
    assert "neither configured nor trained" in run("learn", "nosuch").err
    (tmp_path / "insource.toml").write_text("[tasks.triage]\n")
    done = run("learn")
    assert done.code == 2 and "No task keeps its texts" in done.err


def test_without_a_ledger_it_says_so(run):
    done = run("learn")
    assert done.code == 2 and "There is no ledger in" in done.err


@pytest.mark.parametrize("flag", ["--anyway", "--new-answers", "--json=-"])
def test_what_is_a_person_s_judgement_is_not_repeated(run, flag):
    done = run("learn", "--watch", flag)
    assert done.code == 2 and "--watch excludes" in done.err


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("1h", 3600), ("2d", 172800)])
def test_pauses(text, seconds):
    assert learn.parse_pause(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "0h", "h", "1w", "-1h", "1.5h"])
def test_no_pauses(text):
    with pytest.raises(UserError):
        learn.parse_pause(text)


def test_it_gives_way_in_a_process_of_its_own(process, collected):
    done = process("learn", "--family", "linear", "--threads", "1")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(f"learning on 1 of {os.cpu_count()} cores, at low priority")
