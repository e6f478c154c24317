import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal

import apsw
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from insource.errors import StoreError, StoreTooNew, UnknownTask, UnknownVersion
from insource.store import registry as module
from insource.store.registry import FILE, Registry
from insource.store.registry_rows import row_digest, to_version
from insource.types import Calibration, GuardResult, Stage

NOON = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC)
CALIBRATION = Calibration(
    method="step-down band", target_risk=0.05, confidence_level=0.95, rows=300, threshold=0.1 + 0.2, coverage=2 / 3,
    accepted=200, errors=3, risk_upper_bound=0.0499, ranking=None,
    guards=(GuardResult("spam", 0.1, 40, 1, 0.09, True), GuardResult("ham", 0.1, 3, 0, None, False, 26)),
    notes=("cross-fitted",),
)  # fmt: skip


@pytest.fixture
def registry(tmp_path):
    with Registry.open(tmp_path) as registry:
        yield registry


def add(registry, task="triage", **changes):
    values = {"family": "linear", "digest": "d" * 64, "calibration": CALIBRATION, "lineage": {}, "now": NOON} | changes
    return registry.register(task, **values)


def test_a_version_comes_back_as_it_was_registered(registry):
    lineage = {"snapshot": "s" * 64, "rows": {"train": 10, "test": 2}, "teacher": None, "share": 0.1, "folds": [1, 2]}
    version = add(registry, lineage=lineage)
    assert (version.task, version.version, version.family, version.digest) == ("triage", 1, "linear", "d" * 64)
    assert (version.stage, version.created, version.calibration) == (Stage.CANDIDATE, NOON, CALIBRATION)
    assert version.lineage == lineage
    assert registry.get("triage", 1) == registry.get("triage") == version


def row(registry, version):
    return f"row {registry.row('triage', version).own}"


def test_versions_count_up_for_each_task(registry):
    assert [add(registry, task).version for task in ("a", "a", "b", "a")] == [1, 2, 1, 3]
    assert [version.name for version in registry.versions("a")] == ["a@1", "a@2", "a@3"]
    assert registry.get("a").version == 3
    assert registry.tasks() == ("a", "b") and registry.versions("c") == ()


FIGURES = st.floats(allow_nan=False, allow_infinity=False)
COUNTS = st.integers(0, 2**53)
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
GUARDS = st.builds(GuardResult, TEXT, FIGURES, COUNTS, COUNTS, st.none() | FIGURES, st.booleans(), COUNTS)
CALIBRATIONS = st.builds(
    Calibration, TEXT, FIGURES, FIGURES, COUNTS, st.none() | FIGURES, FIGURES, COUNTS, COUNTS, st.none() | FIGURES,
    st.none() | FIGURES, st.lists(GUARDS, max_size=3).map(tuple), st.lists(TEXT, max_size=3).map(tuple),
)  # fmt: skip


@given(CALIBRATIONS)
def test_calibrations_come_back_exactly(calibration):
    row = (b"t", 1, b"linear", b"d", 0, module.calibration_text(calibration).encode(), b"{}")
    nothing = (None,) * 11
    assert to_version((b"candidate", 0.0, row_digest(row).encode(), *row, *nothing)).calibration == calibration


def test_a_version_without_calibration(registry):
    assert add(registry, calibration=None).calibration is None


@pytest.mark.parametrize("figure", [float("nan"), float("inf"), float("-inf")])
def test_a_figure_that_json_cannot_hold_is_refused(registry, figure):
    with pytest.raises(ValueError, match="is not finite"):
        add(registry, calibration=Calibration("m", 0.05, 0.95, 1, figure, 0.0, 0, 0, None, None))
    assert registry.versions("triage") == ()


def test_a_numpy_figure_is_refused_rather_than_guessed(registry):
    with pytest.raises(TypeError):
        add(registry, lineage={"share": numpy.float64(0.1)})


def test_money_in_a_lineage_comes_back_as_text(registry):
    assert add(registry, lineage={"cost": Decimal("0.10")}).lineage == {"cost": "0.10"}


def test_promotion_retires_the_version_before(registry):
    for _ in range(3):
        add(registry)
    assert registry.active("triage") is None
    assert registry.promote("triage", 1, "ada", "first", NOON).stage is Stage.ACTIVE
    registry.promote("triage", 3, "grace", "better", NOON)
    assert [version.stage.value for version in registry.versions("triage")] == ["retired", "candidate", "active"]
    assert registry.active("triage").version == 3
    registry.promote("triage", 1, "ada", "back again", NOON)
    assert registry.active("triage").version == 1
    acts = registry.acts()
    assert [(act.who, act.what, act.subject) for act in acts] == [
        ("ada", "promote", "triage@1"), ("grace", "promote", "triage@3"), ("ada", "promote", "triage@1")
    ]  # fmt: skip
    assert (
        acts[1].detail == f"better (before: triage@1; digest {'d' * 64}; {row(registry, 3)})" and acts[1].time == NOON
    )
    assert registry.acts("triage@3") == (acts[1],)


def test_promoting_the_active_version_changes_nothing(registry):
    add(registry)
    registry.promote("triage", 1, "ada", "first", NOON)
    before = registry.changed()
    assert registry.promote("triage", 1, "ada", "again", NOON).stage is Stage.ACTIVE
    assert len(registry.acts()) == 1 and registry.changed() == before


def test_a_promotion_that_fails_leaves_everything_as_it_was(registry):
    add(registry)
    registry.promote("triage", 1, "ada", "first", NOON)
    with pytest.raises(UnknownVersion, match=r"'triage' has no version 9; it has version 1\..*insource tasks triage"):
        registry.promote("triage", 9, "ada", "typo", NOON)
    with pytest.raises(TypeError):
        add(registry)
        registry.promote("triage", 2, "ada", "a time without a zone", datetime(2026, 1, 1))  # noqa: DTZ001
    assert registry.active("triage").version == 1 and len(registry.acts()) == 1


def test_unknown_tasks_are_told_from_unknown_versions(registry):
    with pytest.raises(UnknownTask, match="no task has one yet. `insource train"):
        registry.get("triage")
    add(registry)
    add(registry)
    with pytest.raises(UnknownTask, match="'trriage' has no version.*known are triage"):
        registry.get("trriage", 1)
    with pytest.raises(UnknownVersion, match="it has versions 1 to 2"):
        registry.get("triage", 3)


def test_others_changes_are_noticed_and_reading_is_none(tmp_path, registry):
    with Registry.open(tmp_path) as other:
        seen = registry.changed()
        other.versions("triage"), other.changed(), registry.active("triage")
        assert registry.changed() == seen
        add(other)
        assert (after_adding := registry.changed()) > seen
        other.promote("triage", 1, "ada", "first", NOON)
        assert registry.changed() > after_adding
        assert registry.active("triage").version == 1


def test_own_changes_are_noticed(registry):
    seen = registry.changed()
    add(registry)
    assert registry.changed() > seen


def raw(tmp_path):
    connection = apsw.Connection(str(tmp_path / FILE))
    connection.execute("PRAGMA recursive_triggers = ON")
    return connection


GUARDED = [
    ("UPDATE versions SET digest = 'other'", "only stage and share may change", "versions_change_stage_and_share_only"),
    ("DELETE FROM versions", "versions are never deleted", "versions_are_not_deleted"),
    ("UPDATE acts SET who = 'nobody'", "acts are append-only", "acts_are_not_changed"),
    ("DELETE FROM acts", "acts are append-only", "acts_are_not_deleted"),
]


@pytest.mark.parametrize(("write", "words", "trigger"), GUARDED)
def test_the_file_itself_refuses_to_rewrite_history(tmp_path, registry, write, words, trigger):
    add(registry)
    registry.promote("triage", 1, "ada", "first", NOON)
    connection = raw(tmp_path)
    with pytest.raises(apsw.ConstraintError, match=words):
        connection.execute(write)
    connection.execute(f"DROP TRIGGER {trigger}")  # the control: without its trigger the write goes through
    connection.execute(write)
    assert connection.changes() == 1
    connection.close()


def test_the_file_itself_allows_one_active_version(tmp_path, registry):
    add(registry), add(registry)
    connection = raw(tmp_path)
    with pytest.raises(apsw.ConstraintError, match="UNIQUE"):
        connection.execute("UPDATE versions SET stage = 'active'")
    connection.execute("DROP INDEX one_active_version")
    connection.execute("UPDATE versions SET stage = 'active'")
    assert connection.changes() == 2
    connection.close()


WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from insource.store.registry import Registry
now = datetime(2026, 11, 21, tzinfo=UTC)
with Registry.open(Path(sys.argv[1])) as registry:
    for _ in range(15):
        version = registry.register("triage", "linear", sys.argv[2], None, {}, now).version
        registry.promote("triage", version, sys.argv[2], "mine", now)
"""


def test_many_processes_write_at_once(tmp_path, registry, child_environment):
    children = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(n)], env=child_environment) for n in range(4)
    ]
    assert [child.wait() for child in children] == [0, 0, 0, 0]
    versions = registry.versions("triage")
    assert [version.version for version in versions] == list(range(1, 61))
    assert sorted({version.digest for version in versions}) == ["0", "1", "2", "3"]
    assert [version.stage for version in versions].count(Stage.ACTIVE) == 1
    acts = registry.acts()
    assert len(acts) == 60
    active = "none"
    for act in acts:  # each promotion saw the one before it: none was overwritten unseen
        assert f"(before: {active};" in act.detail
        active = act.subject
    assert registry.active("triage").name == active


def test_a_registry_of_a_newer_insource_is_refused(tmp_path):
    Registry.open(tmp_path).close()
    connection = raw(tmp_path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreTooNew, match="has schema 99"):
        Registry.open(tmp_path)


def test_garbage_is_not_a_registry(tmp_path):
    (tmp_path / FILE).write_text("stage = active\n" * 100)
    with pytest.raises(StoreError, match="damaged or is not a database"):
        Registry.open(tmp_path)
