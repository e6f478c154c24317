"""What the ledger holds to judge and to train by: audits, references and requests without a person's answer, in pages.

It reads rows in the order of their numbers; what they prove is for `lifecycle` to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from insource.store import columns
from insource.store.content_keys import Seal
from insource.store.contents import seal_of_row
from insource.store.translate import translated
from insource.types import Audit

PAGE = 1_000
AUDITS = f"SELECT seq, {columns.AUDIT} FROM audits WHERE seq > :after ORDER BY seq LIMIT :page"
AUDITS_OF_TASK = f"SELECT seq, {columns.AUDIT} FROM audits WHERE seq > :after AND task = :task ORDER BY seq LIMIT :page"

EARLIER = """
SELECT 1 FROM contents e WHERE e.reference IS NOT NULL AND e.seq < c.seq AND e.seq IN (
    SELECT seq FROM settlements WHERE request_id = d.request_id UNION ALL
    SELECT seq FROM audits WHERE request_id = d.request_id)
"""
UPSTREAM = f"""
SELECT c.seq, d.request_id, d.time, c.text, c.reference, 'upstream', c.subject, c.day
FROM texts c
LEFT JOIN settlements s ON s.seq = c.seq
LEFT JOIN audits a ON a.seq = c.seq
JOIN decisions d ON d.request_id = coalesce(a.request_id, s.request_id)
WHERE c.seq > :after AND c.task = :task AND c.text IS NOT NULL AND c.reference IS NOT NULL
    AND (a.seq IS NOT NULL OR d.outcome <> 'accepted' OR (d.tier IS NULL AND c.answer IS NULL))
    AND NOT EXISTS ({EARLIER})
ORDER BY c.seq LIMIT :page
"""
TEXT = """
SELECT c.seq FROM texts c WHERE c.text IS NOT NULL AND c.seq IN (
    SELECT d.seq UNION ALL SELECT seq FROM settlements WHERE request_id = d.request_id UNION ALL
    SELECT seq FROM audits WHERE request_id = d.request_id)
ORDER BY c.seq DESC LIMIT 1
"""
GOLD = f"""
SELECT g.seq, g.request_id, g.time, t.text, g.answer, 'gold', t.subject, t.day FROM (
    SELECT f.seq, f.request_id, d.time, f.answer, ({TEXT}) AS kept
    FROM feedback f JOIN decisions d ON d.request_id = f.request_id WHERE f.seq > :after AND f.task = :task) g
JOIN texts t ON t.seq = g.kept
ORDER BY g.seq LIMIT :page
"""
REFERENCES = f"SELECT * FROM ({UPSTREAM}) UNION ALL SELECT * FROM ({GOLD}) ORDER BY 1 LIMIT :page"
UNLABELLED = """
SELECT d.request_id FROM decisions d
WHERE d.task = ? AND (d.audited OR d.outcome <> 'accepted')
    AND EXISTS (SELECT 1 FROM contents c WHERE c.seq = d.seq AND c.text IS NOT NULL)
    AND NOT EXISTS (SELECT 1 FROM feedback f WHERE f.request_id = d.request_id)
ORDER BY d.time DESC, d.seq DESC LIMIT ?
"""


class Reference(NamedTuple):
    """A text with the answer taken as right for it: "gold" from a person, or the "upstream"'s.

    `seq` is that of the row that brought it, `time` that of the request; `seal` has the ids of its text's keys.
    """

    seq: int
    request_id: str
    time: datetime
    text: str
    reference: str
    source: str
    seal: Seal


def read_audits(
    path: Path, connection: apsw.Connection, task: str | None, after: int, limit: int | None
) -> Iterator[tuple[int, Audit]]:
    """Yield audits as `LedgerReader.audits` says."""
    statement = AUDITS if task is None else AUDITS_OF_TASK
    for row in islice(paged(path, connection, statement, {"task": task}, after), limit):
        yield row[0], columns.to_audit(row[1:])


def read_references(
    path: Path, connection: apsw.Connection, task: str, after: int, limit: int | None
) -> Iterator[Reference]:
    """Yield references as `LedgerReader.references` says."""
    for seq, request_id, time, text, reference, source, subject, day in islice(
        paged(path, connection, REFERENCES, {"task": task}, after), limit
    ):
        seal = seal_of_row(subject, day)
        yield Reference(seq, request_id, columns.moment(time), _text(text), _text(reference), source, seal)


def unlabelled(path: Path, connection: apsw.Connection, task: str, limit: int) -> list[str]:
    """Return the ids of the requests that `LedgerReader.unlabelled` returns."""
    with translated(path, connection):
        return [row[0] for row in connection.execute(UNLABELLED, (task, limit))]


def paged(
    path: Path, connection: apsw.Connection, statement: str, values: Mapping[str, Any], after: int
) -> Iterator[Any]:
    """Yield the rows of a statement with `:after` and `:page`, whose first column is the row's number, in pages."""
    while True:
        with translated(path, connection):
            page: list[Any] = connection.execute(statement, {**values, "after": after, "page": PAGE}).fetchall()
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1][0]


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "surrogatepass")
