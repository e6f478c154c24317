"""What the ledger says of drift before any audit: scores and answers of all requests, references of the escalated.

It reads rows in the order of their numbers; what has drifted is for `lifecycle` to say.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import apsw

from insource.store import columns
from insource.store.evidence import paged

SCORED = """
SELECT seq, time, version, score, answer, NULL, NULL FROM decisions
WHERE seq > :after AND seq <= :until AND +task = :task AND tier IS NULL AND version IS NOT NULL AND score IS NOT NULL
"""
ESCALATED = """
SELECT s.seq, d.time, d.version, NULL, NULL, s.agrees, s.reference
FROM settlements s CROSS JOIN decisions d ON d.request_id = s.request_id
WHERE s.seq > :after AND s.seq <= :until AND s.agrees IS NOT NULL AND d.task = :task AND d.tier IS NULL
    AND d.version IS NOT NULL AND d.reason IN ('below_threshold', 'no_threshold')
"""
SIGNALS = f"SELECT * FROM ({SCORED}) UNION ALL SELECT * FROM ({ESCALATED}) ORDER BY 1 LIMIT :page"


# "+task" keeps SQLite to the rows' numbers: by the index on tasks it would look through all of a task's rows each time.


class Signal(NamedTuple):
    """What one row says of the specialist's version that decided a request.

    Of a decision the `score`, and where contents are kept the number of its `answer`; of a settled escalation whether
    that answer `agrees` with the reference, and where contents are kept the `reference`'s number. The others are None.
    """

    seq: int
    time: datetime
    version: int
    score: float | None = None
    answer: int | None = None
    agrees: bool | None = None
    reference: int | None = None


def read_signals(path: Path, connection: apsw.Connection, task: str, after: int, until: int) -> Iterator[Signal]:
    """Yield signals as `LedgerReader.signals` says."""
    values = {"task": task, "until": until}
    for seq, time, version, score, answer, agrees, reference in paged(path, connection, SIGNALS, values, after):
        said = None if agrees is None else bool(agrees)
        yield Signal(seq, columns.moment(time), version, score, answer, said, reference)
