"""The ledger's writer: decisions, settlements, audits and acts, appended durably by one process and one thread.

It does not know why a decision was taken, and it reads nothing back; `ledger_reader` does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import apsw

from insource.errors import StoreBusy, StoreError, StoreFull
from insource.store import columns, migrations
from insource.store.columns import Act, Values
from insource.store.contents import content_rows
from insource.store.database import BUSY_MILLISECONDS, open_database, transaction
from insource.store.group_commit import GroupCommit, Job, again
from insource.store.insert import insert_rows
from insource.store.lock import WriterLock
from insource.store.translate import translated
from insource.types import Audit, Content, Decision, Settlement

FILE = "ledger.db"
LOCK = "ledger.lock"
LAST_SEQ = """
SELECT max(coalesce((SELECT max(seq) FROM decisions), 0), coalesce((SELECT max(seq) FROM settlements), 0),
           coalesce((SELECT max(seq) FROM audits), 0), coalesce((SELECT max(seq) FROM acts), 0))
"""
ERASED_AT_ONCE = 2_000

Rows = tuple[tuple[str, Values], ...]


class Ledger:
    """The one writer. Use as a context manager, or call `close`, which writes all that is queued."""

    def __init__(self, path: Path, lock: WriterLock, connection: apsw.Connection, clock: Callable[[], datetime],
                 retention: timedelta, bound: int) -> None:  # fmt: skip
        self.path = path
        self._lock = lock
        self._connection = connection
        self._clock = clock
        self._retention = retention
        self._seq = 0
        self._commits = GroupCommit(self._commit, bound=bound)
        self._closed = False

    @classmethod
    def open(cls, home: Path, *, clock: Callable[[], datetime], retention_days: int = 30,
             max_pages: int | None = None, bound: int = 10_000) -> Self:  # fmt: skip
        """Become the writer of the ledger in `home`, and record the start as an act.

        Content is kept for `retention_days`. `bound` is how many decisions may wait before `append` raises
        Overloaded. `max_pages` (of 4 KiB) plays a full disk in tests.

        Raises StoreBusy where another process is the writer; StoreFull, StoreTooNew, StoreError.
        """
        path = home / FILE
        lock = WriterLock(home / LOCK)
        lock.take()
        try:
            connection = open_database(path, migrations=migrations.LEDGER)
            if max_pages is not None:
                with translated(path):
                    connection.execute(f"PRAGMA max_page_count = {int(max_pages)}")
        except BaseException:
            lock.release()
            raise
        ledger = cls(path, lock, connection, clock, timedelta(days=retention_days), bound)
        try:
            ledger._commits.submit(ledger._find_last_seq, patient=False).result()
            ledger.act("insource", "start", "ledger", f"process {os.getpid()}", patient=False).result()
        except BaseException:
            ledger.close()
            raise
        return ledger

    async def append(self, decision: Decision, content: Content | None = None, *, keep_text: bool = False) -> None:
        """Return once the decision is committed and synced.

        With `content` the row carries its salted digest; with `keep_text` the text itself is kept until it expires.
        Raises StoreFull, StoreError (an identifier used before), Overloaded; then the row is not in the ledger.
        """
        await self._commits.commit(self._rows("decisions", columns.decision_values, decision, content, keep_text))

    def append_now(self, decision: Decision, content: Content | None = None, *, keep_text: bool = False) -> None:
        """Do the same, blocking; for the command line, never on an event loop."""
        rows = self._rows("decisions", columns.decision_values, decision, content, keep_text)
        self._commits.submit(rows, patient=False).result()

    def settle(
        self, settlement: Settlement, content: Content | None = None, *, keep_text: bool = False
    ) -> Future[None]:
        """Queue what became of a decided request; the future is done when it is durable.

        Never refused while the writer lives; while the disk is full it is kept and tried again. `content` carries
        an answer that was not known when the decision was written.
        """
        rows = self._rows("settlements", columns.settlement_values, settlement, content, keep_text)
        return self._commits.submit(rows, patient=True)

    def audit(self, audit: Audit, content: Content | None = None, *, keep_text: bool = False) -> Future[None]:
        """Queue what the audit sample learned; as `settle`."""
        rows = self._rows("audits", columns.audit_values, audit, content, keep_text)
        return self._commits.submit(rows, patient=True)

    def act(
        self, who: str, what: str, subject: str, detail: str | None = None, *, patient: bool = True
    ) -> Future[None]:
        """Queue an administrative act at the clock's time; as `settle`."""
        act = Act(self._clock(), who, what, subject, detail)
        return self._commits.submit((("acts", columns.act_values(act)),), patient=patient)

    async def purge(self, now: datetime) -> int:
        """Erase contents that expired by `now`, record it as an act, and return how many rows went.

        Erased bytes are overwritten in the file, and the write-ahead log is emptied unless a reader is in
        the way; then a later purge does it.
        """
        total, until = 0, columns.micros(now)
        while True:
            erased: int = await self._commits.commit(lambda: self._erase_expired(until))
            total += erased
            if erased < ERASED_AT_ONCE:
                break
        if total:
            await self._commits.commit(
                (("acts", columns.act_values(Act(now, "insource", "purge", "contents", f"{total} expired"))),)
            )
        await self._commits.commit(self._empty_log)
        return total

    @property
    def waiting(self) -> int:
        """How many rows are queued."""
        return self._commits.waiting

    @property
    def lost(self) -> int:
        """How many settlements, audits and acts could not be written, in this process."""
        return self._commits.lost

    def close(self) -> None:
        """Write all that is queued, then give up the writer's role; raise StoreError where rows were lost."""
        if self._closed:
            return
        self._closed = True
        before = self._commits.lost
        self._commits.close()
        self._connection.close()
        self._lock.release()
        if lost := self._commits.lost - before:
            raise StoreError(
                f"{lost} settlements, audits or acts could not be written to {self.path} before it was closed; their "
                "decisions will read as aborted. The log says why."
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _rows(self, table: str, values: Callable[[Any, bytes | None], Values], noun: Any, content: Content | None,
              keep_text: bool) -> Rows:  # fmt: skip
        if content is None:
            return ((table, values(noun, None)),)
        digest, kept = content_rows(content, self._retention, keep_text)
        return ((table, values(noun, digest)), ("contents", kept))

    def _commit(self, jobs: list[Job]) -> None:
        """Run on the writer's thread: all queued rows in one transaction, then the other work one by one."""
        writes = [job for job in jobs if isinstance(job.payload, tuple)]
        if writes:
            self._write(writes)
        for job in jobs:
            if not isinstance(job.payload, tuple):
                try:
                    job.value = job.payload()
                except Exception as error:
                    job.error = error

    def _write(self, jobs: Sequence[Job]) -> None:
        """Commit the jobs' rows together; where one row is refused, halve until only its own job fails."""
        seq = self._seq
        tables: dict[str, list[Values]] = {"decisions": [], "settlements": [], "audits": [], "acts": [], "contents": []}
        for job in jobs:
            for table, values in job.payload:
                seq += table != "contents"  # a content bears the number of the row before it, whose digest it has
                tables[table].append((seq, *values))
        try:
            with transaction(self._connection, self.path):
                for table, rows in tables.items():  # decisions first: the others refer to them
                    insert_rows(self._connection, table, rows)
            self._seq = seq
        except (StoreFull, StoreBusy) as error:
            for job in jobs:
                job.error = again(error)
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].error = error
            else:
                self._write(jobs[: len(jobs) // 2])
                self._write(jobs[len(jobs) // 2 :])

    def _erase_expired(self, now: int) -> int:
        with transaction(self._connection, self.path):
            self._connection.execute(
                "DELETE FROM contents WHERE seq IN (SELECT seq FROM contents WHERE expires <= ? LIMIT ?)",
                (now, ERASED_AT_ONCE),
            )
            return int(self._connection.changes())

    def _empty_log(self) -> None:
        with translated(self.path, self._connection):
            self._connection.set_busy_timeout(0)  # a reader in the way must not hold up the decisions
            try:
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                self._connection.set_busy_timeout(BUSY_MILLISECONDS)

    def _find_last_seq(self) -> None:
        with translated(self.path, self._connection):
            self._seq = self._connection.execute(LAST_SEQ).get
