"""The `openai` package from npm against the gateway; it is installed into a temporary folder."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("openai_client.mjs")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder in which node finds the package."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not on the PATH; this test runs the npm client `openai`")
    folder = tmp_path_factory.mktemp("npm")
    (folder / "package.json").write_text('{"private": true}')
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "openai"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"npm could not install `openai`, the registry may be out of reach: {done.stderr[-200:]}")
    shutil.copy(SCRIPT, folder)
    return folder


def run(folder, served, **more):
    env = {**os.environ, "BASE_URL": served.url, "SYSTEM": served.system, **more}
    return subprocess.run(
        ["node", SCRIPT.name], cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.slow
def test_the_npm_client_is_served_by_both(installed, served):
    done = run(installed, served)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for dialect in ("chat", "chat stream", "completions", "completions stream", "responses", "responses stream"):
        assert found[f"{dialect} sure"] == {"text": "yes", "servedBy": "triage@1"}
        assert found[f"{dialect} unsure"] == {"text": "yes", "servedBy": "main"}
    assert found["moderations"] == {"text": "no", "servedBy": "guard@1"}
    assert found["embeddings"]["text"] == "4"
    assert {"task:triage", "scripted"} <= set(found["models"])
    assert found["error"] == {"status": 404, "code": "task_unknown", "isNotFound": True}


@pytest.mark.slow
def test_the_script_fails_where_nobody_serves(installed, served):
    """The control: a run against nothing must not pass for one that found everything right."""
    assert run(installed, served, BASE_URL="http://127.0.0.1:9").returncode != 0
