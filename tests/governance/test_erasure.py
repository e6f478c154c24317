"""Erasing a subject: nothing of it can be read any more anywhere, all else can, and every proof still holds."""

import asyncio
import json
import shutil
from datetime import UTC, datetime, timedelta

import apsw
import pytest

from insource.errors import DataError, StoreError
from insource.governance import erasure
from insource.governance.verifier import verify_ledger
from insource.store import held_out
from insource.store.content_keys import ContentKeys
from insource.store.delivery import deliver_acts
from insource.store.ledger import FILE, Ledger
from insource.store.ledger_reader import LedgerReader
from insource.store.proof.proving import Prover
from insource.store.proof.verify import Outside, verify
from insource.store.registry import Registry
from insource.store.snapshots import read_snapshot, seals_of, write_snapshot
from insource.types import Content, Decision, Outcome, Reason, Settlement, SpecialistVersion, Stage

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
ROWS = [(f"text of {who} {n}", "yes") for n in range(6) for who in ("ada", "bob")]
DIGEST = "ab" * 32


@pytest.fixture
def home(tmp_path):
    """Texts of two subjects in the ledger (one as a digest), the review queue, a snapshot and what was held out."""
    home = tmp_path / "home"
    with Ledger.open(home, clock=lambda: NOON) as ledger:
        for who in ("ada", "bob"):
            for n, kept in enumerate((True, True, False)):
                name = f"{who}-{n}"
                decision = Decision(name, NOON, Outcome.ESCALATED, Reason.NO_SPECIALIST, task="t")
                ledger.append_now(decision, Content(name, NOON, "t", f"text of {name}", subject=who), keep_text=kept)
                content = Content(name, NOON, "t", f"text of {name}", f"answer to {name}", "yes", subject=who)
                ledger.settle(Settlement(name, NOON, 200, "up", 0.1), content, keep_text=kept)
    with Registry.open(home) as registry:
        for who in ("ada", "bob"):
            registry.ask_review(f"{who}-9", "t", f"review of {who}", None, NOON, subject=who)
        for lineage in ({"snapshot": DIGEST}, {"snapshot": "0" * 64}, {"recipe": {"teacher": 1}}):
            registry.register("t", "linear", "d" * 64, None, lineage, NOON)
    owners = [(text.split()[2], NOON) for text, _ in ROWS]
    write_snapshot(home, DIGEST, ROWS, [None] * len(ROWS), seals_of(home, owners))
    held_out.keep(home, "d" * 64, [text for text, _ in ROWS], ["yes"] * len(ROWS), [0.5] * len(ROWS))
    for name in erasure.CACHES:
        (home / "cache" / name).mkdir(parents=True)
        (home / "cache" / name / "x").write_text("computed of texts")
    return home


def erase(home, subject="ada", now=LATER):
    with Registry.open(home) as registry:
        done = erasure.erase(home, registry, subject, "dpo", "ticket 7", now)
        with Ledger.open(home, clock=lambda: now) as ledger:
            deliver_acts(registry, home, ledger.act_now)
    return done


def readable(home):
    """Every text of a home that can be read."""
    with LedgerReader(home) as ledger, Registry.open(home) as registry:
        contents = [row.content for row in ledger.rows() if row.content is not None]
        reviews = [review.text for review in registry.reviews(state=None) if review.text is not None]
    rows = [row.text for row in read_snapshot(home, DIGEST) if row is not None]
    try:
        recalled = held_out.recall(home, "d" * 64, [text for text, _ in ROWS])
    except DataError:  # a copy of before the erasure: its key is destroyed
        recalled = [None] * len(ROWS)
    held = [text for (text, _), found in zip(ROWS, recalled, strict=True) if found is not None]
    return [*(each.text for each in contents), *(each.answer for each in contents), *reviews, *rows, *held]


def test_nothing_about_the_subject_is_left_and_all_else_is(home, tmp_path):
    before = readable(home)
    with Registry.open(home) as registry:
        found = erasure.traces(home, registry, "ada")
    assert (found.texts, found.snapshots) == (6, {DIGEST: 6})
    copied = tmp_path / "copied"
    shutil.copytree(home, copied)
    done = erase(home)
    assert not any("ada" in text for text in readable(home))
    assert readable(home) == [text for text in before if "bob" in text]
    assert (done.reviews, done.held_out, done.caches) == (("ada-9",), 6, erasure.CACHES)
    shutil.copy(home / "content_keys.db", copied)  # a copy of before, with the keys of now
    assert [text for text in readable(copied) if "ada" in text] == []
    with pytest.raises(DataError, match="Train the specialist again"):
        held_out.recall(copied, "d" * 64, ["text of ada 0"])
    assert all(row is None for row, (text, _) in zip(read_snapshot(copied, DIGEST), ROWS, strict=True) if "ada" in text)
    connection = apsw.Connection(str(home / FILE), flags=apsw.SQLITE_OPEN_READONLY)
    assert connection.execute("SELECT count(*) FROM contents").get == 6  # bob's
    connection.close()


def test_the_rows_stay_and_every_proof_holds(home, tmp_path):
    with Prover(home) as prover:
        proof, kept = prover.prove("ada-0"), prover.note
    erase(home)
    verdict = verify(home, Outside(), lambda done, of: None)
    assert verdict.faults == [] and verdict.texts["erased"] == 6 and verdict.texts["sound"] == 4
    (tmp_path / "proof.json").write_text(json.dumps(proof))
    (tmp_path / "kept").write_text(kept)
    told: list[str] = []
    assert verify_ledger.main([str(tmp_path / "proof.json")], told.append) == 0
    assert verify_ledger.main([str(home), "--checkpoint", str(tmp_path / "kept")], told.append) == 0, told
    with LedgerReader(home) as ledger:
        row = ledger.decision("ada-0")
        assert row.decision.request_id == "ada-0" and row.content is None and len(row.content_digest) == 32


def test_the_act_says_who_why_and_who_learned_but_not_whom(home):
    done = erase(home)
    assert [version.name for version in done.traces.learned] == ["t@1", "t@3"]
    with LedgerReader(home) as ledger:
        (act,) = [act for act in ledger.acts() if act.what == "erase"]
    assert (act.who, act.subject) == ("dpo", f"subject {done.id}")
    assert act.detail == "ticket 7; texts: 6, reviews: 1, rows of snapshots: 6; learned from them: t@1, t@3"
    for path in home.rglob("*"):
        assert not path.is_file() or b"text of ada" not in path.read_bytes(), path


def test_what_comes_late_is_not_kept_and_what_comes_much_later_is(home):
    erase(home)
    with Ledger.open(home, clock=lambda: LATER) as ledger:
        for n, time in enumerate((NOON, LATER + timedelta(minutes=9), LATER + timedelta(minutes=11))):
            decision = Decision(f"late-{n}", time, Outcome.ESCALATED, Reason.NO_SPECIALIST, task="t")
            content = Content(f"late-{n}", time, "t", "text of ada", subject="ada")
            ledger.append_now(decision, content, keep_text=True)
    with LedgerReader(home) as reader:
        assert [reader.decision(f"late-{n}").content is not None for n in range(3)] == [False, False, True]
    assert len(erase(home, now=LATER + timedelta(hours=1)).traces.ids) == 2


def test_a_subject_nobody_knows_is_erased_as_well(home):
    before = readable(home)
    done = erase(home, "carol")
    assert (done.traces.texts, done.traces.snapshots, done.traces.learned, done.reviews) == (0, {}, (), ())
    assert readable(home) == before


def test_one_that_was_interrupted_is_finished_by_the_next(home, monkeypatch):
    with monkeypatch.context() as broken, pytest.raises(StoreError):
        broken.setattr(Registry, "erase_reviews", lambda *given: (_ for _ in ()).throw(StoreError("killed here")))
        erase(home)
    with LedgerReader(home) as ledger:
        assert ledger.decision("ada-0").content is None  # the key was first
    done = erase(home)
    assert done.reviews == ("ada-9",) and done.traces.snapshots == {DIGEST: 6}
    assert [version.name for version in done.traces.learned] == ["t@1", "t@3"]
    assert not any("ada" in text for text in readable(home))


def test_a_purge_finishes_what_no_act_told(home):
    with ContentKeys.open(home) as keys:
        keys.erase("ada", LATER)
    with Ledger.open(home, clock=lambda: LATER) as ledger:
        assert asyncio.run(ledger.purge(LATER)) == 6
        assert asyncio.run(ledger.purge(LATER)) == 0


def test_who_learned_is_followed_from_teacher_to_student_and_from_version_to_tier():
    def version(task, number, digest, **lineage):
        return SpecialistVersion(task, number, "linear", digest, Stage.CANDIDATE, NOON, None, lineage)

    versions = [
        version("t", 1, "a", snapshot="s"),
        version("t", 2, "b", snapshot="other"),
        version("t", 3, "c", snapshot="other", recipe={"teacher": 1}),
        version("t", 4, "d", recipe={"teacher": 3}),
        version("t", 5, "e", recipe={"teacher": 2}),
        version("t/house", 1, "f", behind=[{"digest": "c"}]),
        version("u", 4, "g", recipe={"teacher": 1}),
    ]
    found = [each.name for each in erasure.learned_from(versions, {"s"})]
    assert found == ["t@1", "t@3", "t@4", "t/house@1"]
    assert erasure.learned_from(versions, set()) == ()


def test_one_that_is_cut_off_before_the_key_is_destroyed_is_finished_by_the_next(home, monkeypatch):
    with monkeypatch.context() as broken, pytest.raises(StoreError):
        broken.setattr(ContentKeys, "erase", lambda *given: (_ for _ in ()).throw(StoreError("killed here")))
        erase(home)
    done = erase(home)
    assert (done.traces.texts, done.traces.snapshots, done.reviews, done.held_out) == (6, {DIGEST: 6}, ("ada-9",), 0)
    assert not any("ada" in text for text in readable(home))


def test_what_is_found_by_its_texts_goes_before_they_cannot_be_read(home, monkeypatch):
    """Else an erasure that is cut off in between would leave it for good."""
    with monkeypatch.context() as broken, pytest.raises(StoreError):
        broken.setattr(held_out, "forget", lambda *given: (_ for _ in ()).throw(StoreError("killed here")))
        erase(home)
    assert erase(home).held_out == 6
    assert not any("ada" in text for text in readable(home))


@pytest.mark.parametrize("damage", [b"{", b"\xff\n", b'{"text": 5}\n'])
def test_what_is_damaged_elsewhere_keeps_nobody_from_being_erased(home, damage):
    (home / "snapshots" / f"{'0' * 64}.jsonl").write_bytes(damage)
    path = home / "snapshots" / f"{DIGEST}.jsonl"
    altered = path.read_bytes().replace(b'"sealed":"', b'"sealed":"AAAA', 1)  # ada's first row
    path.write_bytes(altered)
    done = erase(home)
    assert done.traces.snapshots == {DIGEST: 6} and [version.name for version in done.traces.learned] == ["t@1", "t@3"]
    with ContentKeys.open(home) as keys:
        assert keys.destroyed(done.traces.ids) == set(done.traces.ids)


def test_a_purge_that_is_cut_off_after_the_key_is_finished_by_the_next(home, monkeypatch):
    with Registry.open(home) as registry:
        registry.answer_review("ada-9", "yes", "eve", NOON)
        month = timedelta(days=30)
        with monkeypatch.context() as broken, pytest.raises(StoreError):
            broken.setattr(Registry, "_writing", lambda self: (_ for _ in ()).throw(StoreError("killed here")))
            registry.purge_reviews(NOON + month, month)
        assert registry.review("ada-9").text is None
        assert registry.purge_reviews(NOON + month, month) == 1
