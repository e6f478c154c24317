"""Labels reserved of a day's budget: exact under races, kills and midnight."""

import signal
import subprocess
import sys
from datetime import timedelta

import apsw
import pytest

from insource.store.registry import FILE, Registry

RESERVE = """
import sys
from datetime import datetime
from pathlib import Path
from insource.store.registry import Registry

home, limit, broken = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "broken"
now = datetime.fromisoformat(sys.argv[4])
with Registry.open(home) as registry:
    print("ready", flush=True)
    sys.stdin.readline()
    won = 0
    for _ in range(20):
        if broken:  # check, then act
            if registry.labels_taken("triage", now) >= limit:
                continue
            print("checked", flush=True)
            sys.stdin.readline()
            limit_now = 10**9
        else:
            limit_now = limit
        won += registry.reserve_label("triage", limit_now, now) is not None
        if broken:
            break
print(won, flush=True)
"""


@pytest.fixture
def registry(tmp_path):
    with Registry.open(tmp_path) as registry:
        yield registry


def race(home, limit, now, environment, how="honest"):
    """Have four processes reserve at once; return how many each got."""
    arguments = [sys.executable, "-c", RESERVE, str(home), str(limit), how, now.isoformat()]
    children = [
        subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(4)
    ]
    for _ in range(1 if how == "honest" else 2):
        for child in children:
            assert child.stdout.readline() in ("ready\n", "checked\n")
        for child in children:
            child.stdin.write("go\n")
            child.stdin.flush()
    return [int(child.communicate()[0]) for child in children]


def test_four_processes_that_race_for_the_last_never_overspend(tmp_path, registry, noon, child_environment):
    assert [registry.reserve_label("triage", 31, noon) for _ in range(30)] == list(range(1, 31))
    assert sum(race(tmp_path, 31, noon, child_environment)) == 1
    assert registry.labels_taken("triage", noon) == 31


def test_control_who_checks_and_acts_afterwards_overspends(tmp_path, registry, noon, child_environment):
    assert sum(race(tmp_path, 1, noon, child_environment, "broken")) == 4
    assert registry.labels_taken("triage", noon) == 4


def test_a_kill_after_the_reservation_keeps_it_counted(tmp_path, registry, noon, child_environment):
    program = (
        "import os, signal, sys\nfrom datetime import datetime\nfrom pathlib import Path\n"
        "from insource.store.registry import Registry\n"
        "registry = Registry.open(Path(sys.argv[1]))\n"
        "assert registry.reserve_label('triage', 2, datetime.fromisoformat(sys.argv[2])) == 1\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    child = subprocess.run([sys.executable, "-c", program, str(tmp_path), noon.isoformat()], env=child_environment)
    assert child.returncode == -signal.SIGKILL
    assert registry.labels_taken("triage", noon) == 1
    assert [registry.reserve_label("triage", 2, noon) for _ in range(2)] == [2, None]


def test_midnight_utc_starts_anew_and_each_task_has_its_own(registry, noon):
    late = noon.replace(hour=23, minute=59, second=59)
    assert [registry.reserve_label("triage", 1, late) for _ in range(2)] == [1, None]
    assert registry.reserve_label("other", 1, late) == 1
    assert registry.reserve_label("triage", 1, late + timedelta(seconds=1)) == 1
    assert registry.labels_taken("triage", late) == 1 and registry.labels_taken("nobody", late) == 0


def test_a_budget_of_none_or_one_that_was_lowered_gives_none(registry, noon):
    assert registry.reserve_label("triage", 0, noon) is None and registry.labels_taken("triage", noon) == 0
    assert [registry.reserve_label("triage", 3, noon) for _ in range(3)] == [1, 2, 3]
    assert registry.reserve_label("triage", 2, noon) is None and registry.reserve_label("triage", 4, noon) == 4


def test_the_first_of_a_day_forgets_those_of_more_than_40_days_ago(registry, noon):
    for days in (0, 1, 41):
        registry.reserve_label("triage", 5, noon + timedelta(days=days))
    kept = [registry.labels_taken("triage", noon + timedelta(days=days)) for days in (0, 1, 41)]
    assert kept == [0, 1, 1]


@pytest.mark.parametrize("change", ["taken = taken - 1", "day = day + 1", "task = 'other'"])
def test_none_is_given_back(registry, tmp_path, noon, change):
    registry.reserve_label("triage", 5, noon)
    connection = apsw.Connection(str(tmp_path / FILE))
    with pytest.raises(apsw.ConstraintError, match="never given back"):
        connection.execute(f"UPDATE purchases SET {change}")
    connection.close()
