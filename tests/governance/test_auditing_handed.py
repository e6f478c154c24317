"""What a stranger is handed: the guide's commands run in that folder alone, and whatever is altered is found."""

import json
import random
import shlex
import subprocess
import sys
from datetime import timedelta

import pytest

from insource.errors import StoreError
from insource.governance.auditing import answers as answering
from insource.governance.verifier import verify_ledger
from insource.governance.verifier.verify_ledger import SOURCES
from insource.store.proof.proving import Prover
from reliability.load import NOON
from tests.governance.audited import CANARY, Home, facts


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    return Home(tmp_path_factory.mktemp("audited"))


@pytest.fixture(scope="module")
def handed(filled, tmp_path_factory):
    """What a stranger is given."""
    folder = tmp_path_factory.mktemp("handed") / "out"
    filled.hand_over(folder)
    return folder


def verify(*arguments):
    told = []
    return verify_ledger.main([str(each) for each in arguments], told.append), "".join(told)


def test_what_is_handed_over_holds_no_text_unless_it_is_asked_for(filled, handed, tmp_path):
    assert not any(CANARY.encode() in path.read_bytes() for path in handed.iterdir())
    filled.hand_over(tmp_path / "texts", contents=True)
    assert CANARY.encode() in (tmp_path / "texts" / "export.jsonl").read_bytes()
    found = filled.hand_over(tmp_path / "one", request="here-0")
    assert not any(CANARY.encode() in path.read_bytes() for path in (tmp_path / "one").iterdir())
    assert facts(found, "accepted")[0]["requests"] == 1


@pytest.mark.parametrize("how", [{}, {"task": "triage"}, {"request": "up-0"}, {"since": NOON + timedelta(seconds=9)}])
def test_the_guide_s_commands_run_in_that_folder_alone(filled, tmp_path, how):
    folder = tmp_path / "out"
    filled.hand_over(folder, **how)
    guide = (folder / "GUIDE.txt").read_text()
    lines = guide.splitlines()
    commands = [number for number, line in enumerate(lines) if line.startswith("    python ")]
    assert len(commands) == (1 if "request" in how else 4) and len(lines) < 120
    for number in commands:
        _, *arguments = shlex.split(lines[number])
        done = subprocess.run([sys.executable, "-I", *arguments], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0 and not done.stderr, done
        if "-c" in arguments:
            assert f"    prints {done.stdout.strip()}" == lines[number + 1]
        else:
            assert "follow from these rows, and answers.txt says the same" in done.stdout
    key = (folder / "public-key.txt").read_text().strip()
    rest = next(folder / name for name in ("export.jsonl", "proof.json") if (folder / name).exists())
    code, told = verify(rest, "--answers", folder / "answers.json", "--key", key, "--checkpoint",
                        folder / "checkpoint.txt")  # fmt: skip
    assert code == 0 and "belongs to the same history" in told and "whose key" not in told


def scalars(value, path=()):
    if isinstance(value, dict | list):
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from scalars(inner, (*path, name))
    else:
        yield path


def altered(answers, path):
    copy = json.loads(json.dumps(answers))
    place = copy
    for name in path[:-1]:
        place = place[name]
    old = place[path[-1]]
    place[path[-1]] = {type(None): "x", bool: 1.5, int: 987_654, float: 0.5}.get(type(old), f"x{old}")
    return copy


def test_whatever_is_altered_in_answers_is_found(handed, tmp_path):
    """One value of each statement and proof, drawn at random, and each that stands alone; told facts are only told."""
    whole = json.loads((handed / "answers.json").read_text())
    (tmp_path / "answers.txt").write_text((handed / "answers.txt").read_text())
    chance, groups = random.Random(7), {}
    for path in scalars(whole):
        told = path[0] == "statements" and whole["statements"][path[1]]["source"] in SOURCES
        if not (told and path[2] in ("facts", "kind")):
            groups.setdefault(path[:3] if path[0] == "statements" else path[:2], []).append(path)
    drawn = [chance.choice(paths) for paths in groups.values()]
    assert len(drawn) > 150
    seen, of = verify_ledger.Seen(None), {}
    of = verify_ledger.check_export(handed / "export.jsonl", [], [], lambda line: None, seen.add)

    def check(answers):
        (tmp_path / "answers.json").write_text(json.dumps(answers))
        verify_ledger.check_answers(tmp_path / "answers.json", seen, of, [], lambda line: None)

    check(whole)
    for path in drawn:
        with pytest.raises((verify_ledger.Wrong, LookupError, ValueError, AttributeError, TypeError)):
            check(altered(whole, path))
            pytest.fail(f"{path} was altered and nobody noticed")


@pytest.mark.parametrize(("change", "told"), [
    (lambda found: found["statements"].pop(0), "the answers say"),
    (lambda found: found["statements"].append(found["statements"][0]), "the answers say"),
    (lambda found: found["proofs"].clear(), "the answers say"),
    (lambda found: found["not_established"].pop(), "do not say what is not established"),
    (lambda found: found.update(note="all is well"), "other fields"),
    (lambda found: found.update(task="other"), "the answers say"),
    (lambda found: found["proofs"][0].update(checkpoint="x\n1\n"), "another checkpoint"),
    (lambda found: next(each for each in found["statements"] if each["source"] == "registry").update(
        source="nobody"), "unknown source"),
    (lambda found: next(each for each in found["statements"] if each["source"] == "registry")["facts"].update(
        version="triage@2", digest="d" * 64), "with another one"),
])  # fmt: skip
def test_answers_that_were_written_anew_as_a_whole_are_found(filled, tmp_path, change, told):
    """Whoever changes answers.json and answers.txt together is found by the rows."""
    filled.hand_over(tmp_path / "out", since=NOON + timedelta(seconds=3))
    path = tmp_path / "out" / "answers.json"
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))
    (tmp_path / "out" / "answers.txt").write_text(verify_ledger.page(found))
    code, said = verify(tmp_path / "out" / "export.jsonl", "--answers", path)
    assert code == 1 and told in said, said


def forged(folder, proof, first, last, request):
    """Write what a forger would: a proof, and answers to its rows that pose as a span's or count rows anew."""
    seen = verify_ledger.Seen(None)
    for row in proof["rows"]:
        seen.add(json.loads(row["leaf"]))
    answers = {
        "format": verify_ledger.ANSWERS, "first": first, "last": last, "request": request, "task": None,
        "signed": int(proof["checkpoint"].split("\n")[1]), "key": proof["key"],
        "statements": verify_ledger.statements(seen, [], first, last), "proofs": [],
        "not_established": list(verify_ledger.NOT_ESTABLISHED),
    }  # fmt: skip
    folder.mkdir()
    (folder / "proof.json").write_text(json.dumps(proof))
    (folder / "answers.json").write_text(json.dumps(answers))
    (folder / "answers.txt").write_text(verify_ledger.page(answers))
    return verify(folder / "proof.json", "--answers", folder / "answers.json", "--key", proof["key"])


@pytest.mark.parametrize("marker", ["insource.proof/1", "insource.export/1"])
@pytest.mark.parametrize("request_", [None, "", "here-0"])
def test_chosen_rows_with_their_proofs_cannot_pose_as_a_whole_span(filled, tmp_path, marker, request_):
    with Prover(filled.home) as prover:
        proofs, last = [prover.prove(name) for name in ("here-0", "here-1", "kept-1")], prover.checkpoint.size
    rows = {row["index"]: row for proof in proofs for row in proof["rows"] if request_ in (None, "", proof["request"])}
    proof = {**proofs[0], "format": marker, "request": request_, "first": 1, "last": last,
             "rows": [rows[index] for index in sorted(rows)]}  # fmt: skip
    code, told = forged(tmp_path / "out", proof, 1, last, None)
    assert code == 1 and "follow from these rows" not in told, told


def test_a_row_that_stands_twice_in_a_proof_is_not_counted_twice(filled, tmp_path):
    with Prover(filled.home) as prover:
        proof = prover.prove("kept-1")
    assert forged(tmp_path / "whole", proof, None, None, "kept-1")[0] == 0
    again = [row for row in proof["rows"] if json.loads(row["leaf"])["kind"] == "feedback"]
    for name, rows in (("twice", [*proof["rows"], *again * 4]), ("turned", proof["rows"][::-1])):
        code, told = forged(tmp_path / name, {**proof, "rows": rows}, None, None, "kept-1")
        assert code == 1 and "stands twice, or out of its order" in told, told


@pytest.mark.parametrize("other", ["the key of the ministry, checked", "another ledger's"])
def test_the_key_that_answers_name_is_the_one_that_signed(filled, handed, tmp_path, other):
    lines = (handed / "export.jsonl").read_bytes().split(b"\n")
    answers = json.loads((handed / "answers.json").read_text())
    head, key = json.loads(lines[0]), answers["key"]
    if other == "another ledger's":
        other = Home(tmp_path).hand_over(tmp_path / "other")["key"]
    answers["key"], lines[0] = other, json.dumps({**head, "key": other}).encode()
    (tmp_path / "export.jsonl").write_bytes(b"\n".join(lines))
    (tmp_path / "answers.json").write_text(json.dumps(answers))
    (tmp_path / "answers.txt").write_text(verify_ledger.page(answers))
    code, told = verify(tmp_path / "export.jsonl", "--answers", tmp_path / "answers.json", "--key", key)
    assert code == 1 and ("is no public key" in told or "names another key" in told), told
    assert verify(handed / "export.jsonl", "--key", key, "--key", other if "+" in other else key)[0] == 0


def test_no_byte_of_the_printed_answers_may_differ(handed, tmp_path):
    """A carriage return alone hides the line before it on a terminal."""
    for name in ("export.jsonl", "answers.json"):
        (tmp_path / name).write_bytes((handed / name).read_bytes())
    printed = (handed / "answers.txt").read_bytes()
    for changed in (printed.replace(b"\n", b"\r\n"), printed.replace(b"\n     ", b"\r     ", 1)):
        (tmp_path / "answers.txt").write_bytes(changed)
        code, told = verify(tmp_path / "export.jsonl", "--answers", tmp_path / "answers.json")
        assert code == 1 and "answers.txt does not say" in told


def test_answers_of_one_task_are_said_to_be_that_and_go_with_no_request(filled, tmp_path):
    filled.hand_over(tmp_path / "one", task="other")
    told = verify(tmp_path / "one" / "export.jsonl", "--answers", tmp_path / "one" / "answers.json")[1]
    assert "of task 'other' alone, follow from these rows" in told
    filled.hand_over(tmp_path / "request", request="up-0")
    path = tmp_path / "request" / "answers.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "task": "other"}))
    code, told = verify(tmp_path / "request" / "proof.json", "--answers", path)
    assert code == 1 and "which goes with a span of rows" in told


def test_answers_go_with_their_own_rows(filled, handed, tmp_path):
    filled.hand_over(tmp_path / "late", since=NOON + timedelta(seconds=9))
    code, told = verify(tmp_path / "late" / "export.jsonl", "--answers", handed / "answers.json")
    assert code == 1 and "are about another first than the rows" in told
    assert "not with a whole ledger" in verify(filled.home, "--answers", handed / "answers.json")[1]
    (tmp_path / "late" / "answers.txt").write_text("All is well.\n")
    code, told = verify(tmp_path / "late" / "export.jsonl", "--answers", tmp_path / "late" / "answers.json")
    assert code == 1 and "answers.txt does not say what answers.json says" in told


def test_what_cannot_be_verified_is_not_handed_over(filled, tmp_path, monkeypatch):
    monkeypatch.setattr(answering, "NOT_ESTABLISHED", ("nothing",))
    with pytest.raises(StoreError, match="nothing is handed over"):
        filled.hand_over(tmp_path / "out")
