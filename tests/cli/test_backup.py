"""`insource backup`: what it says, refuses and records, and what a kill leaves."""

import json
import re
import resource
import time
from contextlib import closing
from pathlib import Path

import pytest

import insource
from insource.store.database import open_database, transaction
from insource.store.ledger import Ledger
from insource.store.migrations import REGISTRY
from insource.store.registry import FILE, Registry
from insource.types import Content, Decision, Outcome, Reason
from reliability.load import NOON

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture
def filled(home, registered):
    registered()
    with Ledger.open(home, clock=lambda: NOON) as ledger:
        for number in range(5):
            decision = Decision(f"r-{number}", NOON, Outcome.ACCEPTED, Reason.ABOVE_THRESHOLD, task="t", version=1)
            ledger.append_now(decision, Content(f"r-{number}", NOON, "t", "secret text"), keep_text=True)
    return home


def test_it_says_what_is_in_it_and_what_is_not_and_records_who_and_why(run, filled, tmp_path):
    (tmp_path / "insource.toml").write_text("[gateway]\nport = 8601\n")
    done = run("backup", "--to", "safe/monday", "--who", "ada", "--why", "every night")
    assert done.code == 0, done.err
    assert "6 rows of the ledger, as they were written (6 signed); 1 versions, 1 artifacts" in done.out
    assert "content_keys.db" in done.out and "the key that signs proofs" in done.out
    folder = tmp_path / "safe" / "monday"
    assert [path.name for path in folder.parent.iterdir()] == ["monday"] and folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "insource.toml").read_text() == (tmp_path / "insource.toml").read_text()
    with Registry.open(filled) as registry:
        ((_, act),) = registry.outgoing_acts()
        assert (act.who, act.what, act.subject) == ("ada", "backup", "monday")
        assert re.fullmatch(r"6 rows, backup\.json [0-9a-f]{64}; every night", act.detail)


def test_the_result_as_json(run, filled, tmp_path):
    done = run("backup", "--to", "monday", "--json", "-")
    data = json.loads(done.out)
    told = json.loads((tmp_path / "monday" / "backup.json").read_text())
    assert data["folder"] == str(tmp_path / "monday") and data["time"] == told["time"] and data["missing"] == []
    assert (data["rows"], data["root"], data["files"]) == (6, told["ledger"]["root"], len(told["files"]))
    page = (DOCS / "reference" / "json.md").read_text("utf-8")
    part = page.split("## `insource backup`\n")[1].split("\n## ")[0]
    named = {name.removesuffix("[]") for row in re.findall(r"^\| (.+?) \|", part, re.MULTILINE)
             for name in re.findall(r"`([\w\[\]]+)`", row)}  # fmt: skip
    assert named == data.keys()


def test_the_specialist_of_a_restored_home_answers(run, filled, tmp_path):
    assert run("backup", "--to", "monday").code == 0
    assert "triage" in run("tasks", home=tmp_path / "monday").out
    assert insource.load("triage@1", home=tmp_path / "monday")("my card was stolen").answer == "card"


def test_a_folder_that_is_taken_or_in_the_home_is_refused(run, filled, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").write_text("mine")
    (tmp_path / "link").symlink_to(filled)
    for folder, told in (("taken", "is taken"), (filled / "backups", "lies in the home"), (filled, "is taken"),
                         ("link/backups", "lies in the home"), ("taken/mine", "is taken")):  # fmt: skip
        done = run("backup", "--to", folder)
        assert done.code == 2 and told in done.err, (folder, done.err)
    assert (tmp_path / "taken" / "mine").read_text() == "mine" and not (filled / "backups").exists()
    (tmp_path / "empty").mkdir()
    assert run("backup", "--to", "empty").code == 0


def test_what_is_damaged_leaves_no_folder_and_no_act(run, filled, damage, tmp_path):
    damage()
    done = run("backup", "--to", "monday")
    assert done.code == 1 and "score.safetensors" in done.err and "home/artifacts" in done.err
    assert not (tmp_path / "monday").exists() and not list(tmp_path.glob(".monday*"))
    with Registry.open(filled) as registry:
        assert registry.outgoing_acts() == ()


def test_a_home_with_nothing_in_it_is_refused_and_not_made(run, home, tmp_path):
    done = run("backup", "--to", "monday")
    assert done.code == 2 and "nothing to back up" in done.err
    assert not home.exists() and not (tmp_path / "monday").exists()


def test_a_full_disk_leaves_nothing_half(run, filled, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, limits[1]))
    try:
        done = run("backup", "--to", "out/monday")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert done.code == 1 and "No room left" in done.err
    assert list((tmp_path / "out").iterdir()) == []


def test_a_kill_leaves_no_folder_and_the_next_backup_sweeps_its_draft(filled, run, started, tmp_path):
    out = tmp_path / "out"
    path = filled / FILE
    connection = open_database(path, migrations=REGISTRY)
    with closing(connection), transaction(connection, path):  # it waits for this, in the middle
        child = started("backup", "--to", str(out / "monday"))
        while not list(out.glob(".monday.*.insource-draft/proof/checkpoint")):
            assert child.poll() is None and not (out / "monday").exists()
            time.sleep(0.001)
        child.kill()
        assert child.wait() == -9
    assert not (out / "monday").exists() and len(list(out.iterdir())) == 1
    assert run("backup", "--to", str(out / "tuesday")).code == 0
    assert [path.name for path in out.iterdir()] == ["tuesday"]
