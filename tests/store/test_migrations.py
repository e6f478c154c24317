"""Files of an earlier schema are brought up to date by the writer, and their rows are read as they were meant."""

import apsw
import pytest

from insource.errors import StoreError
from insource.store import columns, migrations
from insource.store.database import open_database
from insource.store.ledger import FILE, Ledger
from insource.store.ledger_reader import LedgerReader
from insource.types import Outcome, Reason, Sensitivity

OLD = columns.DECISION.removesuffix(", tier, sensitivity")


@pytest.fixture
def old_home(tmp_path, make):
    """A home whose ledger has schema 1, with one decision."""
    connection = open_database(tmp_path / FILE, migrations=migrations.LEDGER[:1])
    values = columns.decision_values(make.decision("old"), None)[:-2]
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
    with pytest.raises(StoreError, match="has schema 1; this insource reads schema 2"):
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
