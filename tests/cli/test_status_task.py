"""`insource status TASK`: where a task stands in the rollout, in words and as JSON."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime

from insource.cli.status_task import lines, look
from insource.config import load
from insource.store.ledger import Ledger
from insource.store.recertifications import Recertified
from insource.store.registry import Registry
from insource.types import Decision, Outcome, Reason, Settlement, Stage
from reliability.rehearsed import audit
from tests.lifecycle.drifting import THRESHOLD, Row, stream

NOW = datetime.now(UTC)


def write(home, audits):
    with Ledger.open(home, clock=lambda: NOW) as ledger:
        for told in audits:
            if told.version == 1:
                outcome, reason = Outcome.ESCALATED, Reason.BELOW_THRESHOLD
                ledger.append_now(Decision(told.request_id, NOW, outcome, reason, "triage", 1, audited=True))
            ledger.audit(told)


def write_rows(home, rows):
    """Write what a gateway would have of these: decisions, settlements, audits."""
    with Ledger.open(home, clock=lambda: NOW) as ledger:
        name = None
        for number, row in enumerate(rows):
            if isinstance(row, Row):
                ledger.audit(replace(row.audit, request_id=name))
            elif row.score is not None:
                name = f"d-{number}"
                up = row.score < THRESHOLD
                why = (Outcome.ESCALATED, Reason.BELOW_THRESHOLD) if up else (Outcome.ACCEPTED, Reason.ABOVE_THRESHOLD)
                ledger.note(Decision(name, NOW, *why, "triage", 1, score=row.score, answer=row.answer))
            else:
                ledger.settle(Settlement(name, NOW, 200, "up", 0.1, agrees=row.agrees, reference=row.reference))


def test_a_trial_beside_an_active_version(run, registered, home):
    registered()
    run("promote", "triage@1")
    registered()
    with Registry.open(home) as registry:
        registry.move("triage", 2, expected=Stage.CANDIDATE, to=Stage.SHADOW, who="ada", why="try", now=NOW)
    write(home, [each for n in range(30) for each in (audit(n, 1, Stage.ACTIVE), audit(n, 2, agrees=n != 7))])
    done = run("status", "triage")
    assert "triage (approve): triage@1 is active; triage@2 is in shadow" in done.out
    assert "risk of the active version: 0 of 24" in done.out
    assert "evidence for it: 29 sound requests in shadow, 1 of 24" in done.out
    assert "evidence against it: 1 wrong, 0 failed, 0 slow in this stage" in done.out
    assert "against the incumbent: 24 requests that both would accept" in done.out
    assert "about 171 audits, some 171 requests until the next step" in done.out
    found = json.loads(run("status", "triage", "--json", "-").out)["rollout"]
    assert (found["active"], found["trial"], found["stage"], found["next"]) == (1, 2, "shadow", "hold")
    assert found["evidence"]["pairs"]["pairs"] == 24 and found["audits_to_verdict"] == 171
    assert found["outside"]["rows"] == 30 and found["risk"]["limit"] == 0.05


def test_drift_is_told_kind_by_kind_with_the_doubt_and_its_reason(run, registered, home):
    registered()
    run("promote", "triage@1")
    write_rows(home, [*stream(1_300), *stream(500, seed=1, strange=0.5)])
    run("steward", "--once")
    out = run("status", "triage").out
    assert "drift: doubt, compared with its first 1,000 requests" in out
    assert "every request is audited since" in out and "something drifted" in out
    assert re.search(r"scores by answer +\S+ rows +ALARM +of refund: \d", out)
    found = json.loads(run("status", "triage", "--json", "-").out)["rollout"]
    drift = found["drift"]
    assert found["doubted"]["version"] == drift["version"] == 1 and found["doubted"]["who"] == "steward"
    assert set(found["doubted"]["kinds"]) <= set(drift["alarms"]) and drift["compared_with"] == 1_000
    kinds = {each["kind"]: each for each in drift["kinds"]}
    assert kinds["scores"]["rows"] == 800 and kinds["scores"]["evidence"] > 0
    with Registry.open(home) as registry:
        kept = registry.kept_watch("triage").told
    assert kept["standing"] == "doubt" and set(kept["alarms"]) <= set(drift["alarms"])


def test_a_raised_threshold_is_told_with_its_audits_and_coverage(run, registered, home):
    registered()
    run("promote", "triage@1")
    with Registry.open(home) as registry:
        before = registry.active("triage").calibration
        raised = replace(before, method="doubt", threshold=before.threshold + 0.125, coverage=0.5, rows=2_000)
        told = Recertified("triage", 1, NOW, before.threshold, raised, 1, 40, "steward", "raised (ledger row 90)")
        registry.recertify(told)
    shown = f"threshold raised from {before.threshold:.4f} to {raised.threshold:.4f} on 2,000 audits"
    assert f"{shown}, certified coverage 50.0 %" in run("status", "triage").out
    found = json.loads(run("status", "triage", "--json", "-").out)["rollout"]["recertified"]
    assert (found["before"], found["threshold"], found["audits"]) == (before.threshold, raised.threshold, 2_000)
    assert (found["who"], found["row"], found["coverage"]) == ("steward", 40, 0.5)


def test_a_suspension_is_told_with_who_and_why(run, registered, home):
    registered()
    run("promote", "triage@1")
    with Registry.open(home) as registry:
        registry.suspend("triage", "ada", "an incident", NOW)
    assert "suspended by ada since" in run("status", "triage").out
    found = json.loads(run("status", "triage", "--json", "-").out)["rollout"]
    assert found["suspended"]["why"] == "an incident"


def test_a_proposal_is_told_with_the_command(run, registered, home):
    registered()
    run("steward", "--once")
    out = run("status", "triage").out
    assert "next: shadow (certified coverage 80.0%" in out
    assert "`insource promote triage@1` carries out what is proposed" in out


def test_all_tasks_together_have_no_rollout_and_looking_changes_nothing(run, registered, home):
    registered()
    assert json.loads(run("status", "--json", "-").out)["rollout"] is None
    with Registry.open(home) as registry:
        found = look(load(env={}, flags={"store.home": home}), registry, "triage")
        assert registry.acts() == () and registry.proposal("triage") is None
    assert next(lines(found)).startswith("triage (approve): nothing is active; triage@1 waits as a candidate")


def test_a_configured_task_without_a_version_has_none(run, tmp_path):
    (tmp_path / "insource.toml").write_text("[tasks.triage]\n")
    assert json.loads(run("status", "triage", "--json", "-").out)["rollout"] is None
