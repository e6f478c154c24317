"""Doubts in the registry, and what is kept of a watch: one stands, of the active version; races, kills, hands."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import apsw
import pytest

from insource.errors import StageConflict, UnknownVersion
from insource.store.doubts import KeptWatch
from insource.store.registry import FILE, Registry
from insource.types import Doubt

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
DOUBT = Doubt("triage", 1, NOON, ("scores", "answers"), 4_000, "steward", "scores moved")
KEPT = KeptWatch("triage", "basis", 17, NOON, {"rows": [1, None, 0.5]}, {"standing": "calm"})


@pytest.fixture
def registry(tmp_path):
    """A registry whose task has two versions, the first active."""
    with Registry.open(tmp_path) as registry:
        for _ in range(2):
            registry.register("triage", "linear", "d" * 64, None, {}, NOON)
        registry.promote("triage", 1, "ada", "by hand", NOON)
        yield registry


def acts(registry):
    return [(act.who, act.what, act.subject, act.detail) for act in registry.acts() if "doubt" in act.what]


def test_a_doubt_stands_until_it_is_ended_and_both_are_acts(registry):
    assert registry.doubt("triage") is None
    assert registry.raise_doubt(DOUBT) == DOUBT == registry.doubt("triage")
    assert registry.end_doubt(DOUBT, "steward", "no harm", LATER)
    assert registry.doubt("triage") is None
    assert acts(registry) == [
        ("steward", "doubt", "triage@1", "scores moved"), ("steward", "end doubt", "triage@1", "no harm"),
    ]  # fmt: skip


def test_a_quiet_one_is_no_act(registry):
    registry.raise_doubt(DOUBT, quiet=True)
    assert registry.doubt("triage") == DOUBT
    assert registry.end_doubt(DOUBT, "steward", "no harm", LATER, quiet=True)
    assert acts(registry) == []


def test_the_first_of_two_stewards_has_his_way(registry):
    second = replace(DOUBT, time=LATER, kinds=("risk",))
    registry.raise_doubt(DOUBT)
    assert registry.raise_doubt(second) == DOUBT
    assert len(acts(registry)) == 1
    assert not registry.end_doubt(second, "steward", "another one", LATER)
    assert registry.doubt("triage") == DOUBT
    assert registry.end_doubt(DOUBT, "steward", "no harm", LATER)
    assert not registry.end_doubt(DOUBT, "steward", "no harm", LATER)


def test_only_the_active_version_is_doubted(registry):
    for version, error in ((2, StageConflict), (3, UnknownVersion)):
        with pytest.raises(error):
            registry.raise_doubt(replace(DOUBT, version=version))
    assert registry.doubt("triage") is None and acts(registry) == []


def test_under_another_version_it_is_void_and_makes_room(registry):
    registry.raise_doubt(DOUBT)
    registry.promote("triage", 2, "ada", "better", LATER)
    assert registry.doubt("triage") is None
    fresh = replace(DOUBT, version=2, time=LATER)
    assert registry.raise_doubt(fresh) == registry.doubt("triage") == fresh
    registry.rollback("triage", "ada", "worse", LATER)
    assert registry.doubt("triage") is None


def test_others_hear_of_it_by_the_number_that_changes(registry, tmp_path):
    with Registry.open(tmp_path) as other:
        before = other.changed()
        registry.raise_doubt(DOUBT)
        assert other.changed() != before and other.doubt("triage") == DOUBT


@pytest.mark.parametrize("change", ["UPDATE doubts SET why = 'x'", "UPDATE doubts SET ended = 1", "DELETE FROM doubts"])
def test_an_ended_doubt_is_never_changed(registry, tmp_path, change):
    registry.raise_doubt(DOUBT)
    registry.end_doubt(DOUBT, "steward", "no harm", LATER)
    connection = apsw.Connection(str(tmp_path / FILE))
    with pytest.raises(apsw.ConstraintError, match="doubt"):
        connection.execute(change)
    connection.close()


def test_what_a_hand_made_unreadable_is_passed_over(registry, tmp_path):
    registry.raise_doubt(DOUBT)
    registry.keep_watch(KEPT)
    connection = apsw.Connection(str(tmp_path / FILE))
    connection.execute("DROP TRIGGER doubts_end_once")
    connection.execute("UPDATE doubts SET kinds = '{'")
    connection.execute("UPDATE watches SET state = '[]'")
    connection.close()
    assert registry.doubt("triage") is None and registry.kept_watch("triage") is None


def test_what_was_watched_is_kept_once_and_comes_back(registry):
    assert registry.kept_watch("triage") is None
    registry.keep_watch(replace(KEPT, row=3))
    registry.keep_watch(KEPT)
    assert registry.kept_watch("triage") == KEPT


def test_a_transaction_that_is_cut_off_leaves_no_doubt(registry, monkeypatch):
    monkeypatch.setattr("insource.store.columns.INSERT_ACT", "INSERT INTO nowhere VALUES (1)")
    with pytest.raises(Exception, match="nowhere"):
        registry.raise_doubt(DOUBT)
    assert registry.doubt("triage") is None
