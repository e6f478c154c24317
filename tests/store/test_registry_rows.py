"""A row of the registry that is not as it was written serves nobody; one that was written past insource is told."""

from dataclasses import replace
from datetime import UTC, datetime

import apsw
import pytest

from insource.errors import ArtifactDamaged
from insource.store import migrations, registry_rows
from insource.store import registry as registry_module
from insource.store.artifacts import ArtifactStore
from insource.store.columns import Act
from insource.store.database import open_database
from insource.store.delivery import deliver_acts
from insource.store.ledger import Ledger
from insource.store.ledger_reader import LedgerReader
from insource.store.recertifications import Recertified, calibration_text
from insource.store.registry import FILE, Registry
from insource.store.registry_rows import ALTERED, RECERTIFIED, VERSION, not_as_approved, raw, row_digest
from insource.types import Calibration, Stage

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
FIRST = Calibration("cross-fit", 0.05, 0.95, 400, 0.42, 0.8, 320, 3, 0.03, 0.9)
RAISED = replace(FIRST, threshold=0.6)
TOLD = Recertified("triage", 1, NOON, 0.42, RAISED, 1, 900, "steward", "raised")


@pytest.fixture
def registry(tmp_path):
    """A registry with two versions of a task, the first active, and one of another."""
    with Registry.open(tmp_path) as registry:
        for task in ("triage", "triage", "other"):
            registry.register(task, "linear", "d" * 64, FIRST, {"rows": 1}, NOON)
        registry.promote("triage", 1, "ada", "held", NOON)
        yield registry


def by_hand(tmp_path, *statements):
    """Write past insource: without its triggers."""
    connection = apsw.Connection(str(tmp_path / FILE))
    guards = "name LIKE 'versions_%' OR name LIKE 'recertifications_%'"
    for name in connection.execute(f"SELECT name FROM sqlite_master WHERE type = 'trigger' AND ({guards})").fetchall():
        connection.execute(f"DROP TRIGGER {name[0]}")
    for statement in statements:
        connection.execute(statement)
    connection.close()


WHICH = "WHERE task = 'triage' AND version = 1"
ALTERATIONS = [
    "family = 'static'", "digest = 'e'", "created = created + 1", "calibration = replace(calibration, '0.42', '0.12')",
    "calibration = NULL", "calibration = 'no json'", "calibration = CAST(x'ff00' AS TEXT)", "lineage = '{}'",
    "lineage = CAST(x'80' AS TEXT)", "family = CAST(x'80' AS TEXT)", "created = 9223372036854775807",
    "row_digest = ''", "row_digest = CAST(x'80' AS TEXT)", "version = 7", "digest = CAST(x'ff' AS TEXT)",
]  # fmt: skip


@pytest.mark.parametrize("change", ALTERATIONS)
def test_an_altered_row_serves_nobody_and_the_others_go_on(registry, tmp_path, change):
    sound = registry.versions("other"), registry.get("triage", 2)
    by_hand(tmp_path, f"UPDATE versions SET {change} {WHICH}")
    version = registry.active("triage")
    assert (version.digest, version.calibration, version.stage) == (ALTERED, None, Stage.ACTIVE)
    with pytest.raises(ArtifactDamaged, match="There is no artifact 'row-altered"):
        ArtifactStore(tmp_path).open(version.digest)
    (flaw,) = registry.flaws()
    assert flaw.startswith(f"{version.name} is not as it was written") and registry.flaws("other") == ()
    assert (registry.versions("other"), registry.get("triage", 2)) == sound


@pytest.mark.parametrize("column", VERSION.split(", "))
def test_every_column_is_in_the_digest(registry, tmp_path, column):
    by_hand(tmp_path, f"UPDATE versions SET {column} = {column} || '1' {WHICH}")
    altered = [each.name for task in registry.tasks() for each in registry.versions(task) if each.digest == ALTERED]
    assert altered == [{"task": "triage1@1", "version": "triage@11"}.get(column, "triage@1")]


@pytest.mark.parametrize("column", [*RECERTIFIED.split(", "), "row_digest"])
def test_an_altered_recertification_serves_nobody(registry, tmp_path, column):
    registry.recertify(TOLD)
    assert registry.active("triage").calibration == RAISED
    words = ("task", "calibration", "who", "why", "row_digest")
    value = f"{column} || '1'" if column in words else f"{column} + 1{'0' if column == 'version' else ''}"
    by_hand(tmp_path, f"UPDATE recertifications SET {column} = {value}")
    assert registry.active("triage").digest == ALTERED and registry.recertified("triage") is None
    detached = {"task": ["A raised threshold of triage1@1"], "version": ["A raised threshold of triage@11"]}
    expected = ["triage@1 is not as it was written", *detached.get(column, [])]
    assert registry.get("triage", 2).calibration == FIRST and len(registry.flaws()) == len(expected)
    assert all(flaw.startswith(start) for flaw, start in zip(registry.flaws(), expected, strict=True))


LOWERED = [
    "DELETE FROM recertifications", "DELETE FROM recertifications WHERE seq = 2",
    "UPDATE recertifications SET task = 'urhage' WHERE seq = 2",
    "UPDATE recertifications SET version = 3 WHERE seq = 2", "UPDATE recertifications SET seq = -2 WHERE seq = 2",
    "UPDATE recertifications SET task = CAST(x'f4' AS TEXT) WHERE seq = 2",
    f"UPDATE versions SET recertified = NULL {WHICH}",
    f"UPDATE versions SET recertified = (SELECT row_digest FROM recertifications WHERE seq = 1) {WHICH}",
]  # fmt: skip
"""One row each, after which the threshold before the last one would be in force."""


def raise_twice(registry):
    registry.recertify(TOLD)
    registry.recertify(replace(TOLD, before=0.6, calibration=replace(RAISED, threshold=0.7), doubts=2))
    assert registry.active("triage").calibration.threshold == 0.7 and registry.flaws() == ()


@pytest.mark.parametrize("change", LOWERED)
def test_a_raised_threshold_that_is_gone_brings_none_before_it_back(registry, tmp_path, change):
    raise_twice(registry)
    by_hand(tmp_path, change)
    assert (registry.active("triage").digest, registry.active("triage").calibration) == (ALTERED, None)
    assert registry.flaws()[0].startswith("triage@1 is not as it was written") and registry.flaws("other") == ()
    assert registry.get("triage", 2).calibration == FIRST


@pytest.mark.parametrize(("gone", "served"), [("seq = 2", 0.6), ("1", 0.42)])
def test_control_a_version_that_names_whatever_stands_last_serves_it(registry, tmp_path, monkeypatch, gone, served):
    raise_twice(registry)
    named = "CAST(versions.recertified AS BLOB)"
    assert named in registry_module.SELECT
    monkeypatch.setattr(registry_module, "SELECT", registry_module.SELECT.replace(named, "CAST(r.row_digest AS BLOB)"))
    by_hand(tmp_path, f"DELETE FROM recertifications WHERE {gone}")
    assert registry.active("triage").calibration.threshold == served


def test_a_threshold_that_lands_at_another_version_serves_neither(registry, tmp_path):
    """Whose it was cannot be told by then."""
    registry.recertify(TOLD)
    by_hand(tmp_path, "UPDATE recertifications SET version = 2")
    assert [version.digest for version in registry.versions("triage")] == [ALTERED, ALTERED]


@pytest.mark.parametrize("change", ["threshold", "version = 9", "task = 'none'"])
def test_rows_that_nothing_serves_by_are_told_too(registry, tmp_path, change):
    raise_twice(registry)
    change = "calibration = replace(calibration, '0.6', '0.1')" if change == "threshold" else change
    by_hand(tmp_path, f"UPDATE recertifications SET {change} WHERE seq = 1")
    assert registry.active("triage").calibration.threshold == 0.7
    (flaw,) = registry.flaws()
    assert flaw.startswith("A raised threshold of ") and "serves nobody. Restore registry.db" in flaw


def test_a_version_whose_task_is_no_text_any_more_is_told(registry, tmp_path):
    by_hand(tmp_path, f"UPDATE versions SET task = CAST(x'f4' AS TEXT) {WHICH}")
    assert registry.active("triage") is None
    (flaw,) = registry.flaws()
    assert flaw.startswith("\ufffd@1 is not as it was written")


def test_a_version_names_no_other_threshold_but_its_last(registry, tmp_path):
    raise_twice(registry)
    for digest in ("NULL", "'x'", "(SELECT row_digest FROM recertifications WHERE seq = 1)"):
        connection = apsw.Connection(str(tmp_path / FILE))
        with pytest.raises(apsw.ConstraintError, match="names its last re-certification"):
            connection.execute(f"UPDATE versions SET recertified = {digest} {WHICH}")
        connection.close()


def test_stage_and_share_may_change(registry):
    registry.move("triage", 2, expected=Stage.CANDIDATE, to=Stage.CANARY, share=0.2, who="ada", why="try", now=NOON)
    assert registry.trial("triage").digest == "d" * 64 and registry.flaws() == ()


def test_control_a_check_that_lets_everything_pass_serves_an_altered_row(registry, tmp_path, monkeypatch):
    by_hand(tmp_path, f"UPDATE versions SET calibration = replace(calibration, '0.42', '0.12') {WHICH}")
    monkeypatch.setattr(registry_rows, "matches", lambda values, kept: True)
    assert registry.active("triage").calibration.threshold == 0.12


def rewrite(tmp_path, change):
    """Alter a row and write its digest anew, as whoever knows the code can."""
    by_hand(tmp_path, f"UPDATE versions SET {change} {WHICH}")
    connection = apsw.Connection(str(tmp_path / FILE))
    row = connection.execute(f"SELECT {raw(VERSION, 'versions')} FROM versions {WHICH}").fetchall()[0]
    connection.execute(f"UPDATE versions SET row_digest = ? {WHICH}", (row_digest(row),))
    connection.close()


def told(registry, home):
    with Ledger.open(home, clock=lambda: NOON) as ledger:
        deliver_acts(registry, home, ledger.act_now)
    with LedgerReader(home) as ledger:
        return list(not_as_approved(registry, ledger))


def test_a_row_written_anew_with_its_digest_is_told_by_the_ledger(registry, tmp_path):
    assert told(registry, tmp_path) == []
    registry.recertify(TOLD)
    with LedgerReader(tmp_path) as ledger:
        assert list(not_as_approved(registry, ledger)) == []  # the act is on its way
    assert told(registry, tmp_path) == []
    rewrite(tmp_path, "calibration = replace(calibration, '0.42', '0.12')")
    assert registry.active("triage").digest == "d" * 64 and registry.flaws() == ()
    (sentence,) = told(registry, tmp_path)
    assert sentence.startswith(
        "triage@1 does not serve by the row of the registry that its last promotion in the ledger names"
    )


def test_a_recertification_that_nobody_made_is_told(registry, tmp_path):
    values = ("triage", 1, 0, 0.42, calibration_text(replace(FIRST, threshold=0.01)), 1, 0, "nobody", "lower")
    connection = apsw.Connection(str(tmp_path / FILE))
    connection.execute(f"INSERT INTO recertifications ({RECERTIFIED}, row_digest) VALUES (?,?,?,?,?,?,?,?,?,?)",
                       (*values, row_digest(values)))  # fmt: skip
    assert registry.active("triage").digest == ALTERED  # its version does not name it
    connection.execute(f"UPDATE versions SET recertified = ? {WHICH}", (row_digest(values),))
    connection.close()
    assert registry.active("triage").calibration.threshold == 0.01
    (sentence,) = told(registry, tmp_path)
    assert "its last re-certification in the ledger names" in sentence


@pytest.mark.parametrize(("gone", "served"), [("seq = 2", 0.6), ("1", 0.42)])
def test_an_earlier_threshold_that_was_approved_once_is_told(registry, tmp_path, monkeypatch, gone, served):
    """Also where the acts in the registry, and how many of them the ledger has, were made to fit."""
    raise_twice(registry)
    assert told(registry, tmp_path) == []
    earlier = "(SELECT row_digest FROM recertifications r WHERE r.version = versions.version ORDER BY seq DESC LIMIT 1)"
    by_hand(tmp_path, f"DELETE FROM recertifications WHERE {gone}",
            f"UPDATE versions SET recertified = {earlier} WHERE task = 'triage'",
            "DROP TRIGGER acts_are_not_deleted", "UPDATE acts_told SET seq = 0",
            "DELETE FROM acts WHERE seq = (SELECT max(seq) FROM acts WHERE what = 're-certify')")  # fmt: skip
    assert registry.active("triage").calibration.threshold == served and registry.flaws() == ()
    with LedgerReader(tmp_path) as ledger:
        (sentence,) = not_as_approved(registry, ledger)
        assert sentence.startswith("triage@1 does not serve by") and "its last re-certification in" in sentence
        monkeypatch.setattr(registry_rows, "_fits", lambda digest, act: True)
        assert list(not_as_approved(registry, ledger)) == []  # the control


def test_a_thousand_acts_on_their_way_hide_none(registry, tmp_path):
    connection = apsw.Connection(str(tmp_path / FILE))
    with connection:
        connection.executemany("INSERT INTO acts (time, who, what, subject) VALUES (?, 'ada', 'resume', 'other')",
                               [(n,) for n in range(1_001)])  # fmt: skip
    connection.close()
    registry.recertify(TOLD)
    with Ledger.open(tmp_path, clock=lambda: NOON), LedgerReader(tmp_path) as ledger:
        assert list(not_as_approved(registry, ledger)) == []


def test_versions_approved_before_acts_named_rows_are_passed_over(registry, tmp_path):
    class Old:
        """A ledger of earlier acts."""

        def acts(self, subject=None):
            return (Act(NOON, "ada", "promote", "triage@1", f"held (before: none; digest {'d' * 64})"),)

    registry.close_acts(10_000)
    assert list(not_as_approved(registry, Old())) == []


def test_of_a_raised_threshold_from_before_acts_named_rows_only_the_lack_is_told(registry):
    registry.close_acts(10_000)
    promoted = registry.acts("triage@1")[0]

    class Old:
        """A ledger of earlier acts, with the latest of a re-certification."""

        def acts(self, subject=None):
            return (promoted, Act(NOON, "steward", "re-certify", "triage@1", "raised"))

    (sentence,) = not_as_approved(registry, Old())
    assert "its last re-certification in the ledger names" in sentence
    registry.recertify(TOLD)
    registry.close_acts(10_000)
    assert list(not_as_approved(registry, Old())) == []


def test_rows_of_an_earlier_schema_get_their_digests(tmp_path):
    connection = open_database(tmp_path / FILE, migrations=migrations.REGISTRY[:7])
    values = ("triage", 1, "linear", "d" * 64, "candidate", 5, calibration_text(FIRST), "{}")
    connection.execute("INSERT INTO versions (task, version, family, digest, stage, created, calibration, lineage) "
                       "VALUES (?,?,?,?,?,?,?,?)", values)  # fmt: skip
    raised = ("triage", 1, 7, 0.42, calibration_text(RAISED), 1, 900, "steward", "raised")
    connection.execute(f"INSERT INTO recertifications ({RECERTIFIED}) VALUES (?,?,?,?,?,?,?,?,?)", raised)
    connection.close()
    with Registry.open(tmp_path) as registry:
        version = registry.get("triage")
        assert (version.digest, version.calibration) == ("d" * 64, RAISED) and registry.flaws() == ()
        assert registry.row("triage", 1).anew == row_digest(raised)
    for table in ("versions", "recertifications"):
        connection = apsw.Connection(str(tmp_path / FILE))
        with pytest.raises(apsw.ConstraintError, match="may change|append-only"):
            connection.execute(f"UPDATE {table} SET row_digest = 'x'")
        connection.close()
    by_hand(tmp_path, "DELETE FROM recertifications")
    with Registry.open(tmp_path) as registry:
        assert registry.get("triage").digest == ALTERED
