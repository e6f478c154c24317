"""`insource export`: what it says and writes, how it refuses, and what a kill leaves."""

import json
import signal
import time

import pytest


def test_it_writes_the_folder_and_says_how_to_run_it(registered, run, tmp_path):
    registered()
    done = run("export", "triage", "--to", "out", "--json", "told.json")
    assert done.code == 0 and "python out/run.py" in done.out and "0.4200" in done.out and "http.server" not in done.out
    told = json.loads((tmp_path / "told.json").read_text())
    assert set(told["files"]) == {path.name for path in (tmp_path / "out").iterdir()}
    assert told["size_bytes"] == sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    assert (told["task"], told["version"], told["family"], told["threshold"]) == ("triage", 1, "linear", 0.42)
    assert told["checked"]["texts"] > 10 and told["checked"]["largest_difference"] <= 1e-5
    card = json.loads((tmp_path / "out" / "specialist.json").read_text())
    assert (
        card["name"] == "triage@1" and card["replies"] == ["card", "refund"] and card["promise"]["target_risk"] == 0.05
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nobody", "--to", "out"), "nobody"),
        (("triage@9", "--to", "out"), "no version 9"),
        (("triage", "--to", "taken"), "is taken"),
        (("triage", "--to", "out", "--web-runtime", "taken"), "missing or not that of"),
        (("triage",), "--to"),
    ],
)
def test_mistakes_of_the_person_end_with_2(registered, run, tmp_path, arguments, said):
    registered()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").write_text("x")
    done = run("export", *arguments)
    assert done.code == 2 and said in done.err and not (tmp_path / "out").exists()
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["mine"]


def test_damaged_bytes_are_not_exported(registered, run, damage, tmp_path):
    registered()
    damage()
    done = run("export", "triage", "--to", "out")
    assert done.code == 1 and "score.safetensors" in done.err and not (tmp_path / "out").exists()


def test_a_kill_leaves_no_folder_and_the_next_export_sweeps_its_draft(registered, run, started, tmp_path):
    registered()
    out = tmp_path / "out"
    child = started("export", "triage", "--to", str(out / "triage"))
    while not list(out.glob(".triage.*.insource-draft/*")):
        assert child.poll() is None and not (out / "triage").exists()
        time.sleep(0.001)
    child.send_signal(signal.SIGSTOP)
    (draft,) = out.iterdir()
    assert run("export", "triage", "--to", str(out / "other")).code == 0
    assert draft.is_dir(), "the draft of a living process was swept away"
    child.kill()
    child.wait()
    assert draft.is_dir() and not (out / "triage").exists()
    assert run("export", "triage", "--to", str(out / "third")).code == 0
    assert {path.name for path in out.iterdir()} == {"other", "third"}
