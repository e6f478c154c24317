"""The verifier for strangers, run as they run it: what it takes, what it finds, and what it says it does not know."""

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from insource.governance.verifier import verify_ledger
from insource.store.ledger import Ledger
from insource.store.proof.proving import Prover
from insource.types import Content, Decision, Outcome, Reason, Settlement
from reliability.load import NOON


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A home with a ledger of two sessions, a proof, an export with texts, the key, and checkpoints kept elsewhere."""
    folder = tmp_path_factory.mktemp("stranger")
    for start in (0, 12):
        with Ledger.open(folder / "home", clock=lambda: NOON) as ledger:
            for number in range(start, start + 12):
                decision = Decision(f"r-{number}", NOON, Outcome.ACCEPTED, Reason.ABOVE_THRESHOLD, task="t", version=1)
                ledger.append_now(decision, Content(f"r-{number}", NOON, "t", f"caf\u00e9 {number}"), keep_text=True)
                ledger.settle(Settlement(f"r-{number}", NOON, 200, "t@1", 0.1))
        with Prover(folder / "home") as prover:
            (folder / f"kept-{start}").write_text(prover.note)
    with Prover(folder / "home") as prover:
        (folder / "proof.json").write_text(json.dumps(prover.prove("r-3")))
        span = prover.span(None, None)
        lines = prover.export(span, contents=True, report=lambda done, of: None)
        (folder / "export.jsonl").write_bytes(b"".join(lines))
        (folder / "key").write_text(prover.key() or "")
    return folder


def check(*arguments):
    told = []
    return verify_ledger.main([str(each) for each in arguments], told.append), "".join(told)


def test_it_runs_alone_in_a_bare_interpreter(made, tmp_path):
    copy = tmp_path / "verify_ledger.py"
    copy.write_text(Path(verify_ledger.__file__).read_text())
    for what in ("proof.json", "export.jsonl", "home"):
        command = [sys.executable, "-I", "-S", copy, made / what, "--key", (made / "key").read_text()]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0 and done.stdout.count("Established: ") == 1 and not done.stderr, done


def test_a_checkpoint_kept_elsewhere_belongs_to_the_history(made):
    for what in ("export.jsonl", "home"):
        code, told = check(made / what, "--checkpoint", made / "kept-0", "--checkpoint", made / "kept-12")
        assert code == 0, told
    assert check(made / "export.jsonl", "--checkpoint", made / "kept-0")[1].count("that you kept belongs to") == 1
    assert "has no proof for that size" in check(made / "proof.json", "--checkpoint", made / "kept-0")[1]


def test_it_says_what_it_cannot_establish(made):
    assert "that these are all rows about the request" in check(made / "proof.json")[1]
    assert "whose key this is" in check(made / "proof.json")[1]
    assert "whole history was not replaced" in check(made / "home")[1]
    assert "whose key this is" not in check(made / "home", "--key", (made / "key").read_text())[1]


def changed(made, name, old, new):
    text = (made / name).read_text()
    assert old in text
    path = made / f"changed-{name}"
    path.write_text(text.replace(old, new, 1))
    return path


@pytest.mark.parametrize(("name", "old", "new", "told"), [
    ("proof.json", r"\"outcome\":\"accepted\"", r"\"outcome\":\"kept\"", "row 8 (decisions) is not in the tree"),
    ("proof.json", '"index": 7', '"index": 6', "row 7 bears the number 8"),
    ("proof.json", '"request": "r-3"', '"request": "r-4"', "about another request"),
    ("proof.json", "\\n50\\n", "\\n49\\n", "not signed by the key"),
    ("export.jsonl", '"outcome":"accepted"', '"outcome":"kept"', "are not, in this order and number"),
    ("export.jsonl", '"seq":9', '"seq":8', "row 9 is missing, or another stands in its place"),
    ("export.jsonl", "caf\\u00e9 5", "tea 5", "the text of row"),
    ("export.jsonl", '"last": 50', '"last": 49', "WRONG: "),
])  # fmt: skip
def test_every_change_is_found(made, name, old, new, told):
    code, said = check(changed(made, name, old, new))
    assert code in (1, 2) and told in said, said


def test_another_key_or_history_is_found(made, tmp_path):
    with Ledger.open(tmp_path / "other", clock=lambda: NOON):
        pass
    with Prover(tmp_path / "other") as prover:
        (tmp_path / "kept").write_text(prover.note)
        other = prover.key()
    for what in ("proof.json", "export.jsonl", "home"):
        code, told = check(made / what, "--key", other)
        assert code == 1 and ("not signed by the key" in told or "does not name the key" in told)
    assert check(made / "export.jsonl", "--checkpoint", tmp_path / "kept")[0] == 1


def test_what_is_nothing_of_the_kind_is_said_so(tmp_path):
    (tmp_path / "x").write_text("no")
    for what in (tmp_path / "x", tmp_path / "missing", tmp_path):
        code, told = check(what)
        assert code == 2 and "cannot be read as a proof, an export or a ledger" in told


@given(key=st.binary(min_size=32, max_size=32), nonce=st.binary(min_size=12, max_size=12), data=st.binary(max_size=70),
       place=st.binary(max_size=40), flip=st.integers(0, 10_000))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_its_own_aes_gcm_opens_what_another_sealed_and_nothing_else(key, nonce, data, place, flip):
    sealed = nonce + AESGCM(key).encrypt(nonce, data, place)
    assert verify_ledger.open_sealed(key, place, sealed) == data
    altered = bytearray(sealed)
    altered[flip % len(sealed)] ^= 1 << flip % 8
    assert verify_ledger.open_sealed(key, place, bytes(altered)) is False
    assert verify_ledger.open_sealed(key, place + b"x", sealed) is False
    assert verify_ledger.open_sealed(key, place, sealed[:27]) is False


def test_its_own_aes_gives_the_published_vector():
    """FIPS 197, appendix C.3."""
    encrypt = verify_ledger.aes(bytes(range(32)))
    assert encrypt(0x00112233445566778899AABBCCDDEEFF) == 0x8EA2B7CA516745BFEAFC49904B496089


def test_texts_of_a_home_are_opened_with_its_keys_and_counted_without_them(made, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(made / "home", home)
    code, told = check(home)
    assert code == 0 and "; 24 kept texts match their rows." in told and "sealed texts say" not in told
    (home / "content_keys.db").rename(home / "away")
    code, told = check(home)
    assert code == 0 and "; 0 kept texts match" in told and "Not established: what 24 sealed texts say" in told
    (home / "away").rename(home / "content_keys.db")
    connection = sqlite3.connect(home / "ledger.db")
    connection.execute("DROP TRIGGER contents_are_not_changed")
    connection.execute(
        "UPDATE contents SET text = CAST(substr(text, 1, length(text) - 1) || x'00' AS BLOB) WHERE seq = 4"
    )
    connection.commit()
    connection.close()
    code, told = check(home)
    assert code == 1 and "the text of row 4 (decisions) is not the one that was recorded" in told
