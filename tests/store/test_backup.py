"""A copy of a home: whole, of one moment, checked, and without the keys of texts and of proofs."""

import hashlib
import json
import resource
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from insource.errors import ArtifactDamaged, StoreError, StoreFull, UserError
from insource.store import backup, content_keys, held_out
from insource.store.artifacts import ArtifactStore
from insource.store.backup import DATABASES, LEFT_OUT, MANIFEST, back_up
from insource.store.columns import Act
from insource.store.content_keys import ContentKeys
from insource.store.delivery import deliver_acts
from insource.store.ledger import Ledger
from insource.store.ledger_reader import LedgerReader
from insource.store.proof.note import Checkpoint
from insource.store.proof.verify import Outside, verify
from insource.store.registry import Registry
from insource.store.snapshots import read_snapshot, write_snapshot
from insource.store.spending import Spending, read_spending

TEXT, ANSWER, REFERENCE, REVIEW, ROW = (
    "canary-5b1c " + each for each in ("text", "answer", "reference", "review", "row")
)
CANARY = b"canary-5b1c"
APPEND = Path(__file__).with_name("append_until_killed.py")
ROWS = 300
SNAPSHOT = "5" * 64


def quiet(title):
    return lambda done, of: None


def take(home, folder, noon, say=quiet, settings=None):
    folder.mkdir()
    return back_up(home, folder, settings=settings, now=noon, say=say)


def commit(home, data=b"model"):
    store = ArtifactStore(home)
    with store.draft() as draft:
        (draft / "model").write_bytes(data)
        return store.commit(draft, {"kind": "specialist"})


@pytest.fixture
async def home(tmp_path, make, noon):
    """A home with one of everything: texts of two subjects and of none, a review, a version, snapshots, spending."""
    home = tmp_path / "home"
    with Ledger.open(home, clock=lambda: noon) as ledger, Registry.open(home) as registry:
        for number in range(ROWS):
            who = ("ada", "bob", None)[number % 3]
            content = make.content(number, text=TEXT, answer=ANSWER, reference=REFERENCE, subject=who)
            ledger.note(make.decision(number), content, keep_text=True)
            ledger.settle(make.settlement(number))
        registry.register("triage", "linear", commit(home), None, {}, noon)
        registry.ask_review("r-1", "triage", REVIEW, None, noon, subject="ada")
        with ContentKeys.open(home) as keys:
            seals = [keys.seal_of(subject=who, time=noon, expires=None) for who in ("ada", "bob")]
        write_snapshot(home, SNAPSHOT, [(ROW, ANSWER)] * 2, [None] * 2, seals)
        held_out.keep(home, "d" * 64, [ROW], ["card"], [0.5])
    spending = Spending.open(home)
    await spending.write({("k", "money", "total"): 7})
    spending.close()
    (home / "trunks").mkdir()
    (home / "trunks" / "base-int8-1").write_text("e" * 64)
    for name in ("cache/embeddings/x.npy", "gateway.pid", "gateway.json", "proof/refusal", "proof/before-9/key",
                 "proof/before-9/checkpoint", ".metrics-1/figures"):  # fmt: skip
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(f"something of {name}")
    (home / "proof" / "refusal").unlink()
    return home


def restore(folder, target, *, keys=None):
    shutil.copytree(folder, target)
    if keys is not None:
        shutil.copy(keys / content_keys.FILE, target)
    return target


def secrets(home):
    """The keys of texts, what names subjects, and the keys that sign, as their files hold them."""
    connection = apsw.Connection(str(home / content_keys.FILE), flags=apsw.SQLITE_OPEN_READONLY)
    found = [bytes(row[0]) for row in connection.execute("SELECT key FROM keys UNION SELECT names FROM secrets")]
    connection.close()
    return [*found, *(path.read_bytes() for path in home.rglob("proof/**/key"))]


def leaks(folder, wanted):
    data = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    return [each for each in wanted if any(each in file for file in data)]


def texts(home):
    """How many of the ledger's texts, reviews and rows of the snapshot can be read, by what they are."""
    with LedgerReader(home) as ledger, Registry.open(home) as registry:
        kept = sum(row.content is not None and row.content.text == TEXT for row in ledger.rows())
        reviews = sum(review.text == REVIEW for review in registry.reviews())
    return kept, reviews, sum(row is not None and row.text == ROW for row in read_snapshot(home, SNAPSHOT))


def test_a_home_restored_from_it_has_everything(home, tmp_path, noon):
    settings = tmp_path / "other.toml"
    settings.write_text("[gateway]\nport = 8601\n")
    made = take(home, tmp_path / "backup", noon, settings=settings)
    there = restore(tmp_path / "backup", tmp_path / "restored", keys=home)
    with LedgerReader(home) as ours, LedgerReader(there) as theirs:
        assert list(theirs.rows()) == list(ours.rows()) and theirs.acts() == ours.acts()
        assert made.rows == theirs.last_row() > 2 * ROWS
        assert theirs.decision("r-7").settlement.served_by == "triage@3"
    with Registry.open(there) as registry:
        version = registry.get("triage")
        assert registry.flaws() == () and (made.versions, made.artifacts, made.missing) == (1, 1, ())
    assert (ArtifactStore(there).open(version.digest).folder / "model").read_bytes() == b"model"
    assert read_spending(there) == read_spending(home) != {}
    assert held_out.recall(there, "d" * 64, [ROW, "other"]) == [("card", 0.5), None]
    assert (there / "insource.toml").read_text() == settings.read_text()
    assert (there / "trunks" / "base-int8-1").read_text() == "e" * 64
    assert texts(there) == texts(home) == (ROWS, 1, 2)


def test_only_what_is_named_goes_in_and_all_of_it_is_listed(home, tmp_path, noon):
    made = take(home, tmp_path / "backup", noon)
    folder = tmp_path / "backup"
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    rooms = {name.partition("/")[0] for name in found}
    assert rooms == {*DATABASES, "artifacts", "trunks", "snapshots", "held-out", "proof", MANIFEST}
    assert found >= {"proof/checkpoint", "proof/before-9/checkpoint", "proof/tile/0/000"}
    assert not any(part in LEFT_OUT or part.startswith(".") for name in found for part in name.split("/"))
    told = json.loads((folder / MANIFEST).read_bytes())
    assert told["files"].keys() == found - {MANIFEST} and len(told["files"]) == made.files
    for name, each in told["files"].items():
        data = (folder / name).read_bytes()
        assert each == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert made.sha256 == hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    assert told["ledger"] == {"rows": made.rows, "signed": made.rows, "root": made.root, "key": made.key}
    assert Checkpoint.read(told["checkpoint"]).root.hex() == made.root
    assert told["versions"] == [{"name": "triage@1", "digest": commit(home), "stage": "candidate"}]
    modes = {path.stat().st_mode & 0o777 for path in (folder, *folder.rglob("*")) if path.is_dir()}
    assert modes == {0o700} and {(folder / name).stat().st_mode & 0o777 for name in found} == {0o600}


def test_no_key_and_no_word_of_a_text_is_in_it(home, tmp_path, noon):
    take(home, tmp_path / "backup", noon)
    wanted = [*secrets(home), CANARY]
    assert len(wanted) > 6 and leaks(home, secrets(home)) == secrets(home)
    assert leaks(tmp_path / "backup", wanted) == []


@pytest.mark.parametrize("spoil", [
    lambda home, folder: shutil.copy(home / content_keys.FILE, folder),
    lambda home, folder: shutil.copy(home / "proof" / "key", folder / "proof"),
    lambda home, folder: (folder / "ledger.db-wal").write_bytes(b"..." + TEXT.encode()),
])  # fmt: skip
def test_control_the_scan_finds_what_must_not_be_there(home, tmp_path, noon, spoil):
    take(home, tmp_path / "backup", noon)
    spoil(home, tmp_path / "backup")
    assert leaks(tmp_path / "backup", [*secrets(home), CANARY])


def test_texts_are_read_where_their_keys_are_and_nowhere_else(home, tmp_path, noon):
    take(home, tmp_path / "backup", noon)
    assert texts(restore(tmp_path / "backup", tmp_path / "without")) == (0, 0, 0)
    assert texts(restore(tmp_path / "backup", tmp_path / "with", keys=home)) == (ROWS, 1, 2)


def test_who_is_erased_is_erased_in_every_backup_also_beside_the_living_keys(home, tmp_path, noon, later):
    take(home, tmp_path / "backup", noon)
    shutil.copy(home / content_keys.FILE, tmp_path / "old-keys")
    with ContentKeys.open(home) as keys:
        keys.erase("ada", later)
    there = restore(tmp_path / "backup", tmp_path / "restored", keys=home)
    assert texts(there) == (2 * ROWS // 3, 0, 1)
    verdict = verify(there, Outside(), lambda done, of: None)
    assert verdict.faults == []
    assert verdict.texts["erased"] == ROWS // 3 and verdict.texts["sound"] == 2 * ROWS // 3
    shutil.copy(tmp_path / "old-keys", there / content_keys.FILE)  # the control: who copied the keys has to erase there
    assert texts(there) == (ROWS, 1, 2)


def test_a_restored_home_signs_nothing_before_a_person_reconciles_also_without_a_witness(home, tmp_path, noon):
    made = take(home, tmp_path / "backup", noon)
    there = restore(tmp_path / "backup", tmp_path / "restored", keys=home)
    with Ledger.open(there, clock=lambda: noon) as ledger:
        assert "there is no key" in ledger.keeper.refusal
    verdict = verify(there, Outside(), lambda done, of: None)
    assert verdict.refusal and verdict.signed == made.rows < verdict.rows
    with Ledger.open(there, clock=lambda: noon) as ledger:
        ledger.keeper.reconcile("ada", "the disk was lost", ledger.record)
        assert ledger.keeper.refusal is None and str(ledger.keeper.key) != made.key
    verdict = verify(there, Outside(), lambda done, of: None)
    assert verdict.faults == [] and verdict.refusal is None and verdict.signed == verdict.rows
    again = take(there, tmp_path / "again", noon)
    assert again.signed == again.rows == verdict.rows


def test_control_with_the_signing_key_in_it_two_histories_are_signed_by_one_key(home, tmp_path, noon, monkeypatch):
    monkeypatch.setattr(backup, "LEFT_OUT", frozenset())
    take(home, tmp_path / "backup", noon)
    there = restore(tmp_path / "backup", tmp_path / "restored", keys=home)
    with Ledger.open(there, clock=lambda: noon) as ledger:
        assert ledger.keeper.refusal is None


def test_beside_a_writer_under_load_it_is_whole_and_verifies(tmp_path, noon, child_environment):
    home = tmp_path / "home"
    child = subprocess.Popen([sys.executable, str(APPEND), str(home), "run", "honest"], stdout=subprocess.PIPE,
                             env=child_environment)  # fmt: skip
    try:
        assert child.stdout.readline() == b"ready\n"
        acknowledged, rows = set(), []
        for number in range(3):
            acknowledged |= {child.stdout.readline().decode().strip() for _ in range(200)}
            folder = tmp_path / f"backup{number}"
            rows.append(take(home, folder, noon).rows)
            with LedgerReader(folder) as reader:
                assert acknowledged <= {row.decision.request_id for row in reader.rows()}
            assert [path.name for path in folder.glob("*.db-*")] == []
        assert child.poll() is None and sorted(set(rows)) == rows
    finally:
        child.kill()
        child.stdout.close()
        child.wait()


def moved_while_copied(home, folder, noon, make):
    """Back up, with an act on its way and a version that come when the ledger is copied; return what is missing."""

    def say(title):
        if title == "copying registry.db":
            with Registry.open(home) as registry, Ledger.open(home, clock=lambda: noon) as ledger:
                registry.post_act(Act(noon, "ada", "promote", "triage@1"))
                assert deliver_acts(registry, home, ledger.act_now) > 0
        return lambda done, of: None

    take(home, folder, noon, say)
    there = restore(folder, folder.with_name("restored"))
    with Registry.open(there) as registry, LedgerReader(there) as ledger:
        on_their_way = {act for _, act in registry.outgoing_acts()}
        return [act for act in registry.acts() if act not in on_their_way and act not in ledger.acts()]


def test_an_act_that_reaches_the_ledger_meanwhile_is_not_lost_between_the_two_files(home, tmp_path, noon, make):
    assert moved_while_copied(home, tmp_path / "backup", noon, make) == []


def test_control_files_of_two_moments_lose_it(home, tmp_path, noon, make, monkeypatch):
    @contextmanager
    def one_after_the_other(home):
        sources = {name: apsw.Connection(str(home / name)) for name in DATABASES if (home / name).is_file()}
        yield sources
        for each in sources.values():
            each.close()

    monkeypatch.setattr(backup, "_one_moment", one_after_the_other)
    assert len(moved_while_copied(home, tmp_path / "backup", noon, make)) == 1


def alter_a_row(home):
    connection = apsw.Connection(str(home / "ledger.db"))
    for (name,) in connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'decisions'"
    ).fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    connection.execute("UPDATE decisions SET score = 0.99 WHERE request_id = 'r-4'")
    connection.close()


def alter_an_artifact(home):
    path = next((home / "artifacts").glob("*/model"))
    path.write_bytes(b"mOdel")


def alter_a_page(home):
    path = home / "registry.db"
    with Registry.open(home) as registry:
        registry.post_act(Act(registry.get("triage").created, "ada", "note", "x", "y" * 20_000))
    data = bytearray(path.read_bytes())
    at = data.index(b"y" * 2_000)
    start = at - at % 4096
    data[start : start + 4096] = bytes(4096)
    path.write_bytes(data)


@pytest.mark.parametrize(("alter", "error", "told"), [
    (alter_a_row, StoreError, "row"), (alter_an_artifact, ArtifactDamaged, "home/artifacts"),
    (alter_a_page, StoreError, "damaged"),
])  # fmt: skip
def test_what_is_not_as_it_was_written_is_not_called_a_backup(home, tmp_path, noon, alter, error, told):
    alter(home)
    with pytest.raises(error, match=told):
        take(home, tmp_path / "backup", noon)
    assert not (tmp_path / "backup" / MANIFEST).exists()


def test_an_artifact_that_is_deleted_is_told_not_refused(home, tmp_path, noon):
    shutil.rmtree(next((home / "artifacts").glob("[0-9a-f]*")))
    assert take(home, tmp_path / "backup", noon).missing == ("triage@1",)


def test_a_full_disk_is_told_as_one(home, tmp_path, noon):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, limits[1]))
    try:
        with pytest.raises(StoreFull):
            take(home, tmp_path / "backup", noon)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_home_without_a_ledger_and_one_without_anything(tmp_path, noon):
    with Registry.open(tmp_path / "home"):
        assert (take(tmp_path / "home", tmp_path / "backup", noon).rows) == 0
    with pytest.raises(UserError, match="nothing to back up"):
        take(tmp_path / "nobody", tmp_path / "other", noon)
    assert not (tmp_path / "nobody").exists()
