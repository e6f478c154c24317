"""`insource audit`: verify, prove, export, checkpoint, key, verifier and reconcile, as a person runs them."""

import json
import random
import subprocess
import sys

import pytest

from insource.store.ledger import Ledger
from insource.store.proof.folder import ProofFolder
from insource.types import Content, Decision, Outcome, Reason, Settlement
from reliability.alterations import metadata
from reliability.load import NOON


@pytest.fixture
def filled(home):
    with Ledger.open(home, clock=lambda: NOON) as ledger:
        for number in range(5):
            decision = Decision(f"r-{number}", NOON, Outcome.ACCEPTED, Reason.ABOVE_THRESHOLD, task="t", version=1)
            ledger.append_now(decision, Content(f"r-{number}", NOON, "t", "secret text"), keep_text=number < 3)
            ledger.settle(Settlement(f"r-{number}", NOON, 200, "t@1", 0.1))
    return home


def test_a_sound_ledger_is_told_with_what_cannot_be_established(run, filled):
    done = run("audit", "verify")
    assert done.code == 0
    assert "All 11 rows are there" in done.out and "3 sound, 2 kept as digests, 0 erased" in done.out
    for unknown in ("no checkpoint kept elsewhere", "whose key this is", "was true when it was written"):
        assert unknown in " ".join(done.out.split())
    data = json.loads(run("audit", "verify", "--json", "-").out)
    assert data["sound"] and data["signed"] == data["rows"] == 11 and data["first_bad_row"] is None


def test_a_changed_row_is_named_and_the_exit_code_says_so(run, filled):
    altered = metadata(filled, filled, random.Random(1))
    done = run("audit", "verify")
    assert done.code == 1 and "The ledger is not as it was written." in done.out
    assert f"row {altered.row} (" in done.out
    assert json.loads(run("audit", "verify", "--json", "-").out)["first_bad_row"] == altered.row


def test_the_key_and_a_checkpoint_from_outside(run, filled, tmp_path):
    key = run("audit", "key").out.strip()
    assert run("audit", "checkpoint", "--out", tmp_path / "kept").code == 0
    assert run("audit", "checkpoint").out == (tmp_path / "kept").read_text()
    done = run("audit", "verify", "--key", key, "--checkpoint", tmp_path / "kept")
    assert done.code == 0 and "whose key" not in done.out and "kept elsewhere" not in done.out
    other = key[:-4] + ("AAA=" if not key.endswith("AAA=") else "BBB=")
    assert run("audit", "verify", "--key", other).code == 1


def test_a_request_and_a_span_are_proved_to_strangers(run, filled, tmp_path):
    proof, export, verifier = tmp_path / "proof.json", tmp_path / "export.jsonl", tmp_path / "verify_ledger.py"
    assert "rows 6, 7 about r-2" in run("audit", "prove", "r-2", "--out", proof).out
    assert json.loads(run("audit", "prove", "r-2").out) == json.loads(proof.read_text())
    assert run("audit", "export", "--from", "2026-11-21", "--to", "2026-11-22", "--out", export).code == 0
    assert b"secret" not in export.read_bytes()
    assert run("audit", "verifier", "--out", verifier).code == 0
    for path in (proof, export):
        done = subprocess.run([sys.executable, "-I", verifier, path], capture_output=True, text=True)
        assert done.returncode == 0 and "Established" in done.stdout
    assert run("audit", "export", "--with-contents", "--out", export).code == 0
    assert export.read_bytes().count(b"secret text") == 3


def test_what_cannot_be_proved_is_said(run, filled, tmp_path):
    done = run("audit", "prove", "unknown")
    assert done.code == 2 and "No row of the ledger is about 'unknown'" in done.err
    done = run("audit", "export", "--from", "2027-01-01", "--out", tmp_path / "x")
    assert done.code == 2 and "No signed row" in done.err and not (tmp_path / "x").exists()


def test_without_a_ledger_every_subcommand_says_what_is_missing(run, tmp_path):
    for arguments in (("verify",), ("prove", "r"), ("key",), ("checkpoint",), ("export", "--out", tmp_path / "x")):
        done = run("audit", *arguments)
        assert done.code == 1 and "does not exist" in done.err, arguments
    assert run("audit", "reconcile", "--who", "ada", "--why", "x").code == 2


def test_reconciling_needs_a_reason_to_and_gives_a_new_key(run, filled):
    done = run("audit", "reconcile", "--who", "ada", "--why", "x")
    assert done.code == 2 and "Nothing is to be reconciled" in done.err
    old = run("audit", "key").out
    (filled / "proof" / "key").unlink()
    Ledger.open(filled, clock=lambda: NOON).close()
    assert run("audit", "verify").code == 1
    assert "NOT signed" in run("status").out and json.loads(run("status", "--json", "-").out)["proofs"]["refusal"]
    done = run("audit", "reconcile", "--who", "ada", "--why", "key lost")
    assert done.code == 0 and "there is no key" in done.out
    assert run("audit", "key").out not in ("", old)
    assert run("audit", "verify").code == 0 and ProofFolder(filled).refusal is None
    assert json.loads(run("status", "--json", "-").out)["proofs"]["refusal"] is None


def test_a_key_is_rotated_by_somebody_for_a_reason(run, filled):
    old = run("audit", "key").out
    assert run("audit", "key", "--rotate").code == 2
    new = run("audit", "key", "--rotate", "--why", "yearly").out
    assert new != old and run("audit", "key").out == new
    assert run("audit", "verify", "--key", old.strip()).code == 0


def test_the_witness_of_the_configuration_is_compared(run, filled, tmp_path):
    (tmp_path / "insource.toml").write_text("[store]\nwitness = 'kept'\n")
    (tmp_path / "kept").write_text(ProofFolder(filled).checkpoint())
    assert "kept elsewhere" not in run("audit", "verify").out
    (tmp_path / "kept").write_text("no checkpoint")
    assert run("audit", "verify").code == 1
    (tmp_path / "insource.toml").write_text("[store]\nwitness = 'home/x'\n")
    done = run("audit", "verify")
    assert done.code == 2 and "outside" in done.err
