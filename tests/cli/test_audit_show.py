"""`insource audit show`, as a person runs it."""

import json
import subprocess
import sys

import apsw
import pytest

from insource.governance.auditing import handing
from insource.store.ledger import FILE
from tests.governance import audited


@pytest.fixture
def filled(home):
    audited.fill(home)
    audited.configured(home)  # beside the home, where the command looks
    return home


def test_the_six_questions_are_answered_in_words_and_as_json(run, filled):
    done = run("audit", "show")
    assert done.code == 0, done.err
    for words in ("1. Which model answered", "triage@2 (artifact bbbbbbbbbbbbbbbb, threshold 0.42) answered 7 requests",
                  "3. Who approved it?", "put to serve by ada", "went to frontier for an answer",
                  "frontier is at api.example.com:8443", "6. Is the record complete?", "Not established:"):  # fmt: skip
        assert words in done.out
    data = json.loads(run("audit", "show", "--json", "-").out)
    assert data["format"] == "insource.answers/1" and (data["first"], data["last"]) == (1, data["signed"])


def test_a_span_and_a_task_and_one_request(run, filled):
    assert "Answers from the ledger: rows 4 to 9" in run(
        "audit", "show", "--since", "2026-11-21T12:00:01", "--until", "2026-11-21T12:00:04", "--task", "triage"
    ).out  # fmt: skip
    done = run("audit", "show", "up-public")
    assert "request up-public" in done.out and "rated public" in done.out and audited.CANARY in done.out


@pytest.mark.parametrize(("arguments", "told"), [
    (("r", "--since", "7d"), "stands for itself"),
    (("r", "--task", "triage"), "stands for itself"),
    (("--texts",), "--texts goes with --to"),
    (("r", "--texts", "--to", "out"), "--texts goes with --to"),
    (("unknown",), "No row of the ledger is about 'unknown'"),
    (("--since", "2027-01-01"), "No signed row"),
    (("--task", "triag"), "the name of a task was expected"),
    (("--task", "triag", "--to", "out"), "the name of a task was expected"),
    (("--to", "."), "is taken"),
])  # fmt: skip
def test_what_is_refused(run, filled, arguments, told):
    done = run("audit", "show", *arguments)
    assert done.code == 2 and told in " ".join(done.err.split())


def test_without_a_ledger_it_says_what_is_missing_and_makes_nothing(run, home):
    done = run("audit", "show", "--to", "out")
    assert done.code == 1 and "does not exist" in done.err and not home.exists()


def test_a_folder_is_handed_over_whole_and_checked_with_python_alone(run, filled, tmp_path):
    done = run("audit", "show", "--to", "out")
    assert done.code == 0 and "out: 27 statements proved by rows, 9 told. GUIDE.txt" in done.out
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {
        "GUIDE.txt", "answers.json", "answers.txt", "checkpoint.txt", "export.jsonl", "public-key.txt",
        "verify_ledger.py",
    }  # fmt: skip
    assert {path.stat().st_mode & 0o77 for path in (out, *out.iterdir())} == {0}
    command = [sys.executable, "-I", "verify_ledger.py", "export.jsonl", "--answers", "answers.json"]
    done = subprocess.run(command, cwd=out, capture_output=True, text=True)
    assert done.returncode == 0 and "27 statements of answers.json follow from these rows" in done.stdout
    assert run("audit", "show", "--to", "out").code == 2  # it is taken now


def test_what_fails_half_way_leaves_nothing(run, filled, tmp_path, monkeypatch):
    def fail(answers, file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(handing, "guide", fail)
    before = set(tmp_path.iterdir())
    done = run("audit", "show", "--to", "out")
    assert done.code == 2 and "out cannot be written" in done.err and set(tmp_path.iterdir()) == before


def test_altered_rows_are_not_answered(run, filled):
    connection = apsw.Connection(str(filled / FILE))
    connection.execute("DROP TRIGGER acts_are_not_changed; UPDATE acts SET who = 'bo' WHERE seq = 3")
    connection.close()
    done = run("audit", "show")
    assert done.code == 1 and "insource audit verify" in done.err and "Who approved" not in done.out
