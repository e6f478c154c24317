"""The rollout in the registry: steps, promotions, rollbacks, proposals, suspensions; races, kills, hands."""

import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import count, product
from pathlib import Path

import apsw
import pytest

from insource.errors import StageConflict, UnknownTask, UnknownVersion
from insource.store.registry import FILE, Registry
from insource.store.stages import ALLOWED, TRIAL, Proposal, place
from insource.types import Move, Stage, Suspension

NOON = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
CANDIDATE, SHADOW, CANARY, ACTIVE, RETIRED = Stage
STOPS = Path(__file__).with_name("stop_between_statements.py")


@pytest.fixture
def registry(tmp_path):
    with Registry.open(tmp_path) as registry:
        yield registry


@pytest.fixture
def three(registry):
    """A registry whose task has three candidates."""
    for _ in range(3):
        registry.register("triage", "linear", "d" * 64, None, {}, NOON)
    return registry


def step(registry, version, expected, to, share=0.0, task="triage", who="ada", why="why"):
    return registry.move(task, version, expected=expected, to=to, share=share, who=who, why=why, now=NOON)


def put(registry, version, *way):
    """Take a candidate along stages."""
    for stage in way:
        now = registry.get("triage", version).stage
        step(registry, version, now, stage, 0.01 if stage is CANARY else 0.0)


def stages(registry):
    return [str(version.stage) for version in registry.versions("triage")]


def everything(home):
    """All rows of the registry, to compare before and after."""
    connection = apsw.Connection(str(home / FILE))
    tables = ("versions", "moves", "acts", "suspensions", "proposals", "outbox")
    rows = {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables}
    connection.close()
    return rows


def by_hand(home, *statements):
    """Write into the registry without its guards."""
    connection = apsw.Connection(str(home / FILE))
    for trigger in ("canaries_alone_have_a_share", "versions_change_stage_and_share_only"):
        connection.execute(f"DROP TRIGGER {trigger}")
    for index in ("one_active_version", "one_trial_version"):
        connection.execute(f"DROP INDEX {index}")
    for statement in statements:
        connection.execute(statement)
    connection.close()


def test_a_version_goes_from_shadow_over_canary_to_active_and_all_of_it_is_kept(three):
    step(three, 1, CANDIDATE, SHADOW, why="a look")
    assert three.trial("triage").stage is SHADOW and three.active("triage") is None
    assert step(three, 1, SHADOW, CANARY, 0.05).share == 0.05
    assert (three.trial("triage").version, three.trial("triage").share) == (1, 0.05)
    assert step(three, 1, CANARY, CANARY, 0.25).share == 0.25
    active = step(three, 1, CANARY, ACTIVE, who="grace", why="proved")
    assert (active.stage, active.share) == (ACTIVE, 0.0)
    assert three.trial("triage") is None and three.active("triage").version == 1
    assert three.moves("triage") == (
        Move(NOON, "triage", 1, CANDIDATE, SHADOW, 0.0, "ada", "a look"),
        Move(NOON, "triage", 1, SHADOW, CANARY, 0.05, "ada", "why"),
        Move(NOON, "triage", 1, CANARY, CANARY, 0.25, "ada", "why"),
        Move(NOON, "triage", 1, CANARY, ACTIVE, 0.0, "grace", "proved"),
    )
    assert [(act.what, act.who) for act in three.acts("triage@1")] == [("move", "ada")] * 3 + [("promote", "grace")]
    assert (
        three.acts("triage@1")[1].detail
        == f"why (shadow to canary at 5 %; digest {'d' * 64}; row {three.row('triage', 1).own})"
    )


def test_the_one_that_was_active_retires_in_the_same_step(three):
    put(three, 1, ACTIVE)
    put(three, 2, SHADOW, CANARY, ACTIVE)
    assert stages(three) == ["retired", "active", "candidate"]
    assert [(move.version, move.stage) for move in three.moves()[-2:]] == [(1, RETIRED), (2, ACTIVE)]


def test_moves_come_after_those_one_has(three):
    put(three, 1, SHADOW, CANARY)
    three.register("other", "linear", "d" * 64, None, {}, NOON)
    three.promote("other", 1, "ada", "w", NOON)
    put(three, 1, ACTIVE)
    assert [move.task for move in three.moves()] == ["triage", "triage", "other", "triage"]
    assert [move.stage for move in three.moves("triage", after=2)] == [ACTIVE]
    assert three.moves("triage", after=3) == () == three.moves("nobody")


@pytest.mark.parametrize(("before", "to"), [pair for pair in product(Stage, Stage) if pair != (CANARY, CANARY)])
def test_only_the_steps_of_the_table_may_be_taken(three, before, to):
    put(three, 1, *{CANDIDATE: (), RETIRED: (SHADOW, RETIRED)}.get(before, (before,)))
    share = 0.5 if to is CANARY else 0.0
    if to in ALLOWED[before]:
        assert step(three, 1, before, to, share).stage is to
    else:
        with pytest.raises(StageConflict, match=f"triage@1 is {before}.* and cannot be moved to {to}"):
            step(three, 1, before, to, share)
        assert three.get("triage", 1).stage is before


def test_the_same_canary_is_no_step(three):
    put(three, 1, CANARY)
    with pytest.raises(StageConflict, match="is canary at 1 % and cannot be moved to canary at 1 %"):
        step(three, 1, CANARY, CANARY, 0.01)


def test_whoever_expected_another_stage_loses_and_changes_nothing(three, tmp_path):
    put(three, 1, SHADOW)
    before = everything(tmp_path)
    with pytest.raises(StageConflict, match="triage@1 is shadow by now, and was to be moved to canary at 1 %; stage "
                                            "candidate was expected. Somebody was first"):  # fmt: skip
        step(three, 1, CANDIDATE, CANARY, 0.01)
    with pytest.raises(UnknownVersion):
        step(three, 9, CANDIDATE, SHADOW)
    with pytest.raises(UnknownTask):
        step(three, 1, CANDIDATE, SHADOW, task="nobody")
    assert everything(tmp_path) == before
    assert (StageConflict.code, StageConflict.status, StageConflict.exit_code) == ("stage_conflict", 409, 2)


@pytest.mark.parametrize("to", [SHADOW, CANARY])
def test_a_task_has_one_trial(three, to):
    put(three, 1, CANARY)
    with pytest.raises(StageConflict, match="triage@1 is in shadow or canary.*insource rollback triage"):
        put(three, 2, to)
    put(three, 1, RETIRED)
    put(three, 2, to)  # the control: once the place is free
    assert three.trial("triage").version == 2


@pytest.mark.parametrize(("to", "share"), [(CANARY, 0.0), (CANARY, 1.01), (CANARY, -0.1), (CANARY, float("nan")),
                                           (SHADOW, 0.1), (ACTIVE, 1.0)])  # fmt: skip
def test_a_share_that_cannot_be_is_refused(three, to, share):
    with pytest.raises(ValueError, match="was expected for canary, 0 else"):
        step(three, 1, CANDIDATE, to, share)
    with pytest.raises(ValueError, match="was expected for canary, 0 else"):
        three.propose("triage", 1, to, share, (), NOON)
    assert three.moves() == ()


def test_a_trial_is_rolled_back_and_the_active_one_serves_on(three):
    put(three, 1, ACTIVE)
    put(three, 2, CANARY)
    assert three.rollback("triage", "steward", "it is worse", LATER).version == 1
    assert stages(three) == ["active", "retired", "candidate"]
    assert three.moves()[-1] == Move(LATER, "triage", 2, CANARY, RETIRED, 0.0, "steward", "it is worse")
    (act,) = [act for act in three.acts() if act.what == "rollback"]
    assert (act.who, act.subject) == ("steward", "triage@2")
    assert act.detail == "it is worse (was canary at 1 %; serves now: triage@1)"


def test_rollbacks_go_back_one_by_one_and_never_to_what_was_rolled_back(three):
    for version in (1, 2, 3):
        put(three, version, ACTIVE)
    assert three.rollback("triage", "ada", "w", NOON).version == 2
    assert three.rollback("triage", "ada", "w", NOON).version == 1  # and not 3
    assert three.rollback("triage", "ada", "w", NOON) is None
    assert three.active("triage") is None and stages(three) == ["retired"] * 3
    with pytest.raises(StageConflict, match="nothing to roll back"):
        three.rollback("triage", "ada", "w", NOON)


def test_a_version_that_was_promoted_again_counts_where_it_stands_now(three):
    for version in (1, 2):
        three.promote("triage", version, "ada", "w", NOON)
    three.promote("triage", 1, "ada", "back again", NOON)
    assert three.rollback("triage", "ada", "w", NOON).version == 2
    assert three.rollback("triage", "ada", "w", NOON).version == 1


def test_a_rollback_expects_the_version_that_goes(three):
    put(three, 1, ACTIVE)
    put(three, 2, SHADOW)
    with pytest.raises(StageConflict, match="would retire triage@2 by now; triage@1 was expected"):
        three.rollback("triage", "ada", "w", NOON, expected=1)
    assert three.rollback("triage", "ada", "w", NOON, expected=2).version == 1
    with pytest.raises(UnknownTask):
        three.rollback("nobody", "ada", "w", NOON)


def test_a_promotion_of_one_who_saw_another_active_version_is_refused(three):
    three.promote("triage", 1, "ada", "w", NOON, before=0)
    with pytest.raises(StageConflict, match="triage@1 is active by now; no active version was expected"):
        three.promote("triage", 2, "grace", "w", NOON, before=0)
    assert three.promote("triage", 2, "grace", "w", NOON, before=1).stage is ACTIVE


def test_a_step_of_one_who_saw_another_active_version_is_refused(three):
    """A version that was compared with one incumbent does not take another's place."""
    three.move("triage", 2, expected=CANDIDATE, to=CANARY, share=0.5, who="steward", why="w", now=NOON, before=0)
    three.promote("triage", 3, "ada", "mine is better", NOON)
    step = {"expected": CANARY, "to": ACTIVE, "who": "steward", "why": "w", "now": NOON}
    with pytest.raises(StageConflict, match="triage@3 is active by now; no active version was expected"):
        three.move("triage", 2, **step, before=0)
    assert (three.active("triage").version, three.trial("triage").version) == (3, 2)
    assert three.move("triage", 2, **step, before=3).stage is ACTIVE


def test_a_step_may_lift_the_suspension_with_it(three):
    three.promote("triage", 1, "ada", "w", NOON)
    three.suspend("triage", "steward", "drift", NOON)
    three.move("triage", 2, expected=CANDIDATE, to=SHADOW, who="steward", why="w", now=NOON, before=1)
    assert three.suspension("triage") is not None
    three.move("triage", 2, expected=SHADOW, to=ACTIVE, who="steward", why="w", now=NOON, before=1, lift=True)
    assert three.suspension("triage") is None and [act.what for act in three.acts()][-1] == "resume"


def test_a_suspension_stands_until_it_is_lifted(three):
    seen = three.changed()
    assert three.suspend("triage", "steward", "the bound is crossed", NOON) == Suspension(
        "triage", NOON, "steward", "the bound is crossed"
    )
    assert three.changed() > seen
    assert three.suspend("triage", "ada", "me too", LATER).who == "steward"
    assert three.suspension("triage").why == "the bound is crossed" and three.suspension("other") is None
    assert three.resume("triage", "ada", "mended", LATER)
    assert three.suspension("triage") is None and not three.resume("triage", "ada", "again", LATER)
    three.suspend("triage", "ada", "again", LATER)
    assert [(act.what, act.who, act.detail) for act in three.acts("triage")] == [
        ("suspend", "steward", "the bound is crossed"), ("resume", "ada", "mended"), ("suspend", "ada", "again"),
    ]  # fmt: skip
    with pytest.raises(UnknownTask):
        three.suspend("nobody", "ada", "w", NOON)


def test_a_persons_promotion_lifts_a_suspension_and_a_move_does_not(three):
    three.suspend("triage", "ada", "w", NOON)
    put(three, 1, SHADOW, ACTIVE)
    assert three.suspension("triage") is not None
    three.promote("triage", 2, "ada", "certified anew", NOON)
    assert three.suspension("triage") is None
    assert [act.what for act in three.acts("triage")] == ["suspend", "resume"]


def test_a_proposal_stands_until_the_task_moves(three):
    put(three, 1, SHADOW)
    made = three.propose("triage", 1, CANARY, 0.05, ("held", "400 rows"), NOON)
    assert made == three.proposal("triage") == Proposal("triage", NOON, 1, SHADOW, CANARY, 0.05, ("held", "400 rows"))
    seen = three.changed()
    assert three.propose("triage", 1, CANARY, 0.05, ("held", "401 rows"), LATER) == made
    assert three.changed() == seen  # the same step again is nothing new
    assert three.propose("triage", 1, ACTIVE, 0.0, (), LATER).to is ACTIVE
    assert three.proposal("triage").to is ACTIVE
    put(three, 1, RETIRED)
    assert three.proposal("triage") is None
    with pytest.raises(StageConflict, match="cannot be moved to canary"):
        three.propose("triage", 1, CANARY, 0.5, (), NOON)
    assert [act.what for act in three.acts("triage@1")].count("propose") == 2


def test_a_proposal_is_withdrawn(three):
    three.propose("triage", 1, SHADOW, 0.0, ("held",), NOON)
    assert three.withdraw("triage", "no longer", NOON)
    assert three.proposal("triage") is None and not three.withdraw("triage", "no longer", NOON)


def test_a_proposal_is_carried_out_once(three):
    put(three, 1, SHADOW)
    made = three.propose("triage", 1, CANARY, 0.05, ("400 rows held",), NOON)
    moved = three.carry_out(made, "ada", "go", LATER)
    assert (moved.stage, moved.share, three.proposal("triage")) == (CANARY, 0.05, None)
    assert three.moves()[-1] == Move(LATER, "triage", 1, SHADOW, CANARY, 0.05, "ada", "go; proposed: 400 rows held")
    with pytest.raises(StageConflict, match="to move triage@1 to canary at 5 % stands no more; the version is canary"):
        three.carry_out(made, "grace", "go", LATER)
    three.suspend("triage", "steward", "w", NOON)
    three.carry_out(three.propose("triage", 1, ACTIVE, 0.0, (), NOON), "ada", "go", LATER)
    assert three.active("triage").version == 1 and three.suspension("triage") is None


def test_a_proposal_into_a_place_that_is_taken(three):
    made = three.propose("triage", 1, SHADOW, 0.0, (), NOON)
    by_hand(three.path.parent, "UPDATE versions SET stage = 'shadow' WHERE version = 2")
    with pytest.raises(StageConflict, match="triage@2 is in shadow or canary"):
        three.carry_out(made, "ada", "go", NOON)


RACER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from insource.errors import StageConflict
from insource.store.registry import Registry
from insource.types import Stage
now, me, kind = datetime(2026, 11, 21, tzinfo=UTC), int(sys.argv[2]), sys.argv[3]
with Registry.open(Path(sys.argv[1])) as registry:
    def go(n):
        if kind == "promote":
            registry.promote("triage", 2 * n + me, f"op{me}", "mine", now, before=before)
        elif kind == "careless":
            registry.promote("triage", 2 * n + me, f"op{me}", "mine", now)
        else:
            registry.move("triage", n + 1, expected=Stage.CANDIDATE, to=Stage.RETIRED, who=f"op{me}", why="w", now=now)
    for n in range(20):
        active = registry.active("triage")
        before = active.version if active else 0
        print("ready", flush=True)
        sys.stdin.readline()
        try:
            go(n)
            print("won", flush=True)
        except StageConflict:
            print("lost", flush=True)
"""


def race(home, kind, environment):
    """Have two operators decide on what both saw, 20 times; return how many won each time."""
    operators = [
        subprocess.Popen([sys.executable, "-c", RACER, str(home), str(me), kind], env=environment, text=True,
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for me in (1, 2)
    ]  # fmt: skip
    won = []
    for _ in range(20):
        assert [each.stdout.readline() for each in operators] == ["ready\n"] * 2
        for each in operators:
            each.stdin.write("go\n")
            each.stdin.flush()
        won.append([each.stdout.readline() for each in operators].count("won\n"))
    for each in operators:
        each.stdin.close()
        each.stdout.close()
        assert each.wait() == 0
    return won


@pytest.mark.parametrize("kind", ["move", "promote"])
def test_of_two_operators_at_once_one_wins_and_the_other_is_told(tmp_path, registry, child_environment, kind):
    for _ in range(42):
        registry.register("triage", "linear", "d" * 64, None, {}, NOON)
    assert race(tmp_path, kind, child_environment) == [1] * 20
    assert [act.what for act in registry.acts()].count("promote" if kind == "promote" else "move") == 20


def test_control_who_does_not_say_what_was_seen_always_wins(tmp_path, registry, child_environment):
    for _ in range(42):
        registry.register("triage", "linear", "d" * 64, None, {}, NOON)
    assert race(tmp_path, "careless", child_environment) == [2] * 20


def stopped_anywhere(home, folder, what, environment):
    """Kill a step before each of its statements; return the rows of each registry that is left, the last one whole."""
    left = []
    for number in count(1):
        copy = folder / f"{what}-{number}"
        shutil.copytree(home, copy)
        done = subprocess.run([sys.executable, str(STOPS), str(copy), what, str(number)], env=environment)
        Registry.open(copy).close()  # what is left can be opened
        left.append(everything(copy))
        if done.returncode == 0:
            return left
        assert done.returncode == -9 and number < 60


@pytest.fixture
def home_with_all(tmp_path):
    """A home with an active version, a trial, a proposal and a suspension."""
    home = tmp_path / "home"
    with Registry.open(home) as registry:
        for _ in range(3):
            registry.register("triage", "linear", "d" * 64, None, {}, NOON)
        put(registry, 1, ACTIVE)
        put(registry, 3, SHADOW, CANARY)
        registry.suspend("triage", "steward", "w", NOON)
        registry.propose("triage", 3, ACTIVE, 0.0, ("held",), NOON)
    return home


@pytest.mark.parametrize("what", ["promote", "rollback"])
def test_a_kill_between_any_two_statements_leaves_all_or_nothing(home_with_all, tmp_path, child_environment, what):
    before = everything(home_with_all)
    *left, after = stopped_anywhere(home_with_all, tmp_path, what, child_environment)
    assert len(left) > 8 and after != before
    assert all(rows in (before, after) for rows in left)


def test_control_without_the_transaction_a_kill_leaves_halves(home_with_all, tmp_path, child_environment):
    before = everything(home_with_all)
    *left, after = stopped_anywhere(home_with_all, tmp_path, "broken", child_environment)
    assert any(rows not in (before, after) for rows in left)


def test_two_trials_by_hand_are_no_trial_and_a_rollback_ends_both(three, tmp_path):
    put(three, 1, ACTIVE)
    by_hand(tmp_path, "UPDATE versions SET stage = 'shadow' WHERE version > 1")
    assert three.trial("triage") is None and three.active("triage").version == 1
    (flaw,) = three.flaws()
    assert flaw.startswith("triage has 2 versions in shadow or canary (@2, @3); none of them serves")
    assert three.rollback("triage", "ada", "mend", NOON).version == 1
    assert three.flaws() == () and stages(three) == ["active", "retired", "retired"]


def test_two_active_versions_by_hand_serve_nothing_and_a_promotion_mends_it(three, tmp_path):
    by_hand(tmp_path, "UPDATE versions SET stage = 'active' WHERE version < 3")
    assert three.active("triage") is None and "2 versions active" in three.flaws("triage")[0]
    three.promote("triage", 2, "ada", "mend", NOON)
    assert stages(three) == ["retired", "active", "candidate"] and three.flaws() == ()


@pytest.mark.parametrize("written", ["stage = 'bogus'", "stage = ''", "stage = 'canary', share = 7.0",
                                     "stage = 'canary', share = 0", "stage = 'canary', share = -1e999"])  # fmt: skip
def test_what_only_a_hand_can_have_written_reads_retired_and_is_told(three, tmp_path, written):
    by_hand(tmp_path, f"UPDATE versions SET {written} WHERE version = 2")
    assert three.get("triage", 2).stage is RETIRED and three.get("triage", 2).share == 0.0
    assert three.trial("triage") is None and three.active("triage") is None
    assert three.flaws("triage")[0].startswith("triage@2 ") and three.flaws("other") == ()
    three.promote("triage", 2, "ada", "mend", NOON)
    assert three.active("triage").version == 2 and three.flaws() == ()


def test_a_share_by_hand_on_a_version_that_is_no_canary_counts_as_none(three, tmp_path):
    put(three, 1, ACTIVE)
    by_hand(tmp_path, "UPDATE versions SET share = 0.5 WHERE version = 1")
    assert three.active("triage").share == 0.0 and "share of 0.5; it is taken as 0" in three.flaws()[0]


def test_moves_and_proposals_by_hand_do_not_stop_a_reader(three, tmp_path):
    put(three, 1, SHADOW)
    three.propose("triage", 1, CANARY, 0.5, (), NOON)
    by_hand(tmp_path, "DROP TRIGGER moves_are_not_changed", "UPDATE moves SET stage = 'bogus', before = ''")
    assert [(move.before, move.stage) for move in three.moves()] == [(RETIRED, RETIRED)]
    for written in ("share = 5", "stage = 'bogus'", "why = 'no JSON'", "why = '{}'"):
        by = apsw.Connection(str(tmp_path / FILE))
        by.execute(f"UPDATE proposals SET {written}")
        by.close()
        assert three.proposal("triage") is None
    three.propose("triage", 1, CANARY, 0.5, (), NOON)
    assert three.proposal("triage") is not None


GUARDED = [
    ("UPDATE versions SET stage = 'canary' WHERE version = 1", "a canary has a share", "canaries_alone_have_a_share"),
    ("UPDATE versions SET share = 0.5 WHERE version = 3", "a canary has a share", "canaries_alone_have_a_share"),
    ("UPDATE moves SET who = 'nobody'", "moves are append-only", "moves_are_not_changed"),
    ("DELETE FROM moves", "moves are append-only", "moves_are_not_deleted"),
    ("UPDATE suspensions SET why = 'other'", "lifted once", "suspensions_are_lifted_once"),
    ("DELETE FROM suspensions", "never deleted", "suspensions_are_not_deleted"),
]


@pytest.mark.parametrize(("write", "words", "trigger"), GUARDED)
def test_the_file_itself_guards_stages_and_their_history(three, tmp_path, write, words, trigger):
    put(three, 1, SHADOW)
    three.suspend("triage", "ada", "w", NOON)
    connection = apsw.Connection(str(tmp_path / FILE))
    with pytest.raises(apsw.ConstraintError, match=words):
        connection.execute(write)
    connection.execute(f"DROP TRIGGER {trigger}")  # the control: without its trigger the write goes through
    connection.execute(write)
    assert connection.changes() == 1
    connection.close()


def test_the_file_itself_allows_one_trial(three, tmp_path):
    connection = apsw.Connection(str(tmp_path / FILE))
    with pytest.raises(apsw.ConstraintError, match="UNIQUE"):
        connection.execute("UPDATE versions SET stage = 'shadow'")
    connection.execute("DROP INDEX one_trial_version")
    connection.execute("UPDATE versions SET stage = 'shadow'")
    assert connection.changes() == 3
    connection.close()


def test_places_in_words():
    assert [place(CANARY, 0.05), place(CANARY, 0.005), place(SHADOW)] == ["canary at 5 %", "canary at 0.5 %", "shadow"]
    assert set(TRIAL) == {SHADOW, CANARY}
