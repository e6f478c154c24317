"""A raised threshold in the registry: in force at once and for good, never lower, of the active version only."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import apsw
import pytest

from insource.errors import StageConflict, UnknownVersion
from insource.store.recertifications import Recertified
from insource.store.registry import FILE, Registry
from insource.types import Calibration, Doubt

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
FIRST = Calibration("cross-fit", 0.05, 0.95, 400, 0.42, 0.8, 320, 3, 0.03, 0.9)
RAISED = Calibration("doubt", 0.05, 0.95, 2_000, 0.6, 0.7, 1_400, 40, 0.049, 0.85)
TOLD = Recertified("triage", 1, NOON, 0.42, RAISED, 2, 900, "steward", "raised (ledger row 3000)")


@pytest.fixture
def registry(tmp_path):
    """A registry whose task has two versions, the first active and doubted."""
    with Registry.open(tmp_path) as registry:
        for _ in range(2):
            registry.register("triage", "linear", "d" * 64, FIRST, {}, NOON)
        registry.promote("triage", 1, "ada", "by hand", NOON)
        registry.raise_doubt(Doubt("triage", 1, NOON, ("scores",), 900, "steward", "scores moved"))
        yield registry


def acts(registry):
    return [(act.who, act.what, act.subject, act.detail) for act in registry.acts() if act.what != "promote"][1:]


def test_it_is_in_force_wherever_the_version_is_read_and_ends_the_doubt(registry):
    registry.recertify(TOLD)
    assert registry.recertified("triage", 1) == registry.recertified("triage") == TOLD
    assert registry.doubt("triage") is None and registry.recertified("triage", 2) is None
    for found in (registry.active("triage"), registry.get("triage", 1), registry.versions("triage")[0]):
        assert found.calibration == RAISED
    assert registry.get("triage", 2).calibration == FIRST
    detail = f"{TOLD.why} (row {registry.row('triage', 1).anew})"
    assert acts(registry) == [("steward", "re-certify", "triage@1", detail),
                              ("steward", "end doubt", "triage@1", TOLD.why)]  # fmt: skip


def test_it_outlives_restarts_and_other_versions_and_the_last_one_holds(registry, tmp_path):
    higher = replace(TOLD, before=0.6, calibration=replace(RAISED, threshold=0.7), doubts=3)
    registry.recertify(TOLD)
    registry.recertify(higher)
    registry.promote("triage", 2, "ada", "better", NOON)
    assert registry.active("triage").calibration == FIRST
    assert registry.rollback("triage", "ada", "worse", NOON).calibration.threshold == 0.7
    with Registry.open(tmp_path) as again:
        assert again.active("triage").calibration == higher.calibration and again.recertified("triage") == higher
        assert [act[1] for act in acts(again)].count("end doubt") == 1  # none stood the second time


@pytest.mark.parametrize("told, error", [
    (replace(TOLD, before=0.41), StageConflict),
    (replace(TOLD, version=2), StageConflict),
    (replace(TOLD, version=3), UnknownVersion),
    (replace(TOLD, calibration=replace(RAISED, threshold=0.42)), ValueError),
    (replace(TOLD, calibration=replace(RAISED, threshold=0.1)), ValueError),
    (replace(TOLD, calibration=replace(RAISED, threshold=None)), ValueError),
    (replace(TOLD, calibration=replace(RAISED, coverage=float("nan"))), ValueError),
])  # fmt: skip
def test_only_what_serves_is_raised_from_where_it_stands(registry, told, error):
    with pytest.raises(error):
        registry.recertify(told)
    assert registry.active("triage").calibration == FIRST and registry.recertified("triage") is None
    assert registry.doubt("triage") is not None and acts(registry) == []


def test_of_two_stewards_the_first_has_his_way(registry, tmp_path):
    with Registry.open(tmp_path) as other:
        before = other.changed()
        registry.recertify(TOLD)
        assert other.changed() != before
        with pytest.raises(StageConflict, match="serves at 0.6 by now"):
            other.recertify(replace(TOLD, time=NOON + timedelta(seconds=1)))
        assert other.active("triage").calibration == RAISED


@pytest.mark.parametrize("change", ["UPDATE recertifications SET before = 0", "DELETE FROM recertifications"])
def test_it_is_never_changed(registry, tmp_path, change):
    registry.recertify(TOLD)
    connection = apsw.Connection(str(tmp_path / FILE))
    with pytest.raises(apsw.ConstraintError, match="append-only"):
        connection.execute(change)
    connection.close()


@pytest.mark.parametrize("cut", ["columns.INSERT_ACT", "recertifications.END"])
def test_a_transaction_that_is_cut_off_leaves_all_as_it_was(registry, monkeypatch, cut):
    """As a kill between two statements does: the threshold, the act and the doubt's end are one."""
    monkeypatch.setattr(f"insource.store.{cut}", "INSERT INTO nowhere VALUES (1)")
    with pytest.raises(Exception, match="nowhere"):
        registry.recertify(TOLD)
    monkeypatch.undo()
    assert registry.active("triage").calibration == FIRST and registry.doubt("triage") is not None
    assert acts(registry) == []
    registry.recertify(TOLD)
    assert registry.active("triage").calibration == RAISED
