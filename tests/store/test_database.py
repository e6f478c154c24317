import os
import stat
import subprocess
import sys
import threading

import apsw
import pytest

from insource.errors import StoreBusy, StoreError, StoreFull, StoreTooNew
from insource.store import migrations
from insource.store.content_keys import ContentKeys
from insource.store.database import check_sqlite, open_database, transaction
from insource.store.ledger import Ledger
from insource.store.ledger_reader import LedgerReader
from insource.store.proof.verify import Outside, verify
from insource.types import Decision, Outcome, Reason
from reliability.disk import recording
from reliability.load import NOON


def step_one(connection):
    connection.execute("CREATE TABLE first (a INTEGER)")


def step_two(connection):
    connection.execute("CREATE TABLE second (a INTEGER)")


def step_that_breaks(connection):
    connection.execute("CREATE TABLE second (a INTEGER)")
    raise RuntimeError("the power went")


def tables(path):
    connection = apsw.Connection(str(path))
    found = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema ORDER BY name")]
    version = connection.execute("PRAGMA user_version").get
    connection.close()
    return found, version


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def no_umask():
    before = os.umask(0)
    yield
    os.umask(before)


def test_files_and_folder_are_private_whatever_the_umask(tmp_path, no_umask):
    path = tmp_path / "home" / "x.db"
    connection = open_database(path, migrations=[step_one])
    assert mode(path.parent) == 0o700
    assert {mode(file) for file in path.parent.iterdir()} == {0o600}
    assert {file.name for file in path.parent.iterdir()} == {"x.db", "x.db-wal", "x.db-shm"}
    connection.close()


def test_control_sqlite_alone_makes_a_file_that_others_read(tmp_path, no_umask):
    connection = apsw.Connection(str(tmp_path / "x.db"))
    connection.execute("CREATE TABLE a (b)")
    connection.close()
    assert mode(tmp_path / "x.db") != 0o600


def test_a_file_that_others_could_read_is_made_private(tmp_path):
    path = tmp_path / "x.db"
    open_database(path, migrations=[step_one]).close()
    path.chmod(0o644)
    open_database(path, migrations=[step_one]).close()
    assert mode(path) == 0o600


def test_commits_are_synced(tmp_path):
    connection = open_database(tmp_path / "x.db", migrations=[step_one])
    settings = {name: connection.execute(f"PRAGMA {name}").get for name in
                ("journal_mode", "synchronous", "foreign_keys", "secure_delete", "recursive_triggers")}  # fmt: skip
    connection.close()
    assert settings == {
        "journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1, "recursive_triggers": 1
    }  # fmt: skip


@pytest.mark.parametrize("version", ["3.7.0", "3.40.1", "3.50.4", "3.51.1", "3.51.2"])
def test_an_sqlite_that_loses_writes_is_refused(tmp_path, version):
    with pytest.raises(StoreError, match=f"SQLite {version}.*3.51.3 or newer.*pip install --upgrade apsw"):
        open_database(tmp_path / "x.db", migrations=[step_one], sqlite_version=version)
    assert not (tmp_path / "x.db").exists()


@pytest.mark.parametrize("version", ["3.51.3", "3.52.0", "3.54.1", "4.0.0"])
def test_a_fixed_sqlite_is_accepted(version):
    check_sqlite(version)


def test_migrations_run_once_and_in_order(tmp_path):
    path = tmp_path / "x.db"
    open_database(path, migrations=[step_one]).close()
    assert tables(path) == (["first"], 1)
    for _ in range(2):
        open_database(path, migrations=[step_one, step_two]).close()
        assert tables(path) == (["first", "second"], 2)


def test_an_interrupted_migration_leaves_the_old_version(tmp_path):
    path = tmp_path / "x.db"
    open_database(path, migrations=[step_one]).close()
    with pytest.raises(RuntimeError):
        open_database(path, migrations=[step_one, step_that_breaks])
    assert tables(path) == (["first"], 1)
    open_database(path, migrations=[step_one, step_two]).close()
    assert tables(path) == (["first", "second"], 2)


def test_control_the_same_step_outside_a_transaction_leaves_half_of_it(tmp_path):
    path = tmp_path / "x.db"
    connection = open_database(path, migrations=[step_one])
    with pytest.raises(RuntimeError):
        step_that_breaks(connection)
    connection.close()
    assert tables(path) == (["first", "second"], 1)


def test_a_migration_that_is_killed_leaves_the_old_version(tmp_path, child_environment):
    path = tmp_path / "x.db"
    open_database(path, migrations=[step_one]).close()
    program = (
        "import os, signal; from pathlib import Path; from insource.store.database import open_database\n"
        "def step(c): c.execute('CREATE TABLE second (a)'); os.kill(os.getpid(), signal.SIGKILL)\n"
        f"open_database(Path({str(path)!r}), migrations=[None, step])"
    )
    assert subprocess.run([sys.executable, "-c", program], env=child_environment).returncode == -9
    assert tables(path) == (["first"], 1)


def test_a_newer_schema_is_refused(tmp_path):
    path = tmp_path / "x.db"
    open_database(path, migrations=[step_one, step_two]).close()
    with pytest.raises(StoreTooNew, match="has schema 2; this insource knows schemas up to 1"):
        open_database(path, migrations=[step_one])


def test_a_reader_does_not_migrate(tmp_path):
    path = tmp_path / "x.db"
    open_database(path, migrations=[step_one]).close()
    with pytest.raises(StoreError, match="has schema 1; this insource reads schema 2"):
        open_database(path, migrations=[step_one, step_two], read_only=True)
    assert tables(path) == (["first"], 1)


@pytest.mark.parametrize(
    "garbage", [b"{'not': 'a database'}" * 100, b"\0" * 5_000, b"SQLite format 3\0" + b"\xff" * 5_000]
)
def test_garbage_instead_of_a_database_is_refused_and_kept(tmp_path, garbage):
    path = tmp_path / "x.db"
    path.write_bytes(garbage)
    with pytest.raises(StoreError, match="damaged or is not a database.*restore a backup"):
        open_database(path, migrations=[step_one])
    assert path.read_bytes() == garbage


def test_the_database_of_another_program_is_refused(tmp_path):
    path = tmp_path / "x.db"
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE holidays (a)")
    connection.close()
    with pytest.raises(StoreError, match="another program"):
        open_database(path, migrations=[step_one])
    assert tables(path) == (["holidays"], 0)


def test_reading_what_does_not_exist_creates_nothing(tmp_path):
    with pytest.raises(StoreError, match="does not exist. It is made by"):
        open_database(tmp_path / "x.db", migrations=[step_one], read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_way_is_named(tmp_path):
    with pytest.raises(StoreError, match="cannot be created or written"):
        open_database(tmp_path, migrations=[step_one])


def test_a_reader_cannot_write(tmp_path):
    open_database(tmp_path / "x.db", migrations=[step_one]).close()
    reader = open_database(tmp_path / "x.db", migrations=[step_one], read_only=True)
    with pytest.raises(StoreError, match="cannot be written"), transaction(reader, tmp_path / "x.db"):
        reader.execute("INSERT INTO first VALUES (1)")
    reader.close()


def test_a_transaction_is_all_or_nothing(tmp_path):
    connection = open_database(tmp_path / "x.db", migrations=[step_one])
    with pytest.raises(ZeroDivisionError), transaction(connection, tmp_path / "x.db"):
        connection.execute("INSERT INTO first VALUES (1)")
        _ = 1 / 0
    assert connection.execute("SELECT count(*) FROM first").get == 0
    connection.close()


def test_a_lock_that_stays_is_reported_as_busy(tmp_path):
    one = open_database(tmp_path / "x.db", migrations=[step_one])
    two = open_database(tmp_path / "x.db", migrations=[step_one])
    two.set_busy_timeout(0)
    with transaction(one, tmp_path / "x.db"):
        with pytest.raises(StoreBusy, match="stayed locked"), transaction(two, tmp_path / "x.db"):
            pass
    one.close()
    two.close()


@pytest.mark.parametrize("version", ["3.44.6", "3.44.7", "3.50.7", "3.50.10"])
def test_a_mended_older_series_is_accepted(version):
    check_sqlite(version)


@pytest.mark.parametrize("version", ["3.44.5", "3.45.6", "3.50.6", "3.43.9", "3", "", "unknown", "3.x.9"])
def test_what_is_not_mended_or_cannot_be_read_is_refused(version):
    with pytest.raises(StoreError, match="3.51.3 or newer"):
        check_sqlite(version)


def test_a_file_that_cannot_be_brought_to_a_write_ahead_log_is_refused(tmp_path):
    """SQLite reports that by the mode alone; the rollback journal would lose acknowledged rows in a power cut."""

    class NoLog(apsw.VFS):
        def xOpen(self, name, flags):  # noqa: N802
            return NoLogFile(name, flags)

    class NoLogFile(apsw.VFSFile):
        def __init__(self, name, flags):
            super().__init__(below, name, flags)

        def xFileControl(self, operation, pointer):  # noqa: N802
            if operation == 14 and apsw.VFSFcntlPragma(pointer).name == "journal_mode":
                apsw.VFSFcntlPragma(pointer).result = "delete"
                return True
            return super().xFileControl(operation, pointer)

    below = apsw.vfs_names()[0]
    layer = NoLog("no-log", below, makedefault=True)
    try:
        with pytest.raises(StoreError, match="stays in journal mode 'delete'; it must be WAL"):
            open_database(tmp_path / "x.db", migrations=[step_one])
    finally:
        layer.unregister()


def test_many_may_make_the_same_new_file_at_once(tmp_path):
    def make(home, failures, start):
        start.wait()
        try:
            open_database(home / "new.db", migrations=migrations.REGISTRY).close()
        except Exception as error:
            failures.append(error)

    failures = []
    for number in range(40):
        start = threading.Barrier(3)
        makers = [threading.Thread(target=make, args=(tmp_path / str(number), failures, start)) for _ in range(3)]
        for maker in makers:
            maker.start()
        for maker in makers:
            maker.join()
    assert failures == []


def failing_while(said):
    """A fault at every write to the file itself, its log left alone, while `said` holds something."""

    def fault(operation, path):
        if said and operation == "write" and path.endswith(".db"):
            return apsw.FullError("no room (a fault)")
        return None

    return fault


@pytest.mark.parametrize("own", [True, False])
def test_a_log_that_cannot_be_moved_into_the_file_is_not_the_commits_fault(tmp_path, caplog, own):
    """Control: of SQLite's own checkpoints COMMIT fails, though what it committed stands for everybody to see."""
    said = []
    with recording(tmp_path, fault=failing_while(said)):
        connection = open_database(tmp_path / "x.db", migrations=[step_one])
        if not own:
            connection.wal_autocheckpoint(20)
        said.append("from now on")
        refused = 0
        for number in range(200):
            try:
                with transaction(connection, tmp_path / "x.db"):
                    connection.execute("INSERT INTO first VALUES (?)", (number,))
            except StoreFull:
                refused += 1
        assert connection.execute("SELECT count(*) FROM first").get == 200
        assert (refused == 0) == own
        assert [record.message.count("could not be moved") for record in caplog.records] == [1] * own
        said.clear()
        with transaction(connection, tmp_path / "x.db"):
            connection.execute("INSERT INTO first VALUES (200)")
        connection.close()
    assert apsw.Connection(str(tmp_path / "x.db")).execute("SELECT count(*) FROM first").get == 201


def test_a_disk_that_was_full_for_a_checkpoint_leaves_the_ledger_writing(tmp_path):
    said = []
    with recording(tmp_path, fault=failing_while(said)), Ledger.open(tmp_path, clock=lambda: NOON) as ledger:
        for number in range(60):
            said[:] = ["full"] * (10 <= number < 30)
            ledger.append_now(Decision(f"r-{number}", NOON, Outcome.ESCALATED, Reason.NO_TASK))
        assert ledger.failing is None
    with LedgerReader(tmp_path) as reader:
        assert len(list(reader.rows())) == 60
    assert not verify(tmp_path, Outside(), lambda done, of: None).faults


def test_a_ledger_whose_file_cannot_be_closed_gives_up_everything_else(tmp_path, monkeypatch):
    """Else its keys' file stays open, and nobody becomes the writer while this process lives."""
    ledger = Ledger.open(tmp_path, clock=lambda: NOON)
    ledger.append_now(Decision("r-1", NOON, Outcome.ESCALATED, Reason.NO_TASK))
    closed = []

    class Failing:
        def close(self):
            closed.append(True)
            raise apsw.IOError("a fault")

    with monkeypatch.context() as patched:
        own = ledger._connection
        patched.setattr(ledger, "_connection", Failing())
        with pytest.raises(StoreError, match="a fault"):
            ledger.close()
        own.close()
    assert closed == [True]
    assert not [each for each in apsw.connections() if str(tmp_path) in each.filename]
    Ledger.open(tmp_path, clock=lambda: NOON).close()


def test_keys_that_cannot_be_read_are_not_left_open(tmp_path, monkeypatch):
    def failing(self, path, connection):
        raise apsw.IOError("a fault")

    monkeypatch.setattr(ContentKeys, "__init__", failing)
    with pytest.raises(StoreError, match="a fault"):
        Ledger.open(tmp_path, clock=lambda: NOON)
    assert not [each for each in apsw.connections() if str(tmp_path) in each.filename]
    monkeypatch.undo()
    Ledger.open(tmp_path, clock=lambda: NOON).close()
