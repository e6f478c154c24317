"""`insource status TASK`: where a task stands in the rollout, in words and as JSON."""

import json
from datetime import UTC, datetime

from insource.cli.status_task import lines, look
from insource.config import load
from insource.store.ledger import Ledger
from insource.store.registry import Registry
from insource.types import Decision, Outcome, Reason, Stage
from reliability.rehearsed import audit

NOW = datetime.now(UTC)


def write(home, audits):
    with Ledger.open(home, clock=lambda: NOW) as ledger:
        for told in audits:
            if told.version == 1:
                outcome, reason = Outcome.ESCALATED, Reason.BELOW_THRESHOLD
                ledger.append_now(Decision(told.request_id, NOW, outcome, reason, "triage", 1, audited=True))
            ledger.audit(told)


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
    assert found["drift"]["rows"] == 30 and found["risk"]["limit"] == 0.05


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
