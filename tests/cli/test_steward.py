"""`insource steward`: by hand until nothing is new, and as the gateway's companion, which never outlives it."""

import json
import os
import signal
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from subprocess import TimeoutExpired

import pytest

from insource.cli.serve import steward_of
from insource.cli.watched_home import LaterLedger, tasks_of
from insource.config import load
from insource.config.given import Given
from insource.gateway.orphans import ORPHANED
from insource.store.ledger import Ledger
from insource.store.ledger_reader import LedgerReader
from insource.store.registry import Registry
from insource.types import Decision, Outcome, Reason, Stage
from reliability.rehearsed import audit


def children(pid):
    return {int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def is_steward(pid):
    return b"steward" in Path(f"/proc/{pid}/cmdline").read_bytes()


def ends(child):
    """Whether a process ends within a moment, for loops that wait and leave it the processor."""
    with suppress(TimeoutExpired):
        child.wait(timeout=0.02)
    return child.returncode is not None


@pytest.fixture
def auto(tmp_path):
    (tmp_path / "insource.toml").write_text('[tasks.triage]\nmode = "auto"\n')


@pytest.fixture
def audited(home):
    """Writes whole audits of a version into the real ledger."""

    def write(n, number=1, stage=Stage.SHADOW, first=0):
        now = datetime.now(UTC)
        with Ledger.open(home, clock=lambda: now) as ledger:
            for request in range(first, first + n):
                told = audit(request, number, stage)
                decision = Decision(told.request_id, now, Outcome.ESCALATED, Reason.NO_SPECIALIST, "triage")
                ledger.append_now(decision)
                ledger.audit(told)

    return write


def test_it_takes_the_steps_that_the_ledger_s_audits_allow(run, registered, audited, auto, home):
    registered()
    done = run("steward", "--once")
    assert done.code == 0
    assert "triage (auto): nothing is active; triage@1 is in shadow" in done.out
    assert "it waits: 0 of 200 scored requests in shadow so far" in done.out
    audited(200)
    found = json.loads(run("steward", "--once", "--json", "-").out)["tasks"]["triage"]
    assert (found["stage"], found["share"], found["next"]) == ("canary", 0.01, "hold")
    assert found["evidence"]["risk"]["rows"] == 160
    with Registry.open(home) as registry:
        assert {move.who for move in registry.moves("triage")} == {"steward"}


def test_without_a_configuration_it_proposes(run, registered, home):
    registered()
    done = run("steward", "--once")
    assert "triage (approve): nothing is active; triage@1 waits as a candidate" in done.out
    assert "next: shadow (certified coverage 80.0%" in done.out
    with Registry.open(home) as registry:
        assert registry.proposal("triage").to is Stage.SHADOW


def test_a_damaged_version_in_canary_is_rolled_back(run, registered, auto, home, damage):
    registered()
    with Registry.open(home) as registry:
        registry.move("triage", 1, expected=Stage.CANDIDATE, to=Stage.CANARY, share=0.05, who="ada", why="try",
                      now=datetime.now(UTC))  # fmt: skip
    damage()
    run("steward", "--once")
    with Registry.open(home) as registry:
        assert registry.get("triage", 1).stage is Stage.RETIRED
        assert "its artifact cannot be served" in registry.moves("triage")[-1].why


def test_an_empty_home_is_no_error(run):
    done = run("steward", "--once")
    assert (done.code, done.out) == (0, "No task is configured or trained yet.\n")


def test_a_ledger_that_comes_later_is_found(home, audited, run, registered):
    registered()
    with LaterLedger(load(env={}, flags={"store.home": home})) as ledger:
        assert list(ledger.audits("triage")) == [] and ledger.decision("r-1") is None
        audited(3)
        assert len(list(ledger.audits("triage"))) == 3 and ledger.decision("r-1") is not None


def test_a_tier_in_the_house_is_no_task(registered, home):
    registered()
    registered("triage/vllm")
    with Registry.open(home) as registry:
        assert list(tasks_of(load(env={}, flags={"store.home": home}), registry)) == ["triage"]


def test_the_command_names_home_and_file(home, tmp_path):
    file = tmp_path / "other.toml"
    file.write_text("")
    given = Given.read(file, {"store.home": str(home)})
    command = steward_of(given, given.config())
    assert command[-6:] == ("--config", str(file), "--home", str(home), "steward", "--under")


def test_it_ends_when_it_is_told_and_when_its_supervisor_is_another(started, process, registered):
    registered()
    child = started("steward", "--every", "0.1")
    assert "the steward watches 1 tasks" in child.stdout.readline()
    child.send_signal(signal.SIGTERM)
    assert child.wait(timeout=60) == 0
    assert process("steward", "--under", "1").returncode == ORPHANED


def test_the_gateway_keeps_one_running_and_ends_it(started, registered, auto, home):
    """The candidate goes to shadow while the gateway serves; after a kill another steward is there."""
    registered()
    gateway = started("serve", "--port", "0")
    for line in gateway.stdout:
        if "kept for 30 days" in line:
            break
    with Registry.open(home) as registry:
        while registry.get("triage", 1).stage is not Stage.SHADOW:
            assert not ends(gateway)
    before = children(gateway.pid)
    (steward,) = [pid for pid in before if is_steward(pid)]
    os.kill(steward, signal.SIGKILL)
    while not (now := children(gateway.pid) - before):
        assert not ends(gateway)
    gateway.send_signal(signal.SIGTERM)
    gateway.stdout.read()
    assert gateway.wait(timeout=60) == 0
    assert not Path(f"/proc/{now.pop()}").exists()
    with LedgerReader(home) as ledger:
        assert [act.subject for act in ledger.acts() if act.what == "steward ended"] == ["steward"]


def test_without_a_steward_nothing_moves(started, registered, auto, home):
    registered()
    gateway = started("serve", "--port", "0", "--no-steward")
    for line in gateway.stdout:
        if "kept for 30 days" in line:
            break
    assert not any(is_steward(pid) for pid in children(gateway.pid))
    gateway.send_signal(signal.SIGTERM)
    gateway.stdout.read()
    assert gateway.wait(timeout=60) == 0
