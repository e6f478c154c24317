"""`insource doctor`: each check in its good and its bad state."""

import json
import os

import apsw
import pytest

from insource.cli.checks.machine import cores, extra_check, python_check, sqlite_check, thread_checks
from insource.cli.checks.store import database_check, folder_checks, trunk_checks
from insource.cli.checks.upstreams import upstream_checks
from insource.config import load
from insource.store import migrations
from insource.store.artifacts import ArtifactStore


def statuses(done):
    return {check["name"]: check["status"] for check in json.loads(done.out)["checks"]}


def only(checks):
    (check,) = checks
    return check


def test_a_fresh_machine_has_nothing_that_fails(run):
    done = run("doctor")
    assert done.code == 0, done.out
    assert "0 failed" in done.out
    assert "fail " not in done.out


def test_a_fresh_machine_stays_fresh(run, home):
    run("doctor")
    assert not home.exists()


def test_a_home_in_use_is_sound(run, registered, home):
    registered()
    run("promote", "triage")
    done = run("doctor", "--json", "-")
    assert done.code == 0, done.out
    found = statuses(done)
    assert found["registry"] == found["artifacts"] == found["active triage@1"] == found["home"] == "ok"
    assert json.loads(done.out)["home"] == str(home)


def test_a_damaged_artifact_fails(run, registered, damage):
    registered()
    run("promote", "triage")
    damage()
    done = run("doctor", "--json", "-")
    assert done.code == 1
    found = statuses(done)
    assert found["artifact triage@1"] == found["active triage@1"] == "fail"
    assert "artifacts" not in found


def test_an_altered_row_of_the_registry_fails(run, registered, home):
    registered()
    run("promote", "triage")
    connection = apsw.Connection(str(home / "registry.db"))
    connection.execute("DROP TRIGGER versions_change_stage_and_share_only")
    connection.execute("UPDATE versions SET calibration = replace(calibration, '0.', '0.0')")
    connection.close()
    found = statuses(run("doctor", "--json", "-"))
    assert found["registry rows"] == found["active triage@1"] == "fail"
    for command in (("tasks", "triage"), ("status", "triage")):
        assert "triage@1 is not as it was written" in " ".join(run(*command).out.split())
    assert run("rollback", "triage", "--why", "altered").code == 0
    refused = run("promote", "triage@1", "--anyway", "--why", "it was active")
    assert refused.code == 1 and "row-altered" in refused.err


def test_a_damaged_artifact_that_is_retired_warns(run, registered, damage):
    registered()
    registered()
    run("promote", "triage@1")
    run("promote", "triage@2")
    damage()  # both have the same bytes, and so the same artifact
    found = statuses(run("doctor", "--json", "-"))
    assert found["artifact triage@1"] == "warn"
    assert found["artifact triage@2"] == "fail"


@pytest.mark.parametrize("name", ["ledger", "registry"])
def test_a_damaged_database_fails_and_the_rest_is_checked(run, home, name):
    home.mkdir()
    (home / f"{name}.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 8000)
    done = run("doctor", "--json", "-")
    assert done.code == 1
    found = statuses(done)
    assert found[name] == "fail"
    assert "upstreams" in found


def test_a_database_that_opens_but_is_not_sound_fails(home, registered):
    """Bytes overturned in the middle: only the integrity check sees them."""
    for _ in range(40):
        registered()
    path = home / "registry.db"
    data = bytearray(path.read_bytes())
    half = len(data) // 2 // 4096 * 4096
    data[half : half + 4096] = os.urandom(4096)
    path.write_bytes(data)
    assert database_check("registry", path, migrations.REGISTRY).status == "fail"


def test_a_configuration_that_cannot_be_read_is_a_finding(run, tmp_path):
    (tmp_path / "insource.toml").write_text("[gatewai]\n")
    done = run("doctor")
    assert done.code == 1
    assert "gatewai" in done.out
    assert "python" in done.out


def test_python_versions():
    assert python_check((3, 11, 0)).status == "ok"
    assert python_check((3, 10, 9)).status == "fail"


def test_an_sqlite_with_the_bug_fails():
    assert sqlite_check().status == "ok"
    assert sqlite_check("3.51.2").status == "fail"
    assert "apsw" in sqlite_check("3.51.2").detail


@pytest.mark.parametrize(("env", "expected"), [
    ({}, ["ok"]),
    ({"OMP_NUM_THREADS": "2"}, ["ok"]),
    ({"OMP_NUM_THREADS": "4"}, ["warn"]),
    ({"OMP_NUM_THREADS": "many"}, ["ok"]),
    ({"OMP_WAIT_POLICY": "ACTIVE"}, ["ok", "warn"]),
    ({"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "infinity"}, ["ok", "warn"]),
])  # fmt: skip
def test_threads_against_cores(env, expected):
    assert [check.status for check in thread_checks(2.0, env)] == expected


def test_a_control_group_may_give_less_than_the_cores(tmp_path):
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert cores(tmp_path / "cpu.max") == 0.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert cores(tmp_path / "cpu.max") == cores(tmp_path / "nosuch") >= 1


def test_an_extra_that_is_missing_tells_the_command():
    check = extra_check("plot", "no_such_package", "it draws")
    assert check.status == "ok"
    assert 'pip install "insource[plot]"' in check.todo
    assert extra_check("demo", "click", "x").detail == "click is installed"


@pytest.mark.parametrize(("free", "status"), [(99_999_999, "fail"), (100_000_000, "warn"), (10**9, "ok")])
def test_room(tmp_path, free, status):
    assert [check.status for check in folder_checks(tmp_path, free) if check.name == "room"] == [status]


def test_a_home_that_is_no_folder_fails(tmp_path):
    (tmp_path / "file").touch()
    assert next(folder_checks(tmp_path / "file")).status == "fail"
    assert next(folder_checks(tmp_path / "file" / "below")).status == "fail"


def test_files_that_others_may_read_are_named(tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / "ledger.db").touch(0o600)
    assert next(folder_checks(tmp_path)).status == "ok"
    (tmp_path / "ledger.db").chmod(0o644)
    check = next(folder_checks(tmp_path))
    assert check.status == "warn"
    assert "ledger.db" in check.detail


def test_trunks_are_verified(home):
    store = ArtifactStore(home)
    with store.draft() as folder:
        (folder / "model.onnx").write_bytes(b"weights")
        digest = store.commit(folder, {"kind": "trunk"})
    (home / "trunks").mkdir()
    (home / "trunks" / "note").write_text(digest + "\n")
    (home / "cache").mkdir()
    (home / "cache" / "wheel").write_bytes(b"x" * 1_000_000)
    config = load(env={}, flags={"store.home": home})
    assert [(check.name, check.status) for check in trunk_checks(config)] == [("trunks", "ok"), ("cache", "ok")]
    (home / "artifacts" / digest / "model.onnx").write_bytes(b"other")
    assert next(trunk_checks(config)).status == "warn"


@pytest.fixture
def upstream(tmp_path):
    def written(lines: str):
        (tmp_path / "insource.toml").write_text(lines)
        return load(tmp_path / "insource.toml", env={})

    return written


MAIN = '[upstreams.main]\nbase_url = "https://a.example/v1"\n'
OTHER = '[upstreams.other]\nbase_url = "http://b.example:81/v1"\napi_key_env = "B_KEY"\n'


def test_upstreams_and_their_keys(upstream):
    assert only(upstream_checks(upstream(""), network=False)).status == "warn"
    assert only(upstream_checks(upstream(MAIN), network=False)).status == "ok"
    config = upstream(OTHER)
    assert only(upstream_checks(config, network=False, env={"B_KEY": "secret"})).status == "ok"
    assert "secret" not in only(upstream_checks(config, network=False, env={"B_KEY": "secret"})).detail
    assert only(upstream_checks(config, network=False, env={})).status == "fail"
    both = list(upstream_checks(upstream(MAIN + OTHER), network=False, env={"B_KEY": "x"}))
    assert both[0].todo == "Set gateway.default_upstream."


def test_upstreams_are_reached_only_on_request(upstream):
    tried = []

    def connect(host, port):
        tried.append((host, port))
        if port == 81:
            raise ConnectionRefusedError(111, "Connection refused")

    config = upstream("[gateway]\ndefault_upstream = 'main'\n" + MAIN + OTHER)
    list(upstream_checks(config, network=False, env={"B_KEY": "x"}, connect=connect))
    assert tried == []
    checks = list(upstream_checks(config, network=True, env={"B_KEY": "x"}, connect=connect))
    assert tried == [("a.example", 443), ("b.example", 81)]
    assert [check.status for check in checks] == ["ok", "ok", "ok", "fail"]
    assert "Connection refused" in checks[-1].detail
