"""Files of an earlier schema are brought up to date by the writer, and their rows are read as they were meant."""

from pathlib import Path

import apsw
import pytest

from insource.errors import StoreError
from insource.store import columns, migrations
from insource.store.columns import Feedback, Source
from insource.store.database import open_database
from insource.store.ledger import FILE, Ledger
from insource.store.ledger_reader import LedgerReader
from insource.store.registry import Registry
from insource.types import Outcome, Reason, Sensitivity, Stage

OLD = columns.DECISION.removesuffix(", tier, sensitivity, answer, key")


@pytest.fixture
def old_home(tmp_path, make):
    """A home whose ledger has schema 1, with one decision."""
    connection = open_database(tmp_path / FILE, migrations=migrations.LEDGER[:1])
    values = columns.decision_values(make.decision("old"), None)[:-4]
    marks = ", ".join("?" * len(values))
    connection.execute(f"INSERT INTO decisions (seq, {OLD}) VALUES (1, {marks})", values)
    connection.close()
    return tmp_path


async def test_a_ledger_of_schema_1_opens_and_its_rows_have_no_tier(old_home, make, noon):
    new = make.decision("new", outcome=Outcome.KEPT, reason=Reason.KEPT_LOCAL, tier="llama",
                        sensitivity=Sensitivity.RESTRICTED)  # fmt: skip
    with Ledger.open(old_home, clock=lambda: noon) as ledger:
        await ledger.append(new)
    with LedgerReader(old_home) as reader:
        old, read = [row.decision for row in reader.rows()]
        totals = reader.totals()
    assert old == make.decision("old") and old.tier is None and old.sensitivity is None
    assert read == new
    assert totals.outcomes == {"accepted": 1, "kept": 1} and totals.reasons["kept_local"] == 1


def test_a_reader_never_migrates(old_home):
    with pytest.raises(StoreError, match="has schema 1; this insource reads schema 7"):
        LedgerReader(old_home)


def test_rows_stay_append_only_after_the_migration(old_home, noon):
    Ledger.open(old_home, clock=lambda: noon).close()
    connection = apsw.Connection(str(old_home / FILE))
    for change in ("UPDATE decisions SET tier = 'x'", "DELETE FROM decisions"):
        with pytest.raises(apsw.ConstraintError, match="append-only"):
            connection.execute(change)
    connection.close()


def test_control_without_the_step_the_columns_are_missing(tmp_path):
    connection = open_database(tmp_path / FILE, migrations=migrations.LEDGER[:1])
    with pytest.raises(apsw.SQLError, match="no such column: tier"):
        connection.execute("SELECT tier FROM decisions")
    connection.close()


@pytest.fixture
def home_of_a_release(tmp_path):
    """A home whose two files were written by the code before the rollout, as that code wrote them."""
    for name in ("ledger", "registry"):
        connection = apsw.Connection(str(tmp_path / f"{name}.db"))
        connection.execute((Path(__file__).parent / "old" / f"{name}-2.sql").read_text())
        assert connection.execute("PRAGMA user_version").get == 2
        connection.close()
    return tmp_path


def test_an_old_registry_opens_and_knows_what_was_active_before(home_of_a_release, noon):
    with Registry.open(home_of_a_release) as registry:
        assert [(each.stage, each.share) for each in registry.versions("triage")] == [
            (Stage.RETIRED, 0.0), (Stage.RETIRED, 0.0), (Stage.ACTIVE, 0.0),
        ]  # fmt: skip
        assert [(move.version, move.before, move.stage) for move in registry.moves("triage")] == [
            (1, Stage.CANDIDATE, Stage.ACTIVE), (1, Stage.ACTIVE, Stage.RETIRED), (2, Stage.CANDIDATE, Stage.ACTIVE),
            (2, Stage.ACTIVE, Stage.RETIRED), (1, Stage.RETIRED, Stage.ACTIVE),
            (1, Stage.ACTIVE, Stage.RETIRED), (3, Stage.CANDIDATE, Stage.ACTIVE),
        ]  # fmt: skip
        assert registry.moves("other") == () and registry.suspension("triage") is None
        assert len(registry.acts()) == 5 and registry.review("r-1").answer == "refund"
        assert registry.outgoing_feedback() == ()
        assert registry.rollback("triage", "ada", "worse", noon).version == 1
        assert registry.rollback("triage", "ada", "worse", noon).version == 2


def test_stages_that_a_hand_wrote_into_an_old_registry_begin_again(home_of_a_release):
    connection = apsw.Connection(str(home_of_a_release / "registry.db"))
    connection.execute("UPDATE versions SET stage = 'canary' WHERE task = 'triage' AND version < 3")
    connection.execute("INSERT INTO acts (time, who, what, subject) VALUES (0, 'x', 'promote', 'gone@7')")
    connection.close()
    with Registry.open(home_of_a_release) as registry:
        assert [str(each.stage) for each in registry.versions("triage")] == ["candidate", "candidate", "active"]
        assert registry.trial("triage") is None and registry.flaws() == ()


async def test_an_old_ledger_opens_and_takes_pairs_and_feedback(home_of_a_release, make, noon):
    with pytest.raises(StoreError, match="has schema 2; this insource reads schema 7"):
        LedgerReader(home_of_a_release)
    second = make.audit(1, version=2, accepts=False, stage=Stage.SHADOW, score=0.5, seconds=0.001)
    with Ledger.open(home_of_a_release, clock=lambda: noon) as ledger:
        ledger.audit(second)
        await ledger.feedback(Feedback("r-1", noon, "triage", "refund", "ada", Source.LABEL))
        with pytest.raises(StoreError, match="refused a row"):
            ledger.audit(make.audit(1, version=1, score=0.9)).result()
    with LedgerReader(home_of_a_release) as reader:
        old, new = (audit for _, audit in reader.audits("triage"))
        assert (old.agrees, old.accepts, old.stage, old.score) == (True, None, None, None) and new == second
        assert [each.reference for each in reader.references("triage")] == ["card", "refund"]


def test_every_released_step_is_as_it_was(home_of_a_release, tmp_path_factory):
    """The schema that today's steps 1 and 2 make is the one in the old files."""
    folder = tmp_path_factory.mktemp("fresh")
    for name, steps in (("ledger", migrations.LEDGER), ("registry", migrations.REGISTRY)):
        made = open_database(folder / f"{name}.db", migrations=steps[:2])
        old = apsw.Connection(str(home_of_a_release / f"{name}.db"))
        schemas = [sorted(" ".join(row[0].split()) for row in each.execute("SELECT sql FROM sqlite_schema WHERE sql "
                          "IS NOT NULL")) for each in (made, old)]  # fmt: skip
        made.close(), old.close()
        assert schemas[0] == schemas[1]
