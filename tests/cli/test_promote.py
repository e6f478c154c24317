"""`insource promote`."""

import getpass
import importlib.util
import json
from pathlib import Path

import pytest

from insource.store.registry import Registry


def stages(home):
    with Registry.open(home) as registry:
        return [str(version.stage) for version in registry.versions("triage")]


@pytest.fixture
def not_certified():
    from insource.types import Calibration

    return Calibration("cross-fit", 0.05, 0.95, 40, None, 0.0, 0, 0, None, 0.9, notes=("19 rows are lacking",))


def test_the_newest_candidate_becomes_active_and_says_what_changed(run, registered, home):
    registered()
    registered()
    done = run("promote", "triage", "--why", "held", "--who", "ada")
    assert done.code == 0
    assert done.out.startswith("triage@2 (linear, digest ")
    assert "before: none" in done.out
    assert "accepts at a score of 0.4200 or above: certified coverage 80.0 %, risk at most 3.0 %" in done.out
    assert "within a second" in done.out
    assert stages(home) == ["candidate", "active"]
    with Registry.open(home) as registry:
        (act,) = registry.acts("triage@2")
    assert (act.who, act.what) == ("ada", "promote")
    assert act.detail.startswith("held (before: none; digest ")


def test_the_one_before_is_retired(run, registered, home):
    registered()
    registered()
    run("promote", "triage@1")
    done = run("promote", "triage")
    assert "before: triage@1, now retired" in done.out
    assert stages(home) == ["retired", "active"]


def test_the_user_is_the_one_who_decides(run, registered):
    registered()
    found = json.loads(run("promote", "triage", "--json", "-").out)
    assert found["who"] == getpass.getuser()
    assert (found["version"], found["before"], found["changed"], found["why"]) == (1, None, True, None)


def test_an_active_version_stays_so(run, registered, home):
    registered()
    run("promote", "triage@1")
    done = run("promote", "triage@1")
    assert done.code == 0
    assert "is active already; nothing was changed" in done.out
    with Registry.open(home) as registry:
        assert len(registry.acts()) == 1


def test_without_a_candidate_the_versions_are_named(run, registered):
    registered()
    run("promote", "triage")
    done = run("promote", "triage")
    assert done.code == 2
    assert "has no candidate (@1 active)" in done.err


def test_a_version_without_a_threshold_needs_a_reason(run, registered, home, not_certified):
    registered(calibration=not_certified)
    done = run("promote", "triage", "--why", "trust me")
    assert done.code == 2
    assert "triage@1 has no threshold: 40 calibration rows certify no share" in done.err
    assert "19 rows are lacking" in done.err
    assert "--anyway --why TEXT" in done.err
    assert run("promote", "triage", "--anyway").code == 2
    assert stages(home) == ["candidate"]
    done = run("promote", "triage", "--anyway", "--why", "to fill the ledger")
    assert done.code == 0
    assert "accepts nothing, and every request goes up" in done.out
    assert stages(home) == ["active"]


def test_a_version_that_was_never_certified_needs_a_reason(run, registered):
    registered(calibration=None)
    done = run("promote", "triage@1")
    assert done.code == 2
    assert "was never certified" in done.err
    assert run("promote", "triage@1", "--anyway", "--why", "a test").code == 0


def test_a_damaged_artifact_is_refused_and_the_one_before_serves_on(run, registered, home, damage):
    registered()
    run("promote", "triage")
    registered()
    damage()
    done = run("promote", "triage", "--anyway", "--why", "no reason is enough")
    assert done.code == 1
    assert "score.safetensors" in done.err
    assert "hint: Train the version again" in done.err
    assert stages(home) == ["active", "candidate"]


def test_without_that_check_the_damaged_one_would_be_promoted(run, registered, home, damage, tmp_path):
    """The guard broken on purpose: a copy of the command that opens nothing promotes the damaged artifact."""
    from click.testing import CliRunner

    from insource.cli import promote
    from insource.cli.choices import Choices

    source = Path(promote.__file__).read_text()
    assert source.count("Opener(config).check(chosen)") == 1
    (tmp_path / "broken.py").write_text(source.replace("Opener(config).check(chosen)", "pass"))
    spec = importlib.util.spec_from_file_location("broken_promote", tmp_path / "broken.py")
    broken = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(broken)
    registered()
    damage()
    result = CliRunner().invoke(broken.command, ["triage"], obj=Choices(None, home))
    assert result.exit_code == 0
    assert stages(home) == ["active"]


def test_unknown_names(run, registered):
    registered()
    assert "known are triage" in run("promote", "nosuch").err
    assert "has no version 7" in run("promote", "triage@7").err
    assert "NAME or NAME@V was expected" in run("promote", "triage@x").err
