"""`insource evaluate`: figures of a registered version on labelled lines, its mistakes, and what it refuses."""

import json
from pathlib import Path

import pytest

from insource.store.registry import Registry

ISSUE = {"task", "version", "rows", "accuracy", "macro_f1", "coverage", "selective_risk", "per_answer", "latency_ms",
         "texts_per_second"}  # fmt: skip
BESIDE = {"threshold", "skipped", "left_out", "outside", "per_field"}


@pytest.fixture
def trained(run, write_traffic, tickets):
    assert run("train", write_traffic(tickets(300), "train.jsonl"), "--task", "triage", "--family", "linear").code == 0


def test_json_has_the_keys_the_issue_lists(run, trained, write_traffic, tickets):
    path = write_traffic(tickets(120, seed=1))
    told = json.loads(run("evaluate", "triage", path, "--json", "-").out)
    assert set(told) == ISSUE | BESIDE
    assert (told["task"], told["version"], told["rows"], told["left_out"], told["outside"]) == ("triage", 1, 120, 0, 0)
    assert told["accuracy"] > 0.95 and told["coverage"] == 1.0 and told["selective_risk"] == 1 - told["accuracy"]
    assert {row["answer"] for row in told["per_answer"]} == {"card", "refund", "transfer"}
    again = json.loads(run("evaluate", "triage@1", path, "--json", "-").out)
    measured = ("latency_ms", "texts_per_second")
    assert {k: v for k, v in again.items() if k not in measured} == {k: v for k, v in told.items() if k not in measured}


def test_what_is_printed(run, trained, write_traffic, tickets):
    done = run("evaluate", "triage", write_traffic([*tickets(60, seed=1), {"text": "what?", "answer": "never seen"}]))
    assert done.code == 0
    for told in ("triage@1", "61 (1 outside the set)", "accuracy", "most often confused", "texts/s", "p50"):
        assert told in done.out


def test_gold_counts_over_the_teacher_s_answer(run, trained, write_traffic, tickets):
    lines = [{**line, "answer": "refund"} for line in tickets(80, seed=1)]
    assert json.loads(run("evaluate", "triage", write_traffic(lines), "--json", "-").out)["accuracy"] > 0.9
    without = [{"text": line["text"], "answer": "refund"} for line in lines]
    assert json.loads(run("evaluate", "triage", write_traffic(without), "--json", "-").out)["accuracy"] < 0.6


def test_the_mistakes_are_written_the_surest_first(run, trained, write_traffic, tickets):
    lines = [{**line, "gold": "card"} for line in tickets(60, seed=1)]
    done = run("evaluate", "triage", write_traffic(lines), "--errors", "mistakes.jsonl", "--json", "found.json")
    rows = [json.loads(line) for line in Path("mistakes.jsonl").read_text().splitlines()]
    found = json.loads(Path("found.json").read_text())
    assert len(rows) == round(60 * (1 - found["accuracy"])) > 20
    assert set(rows[0]) == {"text", "reference", "answer", "score", "accepted"}
    assert all(row["reference"] == "card" != row["answer"] for row in rows)
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
    assert f"{len(rows)} mistakes, the surest first: mistakes.jsonl" in done.out


def test_lines_that_cannot_be_measured_are_counted(run, trained, write_traffic, tickets):
    path = write_traffic([*tickets(30), {"text": "no reference"}, {"text": " ", "answer": "card"}, b"\xff\n"])
    assert run("evaluate", "triage", path).code == 2
    told = json.loads(run("evaluate", "triage", path, "--skip-bad", "--json", "-").out)
    assert (told["rows"], told["left_out"], told["skipped"]) == (30, 2, 1)


def test_a_version_without_a_threshold_accepts_nothing(run, registered, write_traffic, home):
    registered(calibration=None)
    path = write_traffic([{"text": "my card was stolen", "answer": "card"}] * 5)
    told = json.loads(run("evaluate", "triage", path, "--json", "-").out)
    assert (told["coverage"], told["selective_risk"], told["threshold"]) == (0.0, None, None)
    assert "nothing accepted" in run("evaluate", "triage", path).out


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("other", "Task 'other' has no version here"),
        ("triage@7", "Task 'triage' has no version 7; it has"),
        ("triage@x", "'triage@x' names no version; NAME or NAME@V was expected"),
    ],
)
def test_unknown_names(run, registered, traffic, name, said):
    registered()
    done = run("evaluate", name, traffic)
    assert done.code == 2 and said in done.err


def test_what_holds_no_labelled_line(run, registered, write_traffic):
    registered()
    done = run("evaluate", "triage", write_traffic([{"text": "who are you?"}]))
    assert done.code == 2 and "has no line with both a text and a reference; evaluate needs labelled lines" in done.err
    assert "has no lines" in run("evaluate", "triage", write_traffic([])).err
    other = write_traffic([{"text": "a", "answer": "card", "task": "sort"}])
    assert "belongs to task 'triage'; its lines name: sort" in run("evaluate", "triage", other).err


def test_a_damaged_artifact_is_refused_and_stays_registered(run, registered, traffic, damage, home):
    registered()
    assert run("evaluate", "triage", traffic).code == 0
    damage()
    done = run("evaluate", "triage", traffic)
    assert done.code == 1 and done.out == ""
    assert "score.safetensors does not match its digest: expected" in done.err and "Train the version again" in done.err
    with Registry.open(home) as registry:
        assert registry.get("triage").version == 1
