"""R3: no SQLite with the WAL-reset bug is used; the one that is bundled is hammered by a writer and four readers.

It knows version numbers and the store's own gate; SQLite's history stands in the table below (sqlite.org, "Write-Ahead
Logging", section on the WAL-reset bug: 3.7.0 to 3.51.2, fixed in 3.51.3, 3.50.7 and 3.44.6).
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import apsw

from insource.errors import StoreError
from insource.store import migrations
from insource.store.database import check_sqlite, open_database, transaction
from reliability.harness import Promise, Tally

UNSAFE = (
    "3.7.0", "3.7.17", "3.8.0", "3.8.11.1", "3.9.2", "3.10.2", "3.12.0", "3.15.2", "3.20.1", "3.22.0", "3.24.0",
    "3.26.0", "3.28.0", "3.31.1", "3.34.1", "3.36.0", "3.37.2", "3.39.5", "3.40.1", "3.42.0", "3.43.2", "3.44.0",
    "3.44.5", "3.45.1", "3.46.1", "3.47.2", "3.48.0", "3.49.2", "3.50.0", "3.50.4", "3.50.6", "3.51.0", "3.51.1",
    "3.51.2",
)  # fmt: skip
SAFE = ("3.44.6", "3.50.7", "3.51.3", "3.52.0", "3.53.0", "3.54.1")
READERS = 4
READER = """
import sys
import apsw
connection = apsw.Connection(sys.argv[1], flags=apsw.SQLITE_OPEN_READONLY)
connection.set_busy_timeout(10_000)
reads = highest = 0
print("ready", flush=True)
while True:
    rows, last, sums = connection.execute("SELECT count(*), max(n), sum(n) FROM hammered").get
    if rows != last or sums != last * (last + 1) // 2 or last < highest:
        print(f"broken: {rows} rows, the last {last}, sum {sums}, seen before {highest}", flush=True)
        break
    reads, highest = reads + 1, last
    if connection.execute("SELECT ended FROM finish").get:
        print(f"read {reads}", flush=True)
        break
"""


def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Put the table to the gate, then hammer the bundled engine, a second for each case."""
    tally = Tally()
    gate = _asleep if broken else check_sqlite
    for version in (*UNSAFE, *SAFE):
        tally.count("versions")
        refused = _refused(gate, version)
        if refused != (version in UNSAFE):
            tally.fail(-1, f"SQLite {version} was {'refused' if refused else 'let in'}", "wrongly judged")
    stock = sqlite3.sqlite_version
    tally.count("stock versions")
    if _unsafe(stock) and not _refused(gate, stock):
        tally.fail(-1, f"this machine's own SQLite {stock} was let in", "wrongly judged")
    if not broken and not _start_is_refused(folder / "refused.db"):
        tally.fail(-1, "a file was opened under 3.40.1", "wrongly judged")
    _hammer(tally, folder / "hammer.db", float(len(cases)))
    return tally


def judge(tally: Tally) -> list[str]:
    """Every version must be judged rightly, and no reader may ever see a broken file."""
    found = []
    if tally.counts["wrongly judged"]:
        found.append(f"{tally.counts['wrongly judged']} versions judged wrongly")
    if tally.counts["broken reads"]:
        found.append(f"{tally.counts['broken reads']} readers or files found rows missing or out of order")
    if tally.counts["versions"] < 40 or not tally.counts["commits"] or not tally.counts["reads"]:
        found.append("the table or the hammer was not run")
    return found


def seen(tally: Tally) -> str:
    """One line."""
    counts, length = tally.counts, len(UNSAFE) + len(SAFE)
    return (
        f"{length} versions: {'none' if not counts['wrongly judged'] else counts['wrongly judged']} judged wrongly "
        f"(stock {sqlite3.sqlite_version} refused: {'yes' if _unsafe(sqlite3.sqlite_version) else 'is a fixed one'}); "
        f"{counts['commits']:,} commits beside {counts['reads']:,} reads on {apsw.sqlite_lib_version()}: "
        f"{counts['broken reads']} broken"
    )


def _refused(gate: object, version: str) -> bool:
    try:
        gate(version)  # type: ignore[operator]
    except StoreError as error:
        return version in str(error) and "pip install" in str(error)
    return False


def _asleep(version: str) -> None:
    """The gate of the broken build."""


def _unsafe(version: str) -> bool:
    numbers = tuple(map(int, version.split(".")))
    fixed = numbers >= (3, 51, 3) or (3, 50, 7) <= numbers < (3, 51) or (3, 44, 6) <= numbers < (3, 45)
    return numbers >= (3, 7) and not fixed


def _start_is_refused(path: Path) -> bool:
    try:
        open_database(path, migrations=migrations.LEDGER, sqlite_version="3.40.1").close()
    except StoreError:
        return not path.exists()
    return False


def _table(connection: apsw.Connection) -> None:
    connection.execute(
        "CREATE TABLE hammered (n INTEGER PRIMARY KEY, filler BLOB); INSERT INTO hammered VALUES (1, x'')"
    )
    connection.execute("CREATE TABLE finish (ended INTEGER); INSERT INTO finish VALUES (0)")


def _hammer(tally: Tally, path: Path, seconds: float) -> None:
    """Commit and checkpoint as quickly as possible beside four readers in processes of their own."""
    connection = open_database(path, migrations=[_table])
    connection.execute("PRAGMA wal_autocheckpoint = 20")
    command = [sys.executable, "-c", READER, str(path)]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(READERS)]
    for reader in readers:
        assert reader.stdout is not None and reader.stdout.readline() == "ready\n"
    number, until = 1, time.monotonic() + seconds
    while time.monotonic() < until:
        with transaction(connection, path):
            for _ in range(1 + number % 5):
                number += 1
                connection.execute("INSERT INTO hammered VALUES (?, zeroblob(?))", (number, number % 3_000))
        tally.count("commits")
    connection.execute("UPDATE finish SET ended = 1")
    for reader in readers:
        told = reader.communicate(timeout=60)[0]
        if told.startswith("read "):
            tally.count("reads", int(told.split()[1]))
        else:
            tally.fail(-1, told.strip() or f"a reader ended with {reader.returncode}", "broken reads")
    if connection.execute("PRAGMA integrity_check").get != "ok":
        tally.fail(-1, "integrity_check found damage", "broken reads")
    connection.close()


PROMISE = Promise(
    id="R3",
    says="No unsafe SQLite is used silently",
    asked="start refused for 100 % of a 40-version table (3.7.0 to 3.51.2 but 3.44.6+ and 3.50.7+), the stock 3.40.1 "
    "refused; a hammer of 10 min with 1 writer and 4 readers on the bundled engine: 0 broken reads",
    unit="seconds of the hammer",
    full=600,
    sample=1,
    slow=20,
    control=1,
    chunk=60,
    run=run,
    judge=judge,
    seen=seen,
)
