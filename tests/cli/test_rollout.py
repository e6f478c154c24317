"""`insource promote --to`, `rollback`, `suspend` and `resume`, and how `tasks` and `explain` show what they did."""

import json
import shutil
import sqlite3
from datetime import UTC, datetime

import pytest

from insource.store.registry import FILE, Registry
from insource.types import Stage

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def registry(home):
    with Registry.open(home) as registry:
        yield registry


@pytest.fixture
def two(registered):
    """Two versions of a task, the first one active."""
    registered()
    registered()


def told(run, *arguments):
    done = run(*arguments, "--json", "-")
    assert done.code == 0, done.err
    return json.loads(done.out)


def stages(registry):
    return [(str(version.stage), version.share) for version in registry.versions("triage")]


def test_a_version_is_taken_step_by_step(run, two, registry):
    assert run("promote", "triage@1").code == 0
    done = run("promote", "triage", "--to", "shadow", "--who", "ada", "--why", "a look")
    assert done.code == 0, done.err
    assert done.out.startswith("triage@2 (linear, digest ") and ") is shadow, by ada." in done.out
    assert "active: triage@1" in done.out and "answers nothing" in done.out
    done = run("promote", "triage@2", "--to", "canary", "--share", "0.05")
    assert "is canary at 5 %, by " in done.out and "accepts at a score of 0.4200" in done.out
    assert told(run, "promote", "triage@2", "--to", "canary", "--share", "0.25")["share"] == 0.25
    found = told(run, "promote", "triage@2", "--to", "active")
    assert (found["stage"], found["share"], found["before"], found["changed"]) == ("active", 0.0, 1, True)
    assert stages(registry) == [("retired", 0.0), ("active", 0.0)]
    assert [(move.stage, move.who) for move in registry.moves()][1] == (Stage.SHADOW, "ada")


def test_a_canary_begins_at_one_percent(run, two, registry):
    assert told(run, "promote", "triage@1", "--to", "canary")["share"] == 0.01


@pytest.mark.parametrize(("arguments", "said"), [
    (("--share", "0.5"), "--share was given without --to canary"),
    (("--to", "shadow", "--share", "0.5"), "--share was given without --to canary"),
    (("--to", "canary", "--share", "0"), "--share is 0; a share above 0"),
    (("--to", "canary", "--share", "nan"), "--share is nan; a share above 0"),
    (("--to", "canary", "--share", "2"), "--share is 2; a share above 0"),
    (("--to", "retired"), "Invalid value for '--to'"),
])  # fmt: skip
def test_a_step_that_cannot_be_is_the_persons_mistake(run, two, registry, arguments, said):
    done = run("promote", "triage@1", *arguments)
    assert done.code == 2 and said in done.err
    assert registry.moves() == ()


def test_a_second_trial_is_a_conflict_told_with_its_way_out(run, two, registry):
    run("promote", "triage@1", "--to", "shadow")
    done = run("promote", "triage@2", "--to", "canary")
    assert done.code == 2 and done.out == ""
    assert "error: triage@1 is in shadow or canary" in done.err and "insource rollback triage" in done.err
    assert stages(registry) == [("shadow", 0.0), ("candidate", 0.0)]


def test_the_checks_hold_for_every_stage_in_which_it_answers(run, registered, registry, damage):
    registered(calibration=None)
    assert run("promote", "triage", "--to", "canary").code == 2
    assert run("promote", "triage", "--to", "shadow").code == 0  # there nothing is accepted
    damage()
    assert run("promote", "triage@1", "--to", "canary", "--anyway", "--why", "w").code == 1
    assert stages(registry) == [("shadow", 0.0)]


def test_a_canary_whose_artifact_was_deleted_goes_back_and_stays_out(run, registered, registry, home):
    registered()
    assert run("promote", "triage@1", "--to", "canary").code == 0
    for folder in (home / "artifacts").glob("[0-9a-f]*"):
        shutil.rmtree(folder)
    assert run("steward", "--once").code == 0
    assert stages(registry) == [("retired", 0.0)]
    assert "its artifact cannot be served: " in registry.moves("triage")[-1].why
    assert told(run, "tasks", "triage")["versions"][0]["stage"] == "retired"
    assert "retired" in run("status", "triage").out
    done = run("promote", "triage@1")
    assert done.code == 1 and "There is no artifact" in done.err and stages(registry) == [("retired", 0.0)]


def test_promote_carries_out_what_is_proposed(run, two, registry):
    run("promote", "triage@1")
    run("promote", "triage@2", "--to", "shadow")
    registry.propose("triage", 2, Stage.CANARY, 0.01, ("400 rows held",), NOON)
    shown = run("tasks", "triage").out
    assert (
        "triage: proposed since 2026-11-21 12:00 UTC: triage@2 to canary at 1 % (400 rows held); `insource promote"
        in shown
    )
    done = run("promote", "triage@2", "--who", "ada")
    assert "is canary at 1 %, by ada." in done.out and "proposed: 400 rows held" in done.out
    assert registry.proposal("triage") is None
    registry.propose("triage", 2, Stage.CANARY, 0.05, ("more held",), NOON)
    found = told(run, "promote", "triage")  # the task's name is enough
    assert (found["share"], found["proposed"]) == (0.05, ["more held"])


def test_another_version_than_the_proposed_goes_straight_to_active(run, two, registry):
    registry.propose("triage", 2, Stage.SHADOW, 0.0, ("newer",), NOON)
    found = told(run, "promote", "triage@1")
    assert (found["version"], found["stage"], found["proposed"]) == (1, "active", None)
    registry.propose("triage", 2, Stage.SHADOW, 0.0, ("newer",), NOON)
    found = told(run, "promote", "triage@2", "--to", "active")
    assert (found["stage"], found["proposed"]) == ("active", None)


def test_a_rollback_ends_the_trial_then_goes_back(run, two, registry):
    run("promote", "triage@1")
    run("promote", "triage@2", "--to", "canary")
    done = run("rollback", "triage", "--who", "ada", "--why", "worse")
    assert done.code == 0
    assert done.out.startswith("triage@2, which was canary, is retired, by ada.\ntriage@1 serves.\n")
    run("promote", "triage@2")
    assert told(run, "rollback", "triage@2") == {
        "task": "triage", "retired": 2, "was": "active", "serves": 1, "who": registry.acts()[-1].who, "why": None
    }  # fmt: skip
    assert "No version serves now: every request goes up." in run("rollback", "triage").out
    done = run("rollback", "triage")
    assert done.code == 2 and "has nothing to roll back" in done.err


def test_a_rollback_of_another_version_than_the_named_is_a_conflict(run, two, registry):
    run("promote", "triage@1")
    run("promote", "triage@2", "--to", "canary")
    done = run("rollback", "triage@1")
    assert done.code == 2 and "would retire triage@2 by now; triage@1 was expected" in done.err
    assert "Task 'nobody' has no version" in run("rollback", "nobody").err
    assert stages(registry) == [("active", 0.0), ("canary", 0.01)]


def test_a_task_is_stopped_and_goes_on(run, two, registry):
    run("promote", "triage@1")
    done = run("suspend", "triage", "--who", "ada", "--why", "the policy \x1b[31mchanged")
    assert done.out.startswith("triage is suspended, by ada: every request escalates.")
    assert "since" in run("suspend", "triage", "--who", "bob").out and registry.suspension("triage").who == "ada"
    for arguments in (("tasks",), ("tasks", "triage")):
        out = run(*arguments).out
        assert "triage: suspended since " in out and "by ada: the policy \ufffd[31mchanged; every request" in out
    done = run("promote", "triage@1")
    assert "nothing was changed" in done.out and "`insource resume triage` lifts it" in done.out
    explained = run("explain", "--text", "my card was stolen", "--task", "triage").out
    assert "the task is suspended since " in explained and "escalated: suspended" in explained
    done = run("resume", "triage", "--who", "ada", "--why", "learnt")
    assert "is lifted, by ada: triage@1 accepts again." in done.out
    assert run("resume", "triage").out == "triage is not suspended; nothing was changed.\n"
    assert [(act.what, act.detail) for act in registry.acts("triage")][1] == ("resume", "learnt")
    assert "escalated: suspended" not in run("explain", "--text", "my card", "--task", "triage").out


@pytest.mark.parametrize("command", ["suspend", "resume"])
def test_a_task_that_nobody_knows_is_not_stopped(run, two, command):
    done = run(command, "triaage")
    assert done.code == 2 and "known are triage" in done.err


def test_tasks_show_the_trial_and_its_share(run, two):
    run("promote", "triage@1")
    run("promote", "triage@2", "--to", "canary", "--share", "0.05")
    assert "triage: @2 is in canary at 5 %." in run("tasks").out
    out = run("tasks", "triage").out
    assert "canary at 5 %" in out and "move by " in out
    (row,) = told(run, "tasks")["tasks"]
    assert row["trial"] == {"version": 2, "stage": "canary", "share": 0.05} and row["suspended"] is None
    one = told(run, "tasks", "triage")
    assert [(move["version"], move["stage"], move["share"]) for move in one["moves"]] == [
        (1, "active", 0.0), (2, "canary", 0.05)
    ]  # fmt: skip


def test_a_registry_changed_by_hand_is_shown_as_such(run, two, home):
    with sqlite3.connect(home / FILE) as connection:
        connection.execute("UPDATE versions SET stage = 'bogus\x1b' WHERE version = 2")
    connection.close()
    for arguments in (("tasks",), ("tasks", "triage")):
        done = run(*arguments)
        assert done.code == 0 and "changed by hand: triage@2 has the unknown stage 'bogus" in " ".join(done.out.split())
        assert "\x1b" not in done.out
    assert run("explain", "--text", "my card", "--task", "triage@2").code == 0
    assert run("promote", "triage@2").code == 0
    assert "by hand" not in run("tasks").out
