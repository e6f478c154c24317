import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from insource.governance.figures import Verdict
from insource.types import Reason, Usage

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def codes(task):
    return [caution.code for caution in task.cautions]


def test_a_served_task_with_its_certificate_audits_and_money(house):
    house.task("triage", guard={"no": 0.1})
    house.version("triage")
    house.accepted(80, audits=(True, True, False, None))
    house.escalated(20)
    report = house.report()
    (task,) = report.tasks
    assert (task.requests, task.accepted, task.coverage.value) == (100, 80, 0.8)
    assert task.coverage.low == pytest.approx(0.7082, abs=1e-4)  # Clopper and Pearson for 80 of 100
    assert task.coverage.high == pytest.approx(0.8733, abs=1e-4)
    assert (task.audits.coin, task.audits.audited, task.audits.compared, task.audits.disagreed) == (4, 4, 3, 1)
    assert task.audits.risk.value == pytest.approx(1 / 3)
    assert (task.active.certified_coverage, task.active.risk_upper_bound, task.active.accuracy) == (0.8, 0.03, 0.93)
    assert task.cost.amount == Decimal("0.04") and task.cost.currency == "USD"
    assert task.cost_saved.amount == Decimal("0.152")  # the audited ones saved nothing
    assert task.reasons == {"above_threshold": 80, "below_threshold": 20}
    assert (task.latency["accepted"].p50, task.latency["escalated"].p99) == (0.002, 0.8)
    assert task.verdict is Verdict.UNDECIDED
    assert codes(task) == ["audits_without_reference"]


def test_energy_saved_carries_its_range_and_is_modelled(house):
    house.version("triage")
    house.accepted(90, audits=(True,) * 10)
    house.escalated(20)
    (task,) = house.report().tasks
    assert task.energy.local.value == pytest.approx(90 * 0.008)
    assert task.energy.upstream.value == pytest.approx(20 * 60.0)
    saved = task.energy.saved
    mean = 20 * 60.0 / 30  # 20 escalated and 10 audited went up; tokens are known of 20
    assert saved.value == pytest.approx(80 * mean - 110 * 0.008)
    assert saved.low < saved.value < saved.high and saved.method == "modelled"
    assert saved.low == pytest.approx(80 * 20 * 2.0 / 30 - 110 * 0.030)


@pytest.mark.parametrize("unknown", ["tokens", "local", "nothing went up"])
def test_energy_saved_is_unknown_where_a_part_of_it_is(house, unknown):
    house.version("triage")
    house.accepted(5, joules=None if unknown == "local" else 0.008)
    if unknown != "nothing went up":
        house.escalated(5, usage=None if unknown == "tokens" else Usage(100, 10))
    report = house.report()
    assert report.tasks[0].energy.saved is None
    assert report.totals.energy.saved is None


def test_recorded_joules_of_upstream_answers_are_not_taken_for_local_ones(house):
    house.version("triage")
    house.accepted(2)
    assert house.report().tasks[0].energy.local is not None
    house.restart()
    house.escalated(1, joules=60.0)
    assert house.report().tasks[0].energy.local is None


def test_without_prices_money_is_unknown(house):
    house.version("triage")
    house.accepted(3, saved=None)
    house.escalated(3, cost=None)
    report = house.report()
    assert report.tasks[0].cost_saved.amount is None
    assert report.totals.cost_saved.amount is None
    assert report.tasks[0].cost.known == 3  # an accepted answer cost nothing upstream, and that is known


def test_money_of_two_currencies_is_not_added_up(house):
    for name in ("here", "there"):
        house.version(name)
        house.escalated(2, name)
    report = house.report(currency_of=lambda task: "EUR" if task and task.name == "here" else "USD")
    assert [task.cost.currency for task in report.tasks] == ["EUR", "USD"]
    assert (report.totals.cost.amount, report.totals.cost.currency) == (None, None)
    assert house.report().totals.cost.amount == Decimal("0.008")


def test_requests_of_no_task_count_in_the_totals_only(house):
    house.version("triage")
    house.accepted(6)
    house.escalated(4, None, reason=Reason.NO_TASK)
    report = house.report()
    assert [task.name for task in report.tasks] == ["triage"]
    assert (report.totals.requests, report.totals.outside, report.totals.accepted) == (10, 4, 6)
    assert report.totals.coverage.value == 0.6
    assert report.totals.cost.amount == Decimal("0.008")


def test_every_task_is_listed_configured_trained_or_served(house):
    house.task("configured")
    house.version("trained", promoted=False)
    house.accepted(1, "forgotten")
    names = {task.name: (task.configured, task.verdict) for task in house.report().tasks}
    assert names == {
        "configured": (True, Verdict.NOT_SERVING),
        "trained": (False, Verdict.NOT_SERVING),
        "forgotten": (False, Verdict.NOT_SERVING),
    }


def test_only_one_task_is_shown_but_all_are_summed(house):
    for name in ("one", "two"):
        house.version(name)
        house.accepted(2, name)
    report = house.report(only="two")
    assert [task.name for task in report.tasks] == ["two"]
    assert report.totals.requests == 4
    assert house.report(only="three").tasks == ()


def test_without_a_ledger_the_registry_is_still_listed(house):
    house.version("triage")
    report = house.report()
    assert not report.ledger
    assert [task.active.name for task in report.tasks] == ["triage@1"]
    assert (report.totals.requests, report.totals.coverage, report.tasks[0].coverage) == (0, None, None)


def test_what_came_before_since_does_not_count(house):
    house.version("triage")
    house.accepted(5, time=NOON - timedelta(days=8), audits=(False,) * 5)
    house.accepted(2)
    recent = house.report(since=NOON - timedelta(days=7))
    assert (recent.tasks[0].requests, recent.tasks[0].audits.compared) == (2, 0)
    assert house.report().tasks[0].requests == 7


def test_versions_tell_who_promoted_them_and_why(house):
    house.version("triage", who="anna", why="first")
    house.version("triage", who="bert", why="covers more (9 points)")
    house.version("triage", promoted=False)
    (task,) = house.report().tasks
    assert [version.stage for version in task.versions] == ["retired", "active", "candidate"]
    told = [[(act.who, act.why, act.before) for act in version.promotions] for version in task.versions]
    assert told == [[("anna", "first", None)], [("bert", "covers more (9 points)", "triage@1")], []]


def test_each_version_answers_for_its_own_audits(house):
    house.version("triage")
    house.version("triage")
    house.accepted(20, version=1, audits=(False,) * 10)
    house.accepted(200, version=2, audits=(True,) * 100)
    (task,) = house.report().tasks
    old, new = task.versions
    assert (old.audits.disagreed, new.audits.disagreed) == (10, 0)
    assert task.verdict is Verdict.HELD
    assert "triage@1 breaks its promise" in task.cautions[0].text and "no longer serves" in task.cautions[0].text


@pytest.mark.parametrize(
    ("wrong", "right", "verdict"),
    [(0, 0, Verdict.UNCHECKED), (0, 20, Verdict.UNDECIDED), (0, 80, Verdict.HELD), (12, 60, Verdict.BROKEN)],
)
def test_the_verdict_needs_the_whole_interval(house, wrong, right, verdict):
    house.version("triage")
    house.accepted(100, audits=(False,) * wrong + (True,) * right)
    (task,) = house.report().tasks
    assert task.verdict is verdict
    assert ("bound_crossed" in codes(task)) == (verdict is Verdict.BROKEN)
    assert ("no_audits" in codes(task)) == (verdict is Verdict.UNCHECKED)


def test_an_interval_that_never_leaves_zero_would_hide_a_broken_promise(house):
    """The guard broken on purpose: with a useless interval the same audits raise nothing."""
    house.version("triage")
    house.accepted(100, audits=(False,) * 12 + (True,) * 60)
    (task,) = house.report(interval=lambda count, of, level: (0.0, 1.0)).tasks
    assert task.verdict is Verdict.UNDECIDED and "bound_crossed" not in codes(task)


def test_a_damaged_artifact_is_told_gravely(house):
    house.version("triage")
    house.escalated(3, reason=Reason.ARTIFACT_DAMAGED)
    house.ledger.act("insource", "refuse artifact", "triage@1", "digest mismatch")
    (task,) = house.report().tasks
    assert codes(task)[0] == "artifact_damaged"
    assert task.cautions[0].text.startswith("triage@1 could not be opened as promoted; 3 requests")


def test_decisions_without_an_end_are_told(house):
    house.version("triage")
    house.escalated(2, settled=False)
    house.restart()
    house.escalated(1, settled=False)  # still under way, so not aborted
    report = house.report()
    assert (report.tasks[0].aborted, report.totals.aborted) == (2, 2)
    assert "aborted" in codes(report.tasks[0])


@pytest.mark.parametrize(
    ("task", "version", "code"),
    [
        ({}, {"threshold": None, "risk_upper_bound": None, "coverage": 0.0}, "nothing_certified"),
        ({"target_risk": 0.02}, {}, "promise_changed"),
        ({"confidence_level": 0.99}, {}, "promise_changed"),
        ({}, {"notes": ("cross-fitted",)}, "calibration_note"),
    ],
)
def test_what_the_certificate_lacks_is_told(house, task, version, code):
    house.task("triage", **task)
    house.version("triage", **version)
    assert codes(house.report().tasks[0]) == [code]


def test_an_audit_rate_of_zero_is_told_with_the_missing_audits(house):
    house.task("triage", audit_rate=0.0)
    house.version("triage")
    house.accepted(3)
    house.escalated(1, reason=Reason.SPECIALIST_FAILED)
    (task,) = house.report().tasks
    assert codes(task) == ["specialist_failed", "no_audits"]
    assert "nothing will ever check it" in task.cautions[1].text


def test_a_lineage_of_another_shape_leaves_its_figures_unknown(house):
    house.version("triage", lineage={"test": [1, 2], "per_answer": {"yes": 3}})
    house.version("triage", lineage={"test": {"accuracy": "high", "per_answer": [7, {"answer": "yes", "rows": True}]}})
    first, second = house.report().tasks[0].versions
    assert (first.accuracy, first.per_answer) == (None, ())
    assert second.accuracy is None
    assert [(row.answer, row.rows) for row in second.per_answer] == [("yes", None)]


def test_the_report_is_json_with_exact_money(house):
    house.task("triage")
    house.version("triage")
    house.accepted(3, audits=(True,), saved="0.000000130")
    house.escalated(1)
    data = house.report().to_json()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    task = data["tasks"][0]
    assert task["cost_saved"] == {"amount": "0.000000260", "known": 3, "settled": 4, "currency": "USD"}
    assert task["verdict"] == "undecided" and task["energy"]["saved"]["method"] == "modelled"
    assert task["active"]["promotions"][0]["who"] == "anna"
    assert data["now"] == "2026-11-21T12:00:00+00:00"
