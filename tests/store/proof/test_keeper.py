"""When the tree is signed and when it is not; what the ledger does meanwhile; and how signing is resumed."""

import logging
import shutil
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from insource.errors import StoreError
from insource.store import migrations
from insource.store.database import open_database
from insource.store.ledger import FILE
from insource.store.ledger_reader import LedgerReader
from insource.store.proof.folder import ProofFolder
from insource.store.proof.note import Checkpoint, PrivateKey, PublicKey
from insource.store.proof.verify import Outside
from reliability.alterations import metadata, opened

PROGRAM = Path(__file__).parents[1] / "append_until_killed.py"


def test_what_was_written_is_signed_when_the_ledger_closes(house):
    assert house.fill() is None
    verdict = house.verify()
    assert (verdict.faults, verdict.rows, verdict.signed, house.size()) == ([], 41, 41, 41)
    assert house.witness.read_text() == house.folder.checkpoint()
    assert PublicKey.read(verdict.key).signed(house.folder.checkpoint())
    with LedgerReader(house.home) as reader:
        assert reader.acts()[0].detail.endswith(f"proof key {verdict.key}")


def test_each_session_extends_the_one_before(house):
    for requests in (3, 150, 200):
        assert house.fill(requests) is None
    kept = len(list(house.folder.kept()))
    assert house.size() == 709 and kept >= 3
    verdict = house.verify()
    assert verdict.faults == [] and (verdict.signed, verdict.tiles, verdict.checkpoints) == (709, 4, kept + 1)


def test_a_growing_ledger_is_signed_within_a_second_or_so(house, make):
    with house.open() as ledger:
        assert house.size() == 1  # at once: no log is without a checkpoint
        ledger.append_now(make.decision("now"))
        thread = ledger.keeper._publisher._thread
        for _ in range(100):
            if house.size() == 2:
                break
            thread.join(0.05)
        assert house.size() == 2


def restore_all(house):
    restore = house.back_up()
    house.fill()
    restore()


def restore_the_database_alone(house):
    restore = house.back_up()
    house.fill()
    house.witness.unlink()
    restore(only=FILE)


def change_a_row(house):
    import random

    metadata(house.home, house.home, random.Random(4))


def swap_the_key(house):
    (house.home / "proof" / "key").write_text(PrivateKey("insource/other", bytes(32)).text())


def lose_the_key(house):
    (house.home / "proof" / "key").unlink()


def replace_the_checkpoint(house):
    key = house.folder.key()
    (house.home / "proof" / "checkpoint").write_text(key.sign(Checkpoint(key.name, 9, bytes(32)).body()))


def change_a_tile(house):
    house.fill(300)
    (path,) = (house.home / "proof" / "tile" / "1" / "000.p").iterdir()
    path.write_bytes(bytes(32) + path.read_bytes()[32:])


def cut_the_tail(house):
    with opened(house.home) as connection:
        connection.execute("DELETE FROM settlements WHERE seq > 30")


TROUBLES = {
    restore_all: "as after the restore of an older backup",
    restore_the_database_alone: "the restore of an older backup",
    change_a_row: "do not match the root that was committed", swap_the_key: "the ledger names the key",
    lose_the_key: "there is no key", replace_the_checkpoint: "does not match the first 9 rows",
    change_a_tile: "a tile does not match the rows", cut_the_tail: "do not match the root that was committed",
}  # fmt: skip


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.__name__)
def test_it_records_but_does_not_sign_until_a_person_reconciles(house, trouble, caplog):
    house.fill()
    trouble(house)
    before, kept = house.folder.checkpoint(), house.witness.read_text() if house.witness.exists() else None
    with caplog.at_level(logging.ERROR):
        refusal = house.fill(5)
    assert TROUBLES[trouble] in refusal
    assert "NAME" in caplog.text and TROUBLES[trouble] in caplog.text
    assert house.folder.refusal == refusal
    assert house.folder.checkpoint() == before
    assert (house.witness.read_text() if house.witness.exists() else None) == kept
    with LedgerReader(house.home) as reader:
        assert reader.totals().requests >= 25
        assert "proofs not signed" in reader.acts()[-1].detail
    with house.open() as ledger:
        old = ledger.keeper.key
        aside = ledger.keeper.reconcile("ada", "backup of Monday", ledger.record)
        assert ledger.keeper.refusal is None and ledger.keeper.key.name != (old and old.name)
    assert house.fill(5) is None and house.folder.refusal is None
    assert Checkpoint.read(house.witness.read_text()) == Checkpoint.read(house.folder.checkpoint())
    verdict = house.verify()
    assert verdict.faults == [] and verdict.signed == verdict.rows
    assert aside.is_dir()
    with LedgerReader(house.home) as reader:
        (act,) = [act for act in reader.acts() if act.what == "reconcile"]
    assert act.who == "ada" and "backup of Monday" in act.detail and TROUBLES[trouble] in act.detail


def test_going_on_heals_nothing(house):
    """Later commits match the changed rows, and with all else deleted only the ledger's own word is left."""
    house.fill()
    change_a_row(house)
    assert "do not match the root" in house.fill(5)
    for name in ("checkpoint", "refusal"):
        (house.home / "proof" / name).unlink()
    shutil.rmtree(house.home / "proof" / "checkpoints")
    house.witness.unlink()
    assert "do not match the root" in house.fill(5)
    assert house.folder.checkpoint() is None


def test_who_kept_a_checkpoint_finds_the_restore_also_after_it_was_reconciled(house):
    house.fill()
    restore = house.back_up()
    house.fill()
    kept = house.folder.checkpoint()
    restore()
    with house.open() as ledger:
        ledger.keeper.reconcile("ada", "restored", ledger.record)
    house.fill(40)
    verdict = house.verify(Outside(None, {"the kept one": kept}))
    assert verdict.faults and all("the kept one" in fault.what for fault in verdict.faults)


def test_a_copy_of_a_moment_ago_is_refused_after_a_death_at_any_point(house, monkeypatch):
    """The witness has a checkpoint before the home has: what died in between and was put back would sign anew."""

    def dies(*given, **how):
        raise StoreError("as after a kill")

    house.fill()
    restore = house.back_up()
    with monkeypatch.context() as patched:
        patched.setattr(ProofFolder, "keep", dies)
        patched.setattr("insource.store.proof.publisher.AGAIN_SECONDS", 0)
        house.fill()
    assert Checkpoint.read(house.witness.read_text()).size == 82 and house.size() == 41
    restore()
    assert "the restore of an older backup" in house.fill()


def test_what_the_old_key_signs_last_is_the_witness_s_as_well(house, make, monkeypatch):
    house.fill()
    monkeypatch.setattr("insource.store.proof.publisher.Publisher.start", lambda self: None)
    with house.open() as ledger:  # which dies in the middle of a change of keys, before it signs anything
        old = ledger.keeper.key
        ledger.record("ada", "proof key", str(house.folder.make_next(old.name).public()), "yearly")
    with house.open() as ledger:
        assert ledger.keeper.refusal is None and ledger.keeper.key != old
    note = house.witness.read_text()
    assert old.signed(note) and note == house.folder.checkpoint() and house.size() == 43


def test_a_refusal_does_not_grow_with_each_start(house):
    house.fill()
    restore_all(house)
    told = [house.fill(3) for _ in range(4)]
    assert len(set(told[1:])) == 1 and len(told[-1]) < 1_000


def test_control_without_a_witness_a_whole_restore_goes_unnoticed(house):
    house.fill(witness=False)
    restore = house.back_up()
    house.fill(witness=False)
    restore()
    assert house.fill(witness=False) is None


def test_a_witness_that_another_copy_has_moved_on_stops_the_signing(house, make, tmp_path):
    house.fill()
    with house.open() as ledger:
        key = house.folder.key()
        house.witness.write_text(key.sign(Checkpoint(key.name, 43, bytes(32)).body()))
        ledger.append_now(make.decision("a"))
        ledger.append_now(make.decision("b"))
        before = house.folder.checkpoint()
    assert "does not match the first 43 rows" in house.folder.refusal
    assert house.folder.checkpoint() == before


def test_a_lost_tile_is_made_anew(house):
    house.fill(300)
    tile = house.home / "proof" / "tile" / "0" / "001"
    whole = tile.read_bytes()
    tile.write_bytes(whole[:100])
    assert house.verify().tiles_missing == 1
    assert house.fill(1) is None
    assert tile.read_bytes() == whole and house.verify().tiles_missing == 0


def test_tiles_that_cannot_be_written_are_written_later(house, caplog):
    house.fill(3)
    tiles = house.home / "proof" / "tile"
    shutil.rmtree(tiles)
    tiles.write_text("in the way")
    assert house.fill(150) is None
    assert "the tree of proofs cannot be published" in caplog.text and house.size() < 308
    tiles.unlink()
    assert house.fill(1) is None
    verdict = house.verify()
    assert verdict.faults == [] and verdict.signed == verdict.rows == 311 and verdict.tiles == 3


def test_many_wrong_heads_are_told_in_one_line(house):
    house.fill(20, one_by_one=True)
    with opened(house.home) as connection:
        connection.execute("UPDATE heads SET root = zeroblob(32) WHERE size BETWEEN 5 AND 30")
    (fault,) = house.verify().faults
    assert fault.row in (5, 6) and "nor are" in fault.what and fault.what.endswith(("30 rows", "29 rows"))


def test_the_key_changes_by_an_act(house):
    house.fill()
    with house.open() as ledger:
        old = ledger.keeper.key
        new = ledger.keeper.rotate("ada", "yearly", ledger.record)
    assert new.name == old.name and new != old
    assert house.fill() is None
    assert new.signed(house.folder.checkpoint()) and not old.signed(house.folder.checkpoint())
    verdict = house.verify(Outside(old))
    assert verdict.faults == [] and verdict.key == str(new)
    assert house.verify(Outside(PrivateKey("insource/other", bytes(32)).public())).faults


def test_a_key_that_cannot_sign_is_not_followed_by_another(house):
    house.fill()
    swap_the_key(house)
    with house.open() as ledger, pytest.raises(StoreError, match="no key can follow"):
        ledger.keeper.rotate("ada", "why", ledger.record)


def test_an_old_ledger_gets_its_tree_at_the_first_start(house, make, tmp_path):
    from insource.store import columns

    house.home.mkdir()
    steps = migrations.LEDGER[:5]
    assert migrations.LEDGER[5].__name__ == "_ledger_heads"
    connection = open_database(house.home / FILE, migrations=steps)
    for seq in range(1, 301):
        values = (seq, *columns.act_values(columns.Act(make.decision(1).time, "a", "b", f"c{seq}")))
        connection.execute(f"INSERT INTO acts (seq, {columns.ACT}) VALUES (?, ?, ?, ?, ?, ?)", values)
    connection.close()
    assert house.fill(2) is None
    verdict = house.verify()
    assert verdict.faults == [] and verdict.rows == verdict.signed == 305
    with LedgerReader(house.home) as reader:
        assert "rows 1 to 300 were written before there were proofs" in reader.acts()[300].detail


def test_kills_leave_a_tree_that_goes_on(house, child_environment, make):
    for kill in range(2):
        child = subprocess.Popen([sys.executable, str(PROGRAM), str(house.home), f"run{kill}", "honest"],
                                 stdout=subprocess.PIPE, env=child_environment)  # fmt: skip
        for _ in range(80 + 90 * kill):
            child.stdout.readline()
        child.kill()
        child.stdout.close()
        child.wait()
        assert house.verify().faults == []
    assert house.fill(1, witness=False) is None
    verdict = house.verify()
    assert verdict.faults == [] and verdict.signed == verdict.rows > 250


def test_heads_are_written_with_their_rows_and_never_changed(house):
    house.fill(3)
    connection = apsw.Connection(str(house.home / FILE))
    assert connection.execute("SELECT max(size) FROM heads").get == 7
    for change in ("UPDATE heads SET size = 0", "DELETE FROM heads"):
        with pytest.raises(apsw.ConstraintError, match="append-only"):
            connection.execute(change)
    connection.close()


def test_a_folder_in_the_way_keeps_nobody_from_recording(house, make):
    house.home.mkdir()
    (house.home / "proof").write_text("in the way")
    with house.open() as ledger:
        ledger.append_now(make.decision(1))
        assert "cannot be read or written" in ledger.keeper.refusal
    assert ProofFolder(house.home).refusal is None
    (house.home / "proof").unlink()
    assert house.fill(1) is None
