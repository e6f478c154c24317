"""`insource backtest`: what it prints, the stable JSON, and what it refuses."""

import json
from pathlib import Path

import pytest

SHORT = ("--family", "linear", "--warmup", "250")
ISSUE = {"task", "requests", "skipped", "target_risk", "confidence_level", "warmup", "accepted", "audited",
         "upstream_calls", "coverage", "risk", "per_answer", "accuracy", "cost", "seconds", "versions",
         "timeline"}  # fmt: skip


@pytest.fixture
def month(write_traffic, tickets):
    return write_traffic(tickets(450, noise=0.02), "May 2026.jsonl")


def told(done):
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_what_is_printed(run, month):
    done = run("backtest", month, *SHORT)
    assert done.code == 0 and done.err == ""
    for said in ("backtest of may-2026", "450", "250 requests, all sent upstream", "at most 5.0 %: held",
                 "unknown: give --price-in and --price-out", "accuracy against gold", "coverage over time",
                 "from request"):  # fmt: skip
        assert said in done.out


def test_json_has_the_keys_the_issue_lists_and_a_seed_makes_it_the_same(run, month):
    first = told(run("backtest", month, *SHORT, "--json", "-"))
    assert set(first) >= ISSUE and first["task"] == "may-2026"
    again = told(run("backtest", month, *SHORT, "--json", "-"))
    assert {**again, "seconds": 0} == {**first, "seconds": 0}
    other = told(run("backtest", month, *SHORT, "--seed", "5", "--json", "-"))
    assert {**other, "seconds": 0} != {**first, "seconds": 0, "seed": 5}


def test_it_stores_nothing_and_needs_no_key(run, month, home):
    run("backtest", month, *SHORT)
    assert not (home / "registry.db").exists() and not (home / "ledger.db").exists()
    assert {path.name for path in home.iterdir()} <= {"artifacts"} and len(list((home / "artifacts").iterdir())) == 1


def test_prices_make_money(run, month):
    priced = told(
        run("backtest", month, *SHORT, "--price-in", "2.5", "--price-out", "10", "--currency", "EUR", "--json", "-")
    )
    assert priced["cost"]["currency"] == "EUR" and float(priced["cost"]["insource"]) < float(
        priced["cost"]["upstream_only"]
    )
    assert (
        "EUR instead of"
        in run("backtest", month, *SHORT, "--price-in", "2.5", "--price-out", "10", "--currency", "EUR").out
    )
    assert told(run("backtest", month, *SHORT, "--json", "-"))["cost"]["insource"] is None


def test_a_budget(run, write_traffic, tickets):
    month = write_traffic(tickets(400, noise=0.2, told=0.2))
    done = run("backtest", month, "--family", "linear", "--budget", "150", "--json", "found.json")
    assert "answered here" in done.out and "under a budget instead of a promise" in done.out
    found = json.loads(Path("found.json").read_text())
    assert found["upstream_calls"] == found["budget"] == 150


def test_the_promise_comes_from_flags_over_the_configuration(run, month, tmp_path):
    (tmp_path / "insource.toml").write_text("[tasks.sort]\ntarget_risk = 0.2\nconfidence_level = 0.9\n")
    found = told(run("backtest", month, *SHORT, "--task", "sort", "--json", "-"))
    assert (found["target_risk"], found["confidence_level"], found["task"]) == (0.2, 0.9, "sort")
    found = told(run("backtest", month, *SHORT, "--task", "sort", "--target-risk", "0.1", "--json", "-"))
    assert (found["target_risk"], found["confidence_level"]) == (0.1, 0.9)


def test_a_target_the_data_cannot_certify_is_no_error(run, month):
    done = run("backtest", month, *SHORT, "--target-risk", "0.001", "--json", "found.json")
    assert done.code == 0 and "0.0 % accepted (0)" in done.out
    assert "needs at least 2995. Collect more, or raise target_risk" in " ".join(done.out.split())
    assert json.loads(Path("found.json").read_text())["upstream_calls"] == 450


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("--budget", "50", "--target-risk", "0.1"),
            "--budget stands instead of --target-risk; one of the two was exp",
        ),
        (("--budget", "1"), "--budget is 1; at least 2 upstream calls were expected"),
        (("--warmup", "0"), "--warmup is 0; at least 1 request was expected"),
        (("--warmup", "450"), "450 requests with text and reference; more than the shadow period of 450 were expected"),
        (("--family", "svm"), "--family is 'svm'; one of auto, linear, static, two-tier, encoder-frozen was expected"),
        (("--target-risk", "0"), "--target-risk"),
        (("--audit-rate", "7"), "--audit-rate"),
        (("--price-in", "much"), "--price-in: upstreams.NAME.price_in is 'much'; an amount of at least 0"),
        (("--price-out", "-1"), "--price-out"),
        (("--price-out", "nan"), "--price-out"),
        (("--task", "no such name!"), "--task"),
        (("--seed", "-3"), "--seed"),
    ],
)
def test_wrong_flags(run, month, arguments, said):
    done = run("backtest", month, "--family", "linear", *arguments)
    assert done.code == 2 and said in " ".join(done.err.split()) and done.out == ""


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "has no lines; one JSON object on each line was expected"),
        (bytes(range(256)) * 9, "lines cannot be read"),
        (b'{"text": "caf\xe9", "answer": "a"}\n', "not UTF-8: byte 0xe9"),
        (b'{"text": "hello", "answer": "yes"}\n' * 700, "All 700 requests have the answer 'yes'; at least two"),
        (b'{"text": "hello"}\n' * 700, "None of 700 requests has both a text and a reference"),
        (b"".join(b'{"text": "t %d", "answer": "story %d"}\n' % (n, n) for n in range(700)), "700 distinct answers"),
        (b'{"text": "a", "answer": "x", "task": "one"}\n{"text": "a", "answer": "x", "task": "two"}\n',
         "holds 2 tasks: one, two; one was expected. Choose it with --task"),
    ],
)  # fmt: skip
def test_bad_input(run, write_traffic, data, said):
    done = run("backtest", write_traffic([data]), "--family", "linear")
    assert done.code == 2 and said in done.err and done.out == "" and "internal" not in done.err


def test_bad_lines_are_left_out_when_asked_and_counted(run, write_traffic, tickets):
    path = write_traffic([*tickets(400), b"\xff\n", {"text": "no reference"}])
    done = run("backtest", path, *SHORT, "--skip-bad", "--json", "found.json")
    assert "left out: 1 bad lines, 1 without a reference" in done.out
    found = json.loads(Path("found.json").read_text())
    assert (found["requests"], found["skipped"], found["unlabelled"]) == (400, 1, 1)


def test_ten_megabytes_in_one_text(run, write_traffic, tickets):
    lines = tickets(400)
    lines[300]["text"] = "card " * 2_000_000
    assert told(run("backtest", write_traffic(lines), *SHORT, "--json", "-"))["requests"] == 400
