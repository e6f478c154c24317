"""`insource tasks`."""

import json


def test_nothing_yet(run):
    done = run("tasks")
    assert done.code == 0
    assert "No task yet" in done.out
    assert json.loads(run("tasks", "--json", "-").out) == {"tasks": []}


def test_configured_and_trained_tasks_are_joined(run, registered, tmp_path):
    (tmp_path / "insource.toml").write_text("[tasks.triage]\ntarget_risk = 0.02\n\n[tasks.later]\n")
    registered()
    registered()
    registered("other")
    assert run("promote", "triage@1").code == 0
    done = run("tasks", "--json", "-")
    rows = {row["task"]: row for row in json.loads(done.out)["tasks"]}
    assert list(rows) == ["later", "other", "triage"]
    assert rows["later"]["configured"]
    assert rows["later"]["version"] is None
    assert not rows["other"]["configured"]
    assert (rows["other"]["stage"], rows["other"]["active"]) == ("candidate", None)
    triage = rows["triage"]
    assert (triage["version"], triage["active"], triage["newest"], triage["stage"]) == (1, 1, 2, "active")
    assert (triage["target_risk"], triage["certified_for"]) == (0.02, 0.05)
    assert (triage["threshold"], triage["certified_coverage"]) == (0.42, 0.8)

    out = run("tasks").out
    line = next(line for line in out.splitlines() if "@1" in line and "linear" in line and "triage" in line)
    assert line.split() == ["triage", "@1", "active", "linear", "2.0", "%", "80.0", "%", "0.4200", "@2"]
    assert "certified for a target risk of 5.0 %, the configuration now says 2.0 %" in out
    assert "not trained" in out


def test_one_task_shows_versions_lineage_and_acts(run, registered):
    registered()
    registered()
    assert run("promote", "triage@2", "--why", "held last month", "--who", "ada").code == 0
    out = run("tasks", "triage").out
    assert "triage@1" in out
    assert "rows.train 32, file may.jsonl, share 0.1235" in out
    assert "promote by ada: held last month" in out
    found = json.loads(run("tasks", "triage", "--json", "-").out)
    assert [version["version"] for version in found["versions"]] == [1, 2]
    assert found["versions"][1]["acts"][0]["who"] == "ada"
    assert found["versions"][0]["lineage"]["share"] == 0.123456


def test_a_version_without_a_calibration_is_shown_as_such(run, registered):
    registered(calibration=None)
    assert run("tasks").code == 0
    version = json.loads(run("tasks", "triage", "--json", "-").out)["versions"][0]
    assert version["threshold"] is None
    assert version["risk_upper_bound"] is None
    assert "none" in run("tasks", "triage").out


def test_a_task_that_is_only_configured(run, tmp_path):
    (tmp_path / "insource.toml").write_text("[tasks.later]\n")
    done = run("tasks", "later")
    assert done.code == 0
    assert "insource train FILE --task later" in done.out


def test_an_unknown_task(run, registered):
    registered()
    done = run("tasks", "nosuch")
    assert done.code == 2
    assert "known are triage" in done.err
