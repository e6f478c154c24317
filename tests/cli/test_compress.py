"""`insource compress`: the table, the JSON, and what it refuses."""

import json
import shutil

import pytest
from click.testing import CliRunner

from insource.cli.main import cli


@pytest.fixture(scope="module")
def made(tmp_path_factory, tickets, tiny_base):
    """A home with a version in it, to be copied."""
    folder = tmp_path_factory.mktemp("made")
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in tickets(160)))
    chosen = ("--family", "encoder-frozen", "--base", tiny_base, "--precision", "fp32")
    command = ("--home", folder / "home", "train", path, "--task", "triage", *chosen, "--target-risk", "0.2")
    assert CliRunner().invoke(cli, list(map(str, command))).exit_code == 0
    return folder / "home"


@pytest.fixture
def trained(run, home, made):
    shutil.copytree(made, home)


def test_the_table_shows_both_versions_and_the_json_says_the_same(run, trained):
    done = run(
        "compress", "triage", "--layers", 1, "--vocabulary", "--quantise", "int8", "--most-loss", 1, "--json", "f"
    )
    assert done.code == 0, done.err
    for told in ("triage@2, a candidate compressed from triage@1, on ", "accuracy", "says the same", "size", " points",
                 "one answer, p50", "x as fast", "energy of 1,000 answers, m"):  # fmt: skip
        assert told in done.out
    with open("f") as file:
        told = json.load(file)
    assert (told["task"], told["version"], told["compressed_from"], told["precision"]) == ("triage", 2, 1, "int8")
    assert told["how"] == {"layers": 1, "vocabulary": True, "quantise": "int8"}
    assert told["result"]["size_bytes"] < told["source"]["size_bytes"] and 0 <= told["agreement"] <= 1
    assert told["calibration"]["target_risk"] == 0.2 and told["energy"] in ("modelled", "measured")
    listed = json.loads(run("tasks", "triage", "--json", "-").out)
    assert [each["version"] for each in listed["versions"]] == [1, 2]


def test_a_version_of_what_was_compressed_serves(run, trained, write_traffic, tickets):
    assert run("compress", "triage", "--width", 0.5, "--heads", 0.5, "--most-loss", 1).code == 0
    told = json.loads(run("evaluate", "triage@2", write_traffic(tickets(40, seed=1)), "--json", "-").out)
    assert told["rows"] == 40


def test_too_great_a_loss_ends_with_its_own_error(run, trained):
    done = run("compress", "triage", "--layers", 1, "--least-agreement", 1, "--most-loss", 1)
    assert done.code == 1 and "Nothing was kept" in done.err and "agree to a greater loss" in done.err
    assert len(json.loads(run("tasks", "triage", "--json", "-").out)["versions"]) == 1


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ((), "Nothing was said of how"),
        (("--heads", 1), "0<x<1"),
        (("--layers", 9), "as there are 2"),
        (("--quantise", "int2"), "int2"),
    ],
)
def test_what_makes_no_sense_ends_with_code_2(run, trained, choices, said):
    done = run("compress", "triage", *choices)
    assert done.code == 2 and said in done.err
