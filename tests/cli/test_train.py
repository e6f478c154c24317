"""`insource train`: what it prints and writes, and every bad input with what it says; nothing stored is ever lost."""

import json
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from insource.store.artifacts import ArtifactStore
from insource.store.registry import Registry

ISSUE = {"task", "version", "family", "digest", "artifact", "rows", "test", "calibration", "size_bytes", "latency_ms",
         "seconds"}  # fmt: skip
LINEAR = ("--task", "triage", "--family", "linear")


def stored(home):
    """Every version, each of whose artifacts is verified byte by byte; and that no draft was left behind."""
    with Registry.open(home) as registry:
        versions = registry.versions("triage")
    store = ArtifactStore(home)
    assert not list((home / "artifacts" / ".drafts").iterdir()) and not list(home.rglob("*.draft"))
    return [(version.name, store.open(version.digest).digest) for version in versions]


@pytest.fixture
def before(run, write_traffic, tickets, home):
    """A version that was trained earlier."""
    assert run("train", write_traffic(tickets(60), "earlier.jsonl"), *LINEAR).code == 0
    return stored(home)


def test_what_is_printed(run, write_traffic, tickets):
    done = run("train", write_traffic(tickets(400)), *LINEAR, "--guard", "card=0.2")
    assert done.code == 0 and done.err == ""
    assert done.out.startswith("triage@1, a candidate\n")
    for told in ("linear was asked for", "3 in a closed set", "0 bad · 0 without a reference", "accepts 100.0 %",
                 "at confidence 0.95", "guard card", "(limit 20.0 %)", "Next: insource promote triage@1"):  # fmt: skip
        assert told in done.out


def test_json_has_the_keys_the_issue_lists(run, write_traffic, tickets, home):
    told = json.loads(run("train", write_traffic(tickets(300)), *LINEAR, "--json", "-").out)
    assert set(told) >= ISSUE
    assert set(told["rows"]) == {"train", "calibration", "test"} and set(told["test"]) == {"accuracy", "macro_f1"}
    assert set(told["calibration"]) >= {"threshold", "coverage", "risk_upper_bound"}
    assert set(told["latency_ms"]) == {"p50", "p99"} and told["size_bytes"] > 1_000
    assert ArtifactStore(home).open(told["digest"]).folder == Path(told["artifact"])


def test_the_methods(run, write_traffic, tickets):
    path = write_traffic(tickets(300))
    methods = {
        flag: json.loads(run("train", path, *LINEAR, *([flag] if flag else []), "--json", "-").out)
        for flag in ("", "--strict", "--no-certify")
    }
    assert methods[""]["calibration"]["method"] == "cross-fit"
    assert methods["--strict"]["calibration"]["method"] == "strict"
    assert (
        methods["--strict"]["rows"]["calibration"] + methods["--strict"]["rows"]["train"]
        == methods[""]["rows"]["train"]
    )
    assert methods["--no-certify"]["calibration"] is None and methods["--no-certify"]["rows"]["train"] == 300
    done = run("train", path, *LINEAR, "--no-certify")
    assert "Nothing was certified (--no-certify), so it will accept nothing." in done.out
    done = run("train", path, *LINEAR, "--strict", "--no-certify")
    assert done.code == 2 and "--strict and --no-certify exclude each other" in done.err
    done = run("train", path, "--task", "triage", "--no-certify")
    assert done.code == 2 and "--no-certify measures nothing to choose by; name a --family beside it" in done.err


def test_auto_says_why_with_a_base_of_ones_own(run, write_traffic, tickets, tiny_base):
    done = run("train", write_traffic(tickets(200, noise=0.2)), "--task", "triage", "--base", tiny_base)
    assert done.code == 0 and "encoder-frozen certifies" in " ".join(done.out.split())


def test_a_seed_makes_the_same_json(run, write_traffic, tickets):
    path = write_traffic(tickets(200, noise=0.05))

    def told(seed):
        found = json.loads(run("train", path, *LINEAR, "--seed", seed, "--json", "-").out)
        return {key: value for key, value in found.items() if key not in ("seconds", "latency_ms", "version")}

    assert told(3) == told(3) != told(4)
    assert "not in the range" in run("train", path, *LINEAR, "--seed", "-1").err


def test_a_target_the_data_cannot_certify_is_no_error(run, write_traffic, tickets, home):
    done = run("train", write_traffic(tickets(60)), *LINEAR, "--target-risk", "0.01", "--json", "found.json")
    assert done.code == 0
    assert "accepts nothing" in done.out and "Next: insource promote" not in done.out
    said = " ".join(done.out.split())
    assert (
        "note: 5" in said and "target_risk 0.01 at confidence level 0.95 needs at least 299. Collect more, or" in said
    )
    found = json.loads(Path("found.json").read_text())
    assert found["calibration"]["threshold"] is None and found["calibration"]["coverage"] == 0.0
    with Registry.open(home) as registry:
        assert registry.get("triage").calibration.threshold is None


def test_a_guard_on_an_answer_that_never_occurs(run, write_traffic, tickets):
    done = run("train", write_traffic(tickets(300)), *LINEAR, "--guard", "crad=0.1")
    assert done.code == 0 and "accepts nothing" in done.out
    assert "The guard on 'crad' has 0 rows, needs at least 29; 29 are missing." in " ".join(done.out.split())


def test_labels_that_occur_once(run, write_traffic, tickets):
    lines = tickets(300)
    for number in range(5):
        lines[number]["answer"] = f"odd one {number}"
    done = run("train", write_traffic(lines), *LINEAR)
    assert done.code == 0 and "8 in a closed set, 5 of them seen once" in done.out


def test_ten_megabytes_in_one_text(run, write_traffic, tickets):
    lines = tickets(80)
    lines[5]["text"] += " card" * 2_000_000
    lines[6]["text"] = "x" * 10_000_000
    done = run("train", write_traffic(lines), *LINEAR)
    assert done.code == 0 and "triage@1, a candidate" in done.out


NOISE = bytes(range(256)) * 30

BAD = {
    "an empty file": (b"", ("has no lines", "one JSON object on each line was expected", "Check the file")),
    "blank lines": (b"\n \n\n", ("has no lines", "one JSON object on each line was expected")),
    "binary noise": (NOISE, ("lines cannot be read", "may.jsonl:1:", "Mend the lines, or pass --skip-bad")),
    "invalid UTF-8": (
        b'{"text": "a", "answer": "b"}\n{"text": "caf\xe9", "answer": "b"}\n',
        ("1 of 2 lines cannot be read", "may.jsonl:2: not UTF-8: byte 0xe9 at offset 42", "--skip-bad"),
    ),
    "one class only": (
        b'{"text": "hello you", "answer": "yes"}\n' * 50,
        ("All 50 requests have the answer 'yes'", "at least two answers were expected", "check that the file records"),
    ),
    "no references": (
        b'{"text": "hello you"}\n' * 50,
        ("None of 50 requests has a reference", "an answer in each line was expected", "label some requests"),
    ),
    "few lines": (
        b'{"text": "a", "answer": "x"}\n{"text": "b", "answer": "y"}\n' * 2,
        ("4 of 4 requests have a text and a reference", "at least 10 were expected", "Collect more"),
    ),
    "open-ended answers": (
        b"".join(b'{"text": "write poem %d", "answer": "roses are red %d"}\n' % (n, n) for n in range(200)),
        ("200 distinct answers in 200 requests", "a closed set was expected", "else leave this task upstream"),
    ),
    "JSON, but no object": (b"[1, 2]\n", ("1 of 1 lines cannot be read", "one JSON object on each line was expected")),
}


@pytest.mark.parametrize("case", BAD, ids=str)
def test_bad_input_says_what_happened_what_was_expected_and_what_to_do(run, write_traffic, home, before, case):
    data, said = BAD[case]
    done = run("train", write_traffic([data]), *LINEAR)
    assert done.code == 2 and done.out == "", done.err
    for words in said:
        assert words in done.err
    assert "internal" not in done.err
    assert stored(home) == before


def test_bad_lines_are_left_out_when_asked_and_counted(run, write_traffic, tickets):
    path = write_traffic([*tickets(80), b"\xff\xfe no json\n", b"{}\n"])
    assert run("train", path, *LINEAR).code == 2
    done = run("train", path, *LINEAR, "--skip-bad", "--json", "found.json")
    assert done.code == 0 and "2 bad" in done.out
    assert json.loads(Path("found.json").read_text())["skipped"] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("--family", "svm"),
            "--family is 'svm'; one of auto, linear, static, two-tier, encoder-frozen, encoder was expected",
        ),
        (("--target-risk", "1.5"), "--target-risk"),
        (("--guard", "card"), "--guard is 'card'; ANSWER=r was expected, such as unsafe=0.1"),
        (("--guard", "card=2"), "--guard card"),
        (("--base", "nobody knows", "--family", "encoder-frozen"), "is neither a folder nor one of all-MiniLM-L6-v2"),
        (("--json", "no/such/folder.json"), "no file in a folder that exists"),
    ],
)
def test_wrong_flags(run, write_traffic, tickets, home, before, arguments, said):
    done = run("train", write_traffic(tickets(60)), *LINEAR, *arguments)
    assert done.code == 2 and said in " ".join(done.err.split())
    assert stored(home) == before


def test_an_unknown_task_of_the_file_and_a_missing_file(run, write_traffic, tickets):
    path = write_traffic([{**line, "task": "sort"} for line in tickets(60)])
    done = run("train", path, *LINEAR)
    assert done.code == 2 and "No line of" in done.err and "its lines name: sort. Choose one." in done.err
    done = run("train", "nowhere.jsonl", *LINEAR)
    assert done.code == 2 and "nowhere.jsonl does not exist; a file of JSON lines was expected" in done.err


def test_two_trainings_at_once_on_one_home(started, write_traffic, tickets, home):
    path = write_traffic(tickets(300, noise=0.05))
    children = [started("train", path, *LINEAR, "--json", "-") for _ in range(2)]
    found = []
    for child in children:
        out, err = child.communicate(timeout=120)
        assert (child.returncode, err) == (0, "")
        found.append(json.loads(out))
    assert sorted(each["version"] for each in found) == [1, 2]
    assert len({each["digest"] for each in found}) == 1 and len(stored(home)) == 2


@pytest.fixture
def full_device(tmp_path: Path) -> Iterator[Path]:
    """A home on a device of 600 kB; skipped, and said so, where this user may not mount one."""
    folder = tmp_path / "device"
    folder.mkdir()
    try:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", folder], capture_output=True, text=True
        )
    except OSError as error:
        pytest.skip(f"no mount here: {error}")
    if mounted.returncode:
        pytest.skip(f"this user may not mount a small device: {mounted.stderr.strip()}")
    yield folder / "home"
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_keeps_what_was_stored(run, write_traffic, tickets, full_device):
    small, big = write_traffic(tickets(60), "small.jsonl"), write_traffic(tickets(2_500, words=40), "big.jsonl")
    assert run("train", small, *LINEAR, home=full_device).code == 0
    before = stored(full_device)
    done = run("train", big, *LINEAR, home=full_device)
    assert done.code == 1
    assert "No room left to write" in done.err and "Nothing stored earlier is lost. Free some space." in done.err
    assert stored(full_device) == before
    shutil.rmtree(full_device / "snapshots")
    assert run("train", small, *LINEAR, home=full_device).code == 0 and len(stored(full_device)) == 2


@pytest.mark.parametrize("room", [2_000, 20_000, 90_000])
def test_files_that_may_not_grow_keep_what_was_stored(process, write_traffic, tickets, home, before, room):
    """The same on any machine: the system refuses to let a file grow, at the snapshot or at the specialist."""
    path = write_traffic(tickets(500))
    child = process("train", path, *LINEAR, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)))
    assert child.returncode == 1 and child.stdout == ""
    assert "error: " in child.stderr and "internal" not in child.stderr and "Traceback" not in child.stderr
    assert stored(home) == before


def test_control_with_room_the_same_training_succeeds(run, write_traffic, tickets, home, before):
    assert run("train", write_traffic(tickets(500)), *LINEAR).code == 0
    assert len(stored(home)) == len(before) + 1
