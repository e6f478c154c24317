"""kill -9 of the ledger's writer under load: what was acknowledged is there afterwards."""

import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from insource.errors import StoreBusy
from insource.store.ledger import FILE, Ledger
from insource.store.ledger_reader import LedgerReader

PROGRAM = Path(__file__).with_name("append_until_killed.py")


def start(home, prefix, mode, environment):
    child = subprocess.Popen(
        [sys.executable, str(PROGRAM), str(home), prefix, mode], stdout=subprocess.PIPE, env=environment
    )
    assert child.stdout.readline() == b"ready\n"
    return child


def kill_after(child, lines):
    """Kill the child once it has acknowledged so many; return all it acknowledged until it was dead."""
    acknowledged = [child.stdout.readline() for _ in range(lines)]
    child.kill()
    acknowledged += child.stdout.readlines()
    child.stdout.close()
    assert child.wait() == -9
    return [line.decode().strip() for line in acknowledged if line.endswith(b"\n")]


def stored(home):
    with LedgerReader(home) as reader:
        return [row.decision.request_id for row in reader.rows()]


def kill_often(home, kills, environment):
    acknowledged = []
    for kill in range(kills):
        child = start(home, f"run{kill}", "honest", environment)
        acknowledged += kill_after(child, 20 + 37 * kill % 211)
        assert set(acknowledged) <= set(stored(home))
    found = stored(home)
    assert len(found) == len(set(found))
    connection = apsw.Connection(str(home / FILE))
    assert connection.execute("PRAGMA integrity_check").get == "ok"
    tables = ("decisions", "settlements", "audits", "acts", "feedback")
    numbers = [row[0] for table in tables for row in connection.execute(f"SELECT seq FROM {table}")]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    connection.close()
    return acknowledged


def test_kills_lose_nothing_that_was_acknowledged(tmp_path, child_environment):
    assert len(kill_often(tmp_path, 4, child_environment)) >= 80


@pytest.mark.slow
def test_many_kills_lose_nothing_that_was_acknowledged(tmp_path, child_environment):
    assert len(kill_often(tmp_path, 30, child_environment)) >= 600


def test_control_a_writer_that_acknowledges_too_early_is_caught(tmp_path, child_environment):
    acknowledged = kill_after(start(tmp_path, "run", "early", child_environment), 100)
    assert len(acknowledged) >= 100
    assert not set(acknowledged) <= set(stored(tmp_path))


def test_a_second_writer_is_refused_and_a_killed_ones_place_is_free(tmp_path, child_environment, noon):
    child = start(tmp_path, "run", "honest", child_environment)
    with pytest.raises(StoreBusy, match=f"written by process {child.pid}.*INSOURCE_HOME"):
        Ledger.open(tmp_path, clock=lambda: noon)
    kill_after(child, 1)
    Ledger.open(tmp_path, clock=lambda: noon).close()


def test_what_was_decided_but_not_settled_reads_aborted_after_the_restart(tmp_path, child_environment, noon):
    kill_after(start(tmp_path, "run", "honest", child_environment), 50)
    with LedgerReader(tmp_path) as reader:
        open_before = {row.decision.request_id for row in reader.rows() if row.settlement is None}
        assert list(reader.aborted()) == [] and not any(row.aborted for row in reader.rows())
        with Ledger.open(tmp_path, clock=lambda: noon):
            aborted = list(reader.aborted())
            assert [row for row in reader.rows() if row.aborted] == aborted
    assert {row.decision.request_id for row in aborted} == open_before
    assert all(row.aborted for row in aborted)
