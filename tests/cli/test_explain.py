"""`insource explain`: a recorded request step by step, a text as the gateway would see it, and what decided."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest

import insource
from insource.store.ledger import Ledger
from insource.store.registry import Registry
from insource.types import Audit, Content, Decision, Doubt, Outcome, Reason, Settlement

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
ABOVE = (Outcome.ACCEPTED, Reason.ABOVE_THRESHOLD)


@pytest.fixture
def recorded(home):
    """Writes a decided, settled and audited request into the ledger; with its text where it was kept."""

    def write(name="r-1", *, text=None, task="triage", settled=True, why=ABOVE, **more):
        with Ledger.open(home, clock=lambda: NOON) as ledger:
            known = {"version": 1, "digest": "d" * 64, "score": 0.91, "threshold": 0.42} if task else {}
            known = {"audit_rate": 0.05, **known}
            decision = Decision(name, NOON, *why, task, audited=True, **{**known, **more})
            content = Content(name, NOON, task, text) if text else None
            ledger.append_now(decision, content, keep_text=text is not None)
            if settled:
                ledger.settle(Settlement(name, NOON, 200, "specialist:triage@1", 0.0021, cost=Decimal(0)))
                ledger.audit(Audit(name, NOON, "triage", 1, True, False))

    return write


def test_every_step_of_a_recorded_request(run, registered, recorded):
    registered()
    recorded(text="my card was stolen")
    done = run("explain", "r-1")
    assert done.code == 0
    for step in ("1. matched: task triage", "audit coin at 0.05, before anything was decided: picked",
                 "version: triage@1, artifact dddddddddddd", "score 0.9100 against threshold 0.4200",
                 "accepted: above_threshold", "served by specialist:triage@1, status 200, in 2.1 ms",
                 "audit: the specialist differed from the reference", "answer card (", "n-grams, in log-odds of card",
                 "“card”"):  # fmt: skip
        assert step in done.out


@pytest.mark.parametrize(("rate", "told"), [(1.0, True), (0.05, False)])
def test_a_request_audited_in_doubt_says_what_drifted(run, registered, recorded, home, rate, told):
    registered()
    run("promote", "triage@1")
    recorded(audit_rate=rate)
    with Registry.open(home) as registry:
        registry.raise_doubt(Doubt("triage", 1, NOON, ("scores",), 7, "steward", "scores: 30 % under 0.4"))
    steps = json.loads(run("explain", "r-1", "--json", "-").out)["steps"]
    found = [step for step in steps if step.startswith("in doubt since ")]
    assert found == ([f"in doubt since {NOON:%Y-%m-%d %H:%M} UTC (steward): scores: 30 % under 0.4"] if told else [])


def test_a_text_that_was_not_kept_is_asked_for(run, registered, recorded):
    registered()
    recorded()
    told = json.loads(run("explain", "r-1", "--json", "-").out)
    assert told["decided_by"] is None and "give it again with --text" in told["note"]
    assert "note: The text is not kept" in run("explain", "r-1").out


def test_a_request_of_no_task_and_one_that_was_cut_off(run, recorded):
    recorded(task=None, why=(Outcome.ESCALATED, Reason.NO_TASK), settled=False)
    done = run("explain", "r-1")
    assert done.code == 0 and "1. matched: no task" in done.out and "escalated: no_task" in done.out


def test_an_unknown_request(run, recorded):
    recorded()
    done = run("explain", "nope")
    assert done.code == 2 and "has no request 'nope'; the id from a reply's x-insource-request-id header" in done.err


def test_a_text(run, registered):
    registered()
    done = run("explain", "--text", "my card was stolen", "--task", "triage")
    assert done.code == 0
    assert "1. task triage, version triage@1" in done.out and "against threshold 0.4200" in done.out
    told = json.loads(run("explain", "--text", "my card was stolen", "--task", "triage@1", "--json", "-").out)
    assert set(told) == {"text", "steps", "decided_by", "family", "answer", "probability", "score", "threshold",
                         "runner_up", "runner_up_probability", "evidence"}  # fmt: skip
    assert (told["answer"], told["runner_up"], told["family"]) == ("card", "refund", "linear")
    assert told["evidence"][0]["kind"] == "n-gram" and told["steps"][-1].split(":")[0] in ("accepted", "escalated")


def test_a_version_without_a_threshold(run, registered):
    registered(calibration=None)
    done = run("explain", "--text", "my card", "--task", "triage")
    assert "no threshold: nothing is certified" in done.out and "escalated: no_threshold" in done.out


def test_a_text_is_seen_as_the_gateway_sees_it(run, write_traffic, tickets, home, tmp_path):
    """With messages = "all" the specialist sees the role before the text, in training, in serving and here."""
    (tmp_path / "insource.toml").write_text('[tasks.triage]\nmessages = "all"\n')
    assert run("train", write_traffic(tickets(100)), "--task", "triage", "--family", "linear").code == 0
    told = json.loads(run("explain", "--text", "card", "--task", "triage", "--json", "-").out)
    specialist = insource.load("triage", home=home)._specialist
    assert told["score"] == specialist.answer_text("user: card")[1] != specialist.answer_text("card")[1]


@pytest.mark.parametrize("text", ["x" * 10_000_000, "\x00\x1b[2J\ufffd", "漢字"])
def test_odd_texts(run, registered, text):
    registered()
    done = run("explain", "--text", text[:100_000], "--task", "triage")
    assert done.code == 0 and "\x1b" not in done.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "explain takes either a REQUEST_ID or --text; one of the two was expected"),
        (("r-1", "--text", "x", "--task", "triage"), "explain takes either a REQUEST_ID or --text"),
        (("--text", "x"), "--text was given without a task; name the task beside it: --task NAME"),
        (
            ("--text", " \n", "--task", "triage"),
            "--text is blank (' \\n'); a text was expected. The gateway sends such",
        ),
        (("--text", "x", "--task", "other"), "Task 'other' has no version here"),
        (("--text", "x", "--task", "triage@9"), "Task 'triage' has no version 9"),
    ],
)
def test_what_it_refuses(run, registered, arguments, said):
    registered()
    done = run("explain", *arguments)
    assert done.code == 2 and said in done.err


def test_a_damaged_artifact_is_refused(run, registered, damage):
    registered()
    damage()
    done = run("explain", "--text", "my card", "--task", "triage")
    assert done.code == 1 and done.out == "" and "does not match its digest" in done.err


def test_the_nearest_rows_of_an_encoder_are_shown_on_one_line(run, write_traffic, tickets, tiny_base, home):
    lines = tickets(60)
    lines[0]["text"] = "my card\n\nwas\tstolen " + "and then " * 500
    path = write_traffic(lines)
    made = run("train", path, "--task", "triage", "--family", "encoder-frozen", "--base", tiny_base)
    assert made.code == 0, made.err
    done = run("explain", "--text", lines[0]["text"], "--task", "triage")
    assert (
        "nearest training rows" in done.out and "…" in done.out and "my card was stolen" in " ".join(done.out.split())
    )
    told = json.loads(run("explain", "--text", lines[0]["text"], "--task", "triage", "--json", "-").out)
    assert told["evidence"][0]["text"] == lines[0]["text"] and told["evidence"][0]["answer"] == lines[0]["answer"]
    for kept in (home / "snapshots").iterdir():
        kept.unlink()
    told = run("explain", "--text", "card", "--task", "triage").out
    assert "(this row of the training snapshot is not kept any more)" in " ".join(told.split())


def test_without_a_ledger_it_says_who_writes_one(run):
    found = run("explain", "abc")
    assert found.code == 2
    assert "There is no ledger in" in found.err and "`insource serve`" in found.err
