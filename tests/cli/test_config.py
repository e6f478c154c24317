"""`insource config show`."""

import json


def test_every_value_has_its_origin(run, tmp_path, monkeypatch, home):
    (tmp_path / "insource.toml").write_text(
        '[upstreams.main]\nbase_url = "https://a.example/v1"\nprice_in = 0.15\n\n[tasks.triage.guard]\nurgent = 0.1\n'
    )
    monkeypatch.setenv("INSOURCE_GATEWAY_PORT", "9000")
    done = run("config", "show", "--json", "-")
    assert done.code == 0
    found = json.loads(done.out)
    assert found["file"] == "insource.toml"
    values = found["values"]
    assert values["gateway.port"] == {"value": 9000, "origin": "environment INSOURCE_GATEWAY_PORT"}
    assert values["store.home"] == {"value": str(home), "origin": "flag"}
    assert values["upstreams.main.price_in"] == {"value": "0.15", "origin": "insource.toml:3"}
    assert values["gateway.drain_s"] == {"value": 30.0, "origin": "default"}
    assert values["tasks.triage.guard.urgent"] == {"value": 0.1, "origin": "insource.toml:6"}
    assert values["tasks.triage.match.model"]["value"] == []


def test_people_see_the_same_as_a_table(run, tmp_path):
    (tmp_path / "insource.toml").write_text('[tasks.triage.match]\nmodel = ["a", "b"]\n')
    out = run("config", "show").out
    assert "read from insource.toml" in out
    line = next(line for line in out.splitlines() if "tasks.triage.match.model" in line)
    assert line.split()[1:] == ["a,", "b", "insource.toml:2"]
    line = next(line for line in out.splitlines() if "gateway.default_upstream" in line)
    assert line.split()[1:] == ["not", "set", "default"]


def test_without_a_file_it_says_so(run):
    assert "no insource.toml here" in run("config", "show").out
