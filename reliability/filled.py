"""A ledger of many rows, made quickly: rows by SQL, heads as after commits of sixteen, then tiles.

It goes around the writer, which would take minutes for a million; what it leaves is what the writer would.
"""

from __future__ import annotations

from pathlib import Path

from insource.store import migrations
from insource.store.database import open_database, transaction
from insource.store.ledger import FILE, Ledger
from insource.store.proof.stored import PAGE, leaves_of
from insource.store.proof.tree import Frontier
from reliability.load import NOON

COMMIT = 16
DECISIONS = """
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?1)
INSERT INTO decisions (seq, request_id, time, task, outcome, reason, version, digest, score, threshold, audited,
                       audit_rate, content_digest)
SELECT 2 * n - 1, printf('req-%08x', n), 1795348800000000 + n, 'triage', 'accepted', 'above_threshold', 3,
       'a1b2c3d4e5f60718a1b2c3d4e5f60718a1b2c3d4e5f60718a1b2c3d4e5f60718', 0.5 + n / 3e7, 0.8125, 0, 0.05,
       randomblob(32)
FROM numbers
"""
SETTLEMENTS = """
INSERT INTO settlements (seq, request_id, time, status, served_by, seconds, prompt_tokens, completion_tokens,
                         cost_saved)
SELECT seq + 1, request_id, time, 200, 'triage@3', 0.00211, 40, 3, '0.000130' FROM decisions
"""


def fill(home: Path, rows: int) -> None:
    """Make a ledger of `rows` rows (an even number) and one more, the act of the start."""
    path = home / FILE
    connection = open_database(path, migrations=migrations.LEDGER)
    try:
        with transaction(connection, path):
            connection.execute(DECISIONS, (rows // 2,))
            connection.execute(SETTLEMENTS)
            leaves, frontier = leaves_of(connection, path), Frontier()
            for start in range(0, rows, PAGE):
                hashes = leaves(start, min(start + PAGE, rows))
                for at in range(0, len(hashes), COMMIT):
                    frontier = frontier.extended(hashes[at : at + COMMIT])
                    connection.execute("INSERT INTO heads VALUES (?, ?)", (frontier.size, frontier.root()))
    finally:
        connection.close()
    Ledger.open(home, clock=lambda: NOON).close()
