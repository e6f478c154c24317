"""`insource train --show-suspects`: a list to look at, which changes nothing that is trained."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from insource.cli import train_suspects
from insource.cli.output import console

LINEAR = ("--task", "triage", "--family", "linear")


@pytest.fixture
def noisy(write_traffic, tickets) -> Path:
    """300 tickets, one in ten with a wrong answer; those are long, with a line end and a colour code."""
    lines = tickets(300, noise=0.15, told=0.9)
    for line in lines:
        if line["answer"] != line["gold"]:
            line["text"] = "dear\nsir \x1b[31m " + line["text"] + " and so on" * 20
    return write_traffic(lines)


def test_the_list(run, noisy):
    done = run("train", noisy, *LINEAR, "--show-suspects", "3")
    assert done.code == 0 and done.err == ""
    _, _, told = done.out.partition("answers that look wrong\n")
    rows = [line for line in told.splitlines() if line.strip().startswith("may:")]
    assert len(rows) == 3 and all(
        "dear sir \ufffd[31m" in row and "... " in row and row.strip().endswith(" %") for row in rows
    )
    said = " ".join(told.split())
    assert "\x1b" not in told and "look wrong to linear, 3 of them above; about" in said
    assert "Nothing was changed: mend the file, and train again." in said


def test_json_has_all_of_them_and_the_training_stays_the_same(run, noisy):
    plain = json.loads(run("train", noisy, *LINEAR, "--json", "-").out)
    done = run("train", noisy, *LINEAR, "--show-suspects", "3", "--json", "found.json")
    assert done.code == 0
    told = json.loads(Path("found.json").read_text())
    listed = told.pop("suspects")
    assert set(listed[0]) == {"request", "text", "given", "suggested", "sure"}
    assert 3 < len(listed) == told["label_noise"]["suspects"] and "\n" in listed[0]["text"]
    changing = ("version", "seconds", "latency_ms")
    assert {k: v for k, v in told.items() if k not in changing} == {k: v for k, v in plain.items() if k not in changing}


def test_where_nothing_looks_wrong(run, write_traffic, tickets):
    done = run("train", write_traffic(tickets(200, told=0.9)), *LINEAR, "--show-suspects")
    assert done.code == 0 and "answers that look wrong" not in done.out
    assert "0 look wrong to linear; about 0.0 % are wrong by estimate." in " ".join(done.out.split())


def test_where_nothing_was_cross_fitted_it_says_so(capsys):
    tuned = SimpleNamespace(version=SimpleNamespace(family="encoder"), figures=SimpleNamespace(noise=None))
    train_suspects.show(console(), tuned, 5)
    assert capsys.readouterr().out.strip().endswith("family encoder was not cross-fitted. Take --family auto.")
    assert train_suspects.listed(tuned) == {"suspects": []}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--no-certify",), "--show-suspects was given beside --no-certify, which cross-fits nothing. Drop one"),
        (("--tier", "house"), "--show-suspects was given beside --tier, which cross-fits nothing. Drop one of them."),
        (("--show-suspects", "0"), "0 is not in the range"),
        (("--show-suspects", "many"), "'many' is not a valid integer"),
    ],
)
def test_wrong_flags(run, noisy, flags, said):
    done = run("train", noisy, *LINEAR, *(() if "--show-suspects" in flags else ("--show-suspects",)), *flags)
    assert done.code == 2 and said in " ".join(done.err.split())
