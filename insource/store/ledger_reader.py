"""Reading the ledger beside its writer: one decision with all that followed, rows in order, evidence, acts, totals.

It never writes and takes no lock that a writer waits for. What the figures mean is for `governance` to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from insource.store import columns, migrations
from insource.store.columns import Act, Feedback
from insource.store.contents import content_digest
from insource.store.database import open_database
from insource.store.evidence import PAGE, Reference, read_audits, read_references, unlabelled
from insource.store.ledger import FILE, LAST_SEQ
from insource.store.signals import Signal, read_signals
from insource.store.texts import show_texts
from insource.store.totals import Totals, read_totals
from insource.store.translate import translated
from insource.types import Audit, Content, Decision, Settlement

LAST_START = "(SELECT coalesce(max(seq), 0) FROM acts WHERE what = 'start' AND who = 'insource')"


def _qualified(alias: str, names: str) -> str:
    return ", ".join(f"{alias}.{name.strip()}" for name in names.split(","))


SELECT = f"""
SELECT d.seq, {_qualified("d", columns.DECISION)}, s.seq, {_qualified("s", columns.SETTLEMENT)},
       s.seq IS NULL AND d.seq < {LAST_START}
FROM decisions d LEFT JOIN settlements s ON s.request_id = d.request_id
"""
BY_ID = SELECT + "WHERE d.request_id = ?"
PAGE_OF_ALL = SELECT + "WHERE d.seq > :after AND d.time >= :since ORDER BY d.seq LIMIT :page"
PAGE_OF_TASK = SELECT + "WHERE d.seq > :after AND d.time >= :since AND d.task = :task ORDER BY d.seq LIMIT :page"
ABORTED = SELECT + f"WHERE d.seq > :after AND s.seq IS NULL AND d.seq < {LAST_START} ORDER BY d.seq LIMIT :page"
AUDITS = f"SELECT {columns.AUDIT} FROM audits WHERE request_id = ? ORDER BY seq"
CONTENTS = f"""
SELECT {columns.CONTENT} FROM texts WHERE seq IN (
    SELECT seq FROM decisions WHERE request_id = ?1 UNION ALL
    SELECT seq FROM settlements WHERE request_id = ?1 UNION ALL
    SELECT seq FROM audits WHERE request_id = ?1)
ORDER BY seq
"""
ACTS = f"SELECT {columns.ACT} FROM acts WHERE ? IS NULL OR subject = ?1 ORDER BY seq"
DIGESTS = """
SELECT content_digest FROM decisions WHERE request_id = ?1 UNION ALL
SELECT content_digest FROM settlements WHERE request_id = ?1 UNION ALL
SELECT content_digest FROM audits WHERE request_id = ?1
"""
FEEDBACK = f"SELECT {columns.FEEDBACK} FROM feedback WHERE request_id = ? ORDER BY seq"
KNOWN = "SELECT 1 FROM decisions WHERE request_id = ?"

_NAMES = columns.DECISION.split(", ")
_DIGEST = _NAMES.index("content_digest")
_SETTLED = 1 + len(_NAMES)  # where SELECT has the settlement's number


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One decision and what followed. `content` is None where only the digest was kept, or it has been erased.

    `aborted`: never settled, and the gateway that took the decision has ended since.
    """

    seq: int
    decision: Decision
    settlement: Settlement | None
    audits: tuple[Audit, ...]
    content: Content | None
    content_digest: bytes | None
    aborted: bool

    @property
    def audit(self) -> Audit | None:
        """The audit of the version that decided, if there is one."""
        for audit in self.audits:
            if (audit.task, audit.version) == (self.decision.decider, self.decision.version):
                return audit
        return self.audits[0] if self.audits else None


class LedgerReader:
    """A read-only view; use as a context manager. One thread at a time.

    Raises StoreError where there is no ledger yet or it cannot be read.
    """

    def __init__(self, home: Path) -> None:
        self.path = home / FILE
        self._connection = open_database(self.path, migrations=migrations.LEDGER, read_only=True)
        show_texts(self._connection, home)

    def decision(self, request_id: str) -> LedgerRow | None:
        """Return the decision with this request id, or None."""
        with translated(self.path, self._connection):
            row = self._connection.execute(BY_ID, (request_id,)).fetchone()
            return None if row is None else self._read(row)

    def rows(self, task: str | None = None, *, since: datetime | None = None, after: int = 0) -> Iterator[LedgerRow]:
        """Yield the decisions (of one task, not before `since`, with seq above `after`) in the order of writing.

        Rows come in pages, so a long iteration holds no snapshot against the writer.
        """
        values = {"task": task, "since": -(2**63) if since is None else columns.micros(since)}
        return self._pages(PAGE_OF_ALL if task is None else PAGE_OF_TASK, values, after)

    def audits(
        self, task: str | None = None, *, after: int = 0, limit: int | None = None
    ) -> Iterator[tuple[int, Audit]]:
        """Yield the audits (of one task) with seq above `after`, each with its seq, in that order; at most `limit`.

        They come in pages, so that a long iteration holds no snapshot; what is written meanwhile is yielded, too.
        """
        return read_audits(self.path, self._connection, task, after, limit)

    def last_row(self) -> int:
        """Return the number of the last row of all; whatever is written later has a higher one."""
        with translated(self.path, self._connection):
            return int(self._connection.execute(LAST_SEQ).get)

    def signals(self, task: str, *, after: int = 0, until: int) -> Iterator[Signal]:
        """Yield what a task's rows above `after` and up to `until` say of drift, in their order, in pages."""
        return read_signals(self.path, self._connection, task, after, until)

    def references(self, task: str, after: int = 0, limit: int | None = None) -> Iterator[Reference]:
        """Yield what a task can be learned from: a reference that came with seq above `after`, and its kept text.

        A request comes once for its upstream's reference ("upstream"), and once for each answer that a person gave
        ("gold", which stands above the upstream's; the latest holds). An accepted answer is no reference. In order of
        seq and in pages, as `audits`; what has been erased is left out.
        """
        return read_references(self.path, self._connection, task, after, limit)

    def unlabelled(self, task: str, limit: int = 1_000) -> tuple[LedgerRow, ...]:
        """Return the latest requests of a task to ask a person about, latest first.

        They were audited or not accepted, their text was kept, and nobody has given an answer yet.
        """
        found = unlabelled(self.path, self._connection, task, limit)
        rows = (self.decision(request_id) for request_id in found)
        return tuple(row for row in rows if row is not None)

    def feedback(self, request_id: str) -> tuple[Feedback, ...]:
        """Return what people said is the right answer to a request, oldest first; the last holds."""
        with translated(self.path, self._connection):
            return tuple(columns.to_feedback(row) for row in self._connection.execute(FEEDBACK, (request_id,)))

    def knows(self, request_id: str) -> bool:
        """Say whether a request with this id was decided."""
        with translated(self.path, self._connection):
            return self._connection.execute(KNOWN, (request_id,)).fetchone() is not None

    def aborted(self) -> Iterator[LedgerRow]:
        """Yield the decisions that were never settled and were taken before the writer's latest start."""
        return self._pages(ABORTED, {}, 0)

    def acts(self, subject: str | None = None) -> tuple[Act, ...]:
        """Return the administrative acts (on one subject), oldest first."""
        with translated(self.path, self._connection):
            return tuple(columns.to_act(row) for row in self._connection.execute(ACTS, (subject,)))

    def totals(self, task: str | None = None, since: datetime | None = None) -> Totals:
        """Return counts, money, energy and latencies of all decisions (of one task, not before `since`)."""
        with translated(self.path, self._connection):
            return read_totals(self._connection, task, None if since is None else columns.micros(since))

    def proves(self, content: Content) -> bool:
        """Say whether a ledger row of this request carries the digest of exactly this text, answer and reference.

        Works while the salt is kept, whether or not the text was.
        """
        with translated(self.path, self._connection):
            written = {row[0] for row in self._connection.execute(DIGESTS, (content.request_id,))}
            salts: list[Any] = [row[0] for row in self._connection.execute(CONTENTS, (content.request_id,)) if row[0]]
        return any(content_digest(salt, content) in written for salt in salts)

    def kept_of(self, subjects: Iterable[bytes]) -> int:
        """Return how many rows have texts or salts sealed under one of these subjects' keys."""
        count = "SELECT count(*) FROM contents WHERE subject = ?"
        with translated(self.path, self._connection):
            return sum(int(self._connection.execute(count, (each,)).get) for each in subjects)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _pages(self, statement: str, values: dict[str, Any], after: int) -> Iterator[LedgerRow]:
        while True:
            with translated(self.path, self._connection):
                page = self._connection.execute(statement, {**values, "after": after, "page": PAGE}).fetchall()
                rows = [self._read(row) for row in page]
            yield from rows
            if len(page) < PAGE:
                return
            after = rows[-1].seq

    def _read(self, row: tuple[Any, ...]) -> LedgerRow:
        decision, settled, settlement, aborted = row[1:_SETTLED], row[_SETTLED], row[_SETTLED + 1 : -1], row[-1]
        request_id = decision[0]
        audits = self._connection.execute(AUDITS, (request_id,)).fetchall()
        parts = self._connection.execute(CONTENTS, (request_id,)).fetchall()
        return LedgerRow(
            seq=row[0],
            decision=columns.to_decision(decision),
            settlement=None if settled is None else columns.to_settlement(settlement),
            audits=tuple(columns.to_audit(audit) for audit in audits),
            content=columns.to_content(request_id, parts),
            content_digest=decision[_DIGEST],
            aborted=bool(aborted),
        )
