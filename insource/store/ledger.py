"""The ledger's writer: decisions and all that follows them, appended durably by one process and one thread.

It does not know why a decision was taken, and it reads nothing back; `ledger_reader` does.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import apsw

from insource.errors import StoreBusy, StoreError, StoreFull
from insource.store import columns, migrations
from insource.store.columns import Act, Feedback, Values
from insource.store.content_keys import FILE as KEYS_FILE
from insource.store.content_keys import ContentKeys
from insource.store.contents import sealed_rows
from insource.store.database import BUSY_MILLISECONDS, open_database, transaction
from insource.store.group_commit import Awaited, GroupCommit, Job, again
from insource.store.insert import COLUMNS, insert_rows
from insource.store.lock import WriterLock
from insource.store.proof.keeper import NOT_SIGNED, NOT_SIGNED_ACT, Keeper
from insource.store.rows import RowMaker
from insource.store.translate import translated
from insource.types import Audit, Content, Decision, Settlement

LOG = logging.getLogger("insource.store")
FILE = "ledger.db"
LOCK = "ledger.lock"
LAST_SEQ = """
SELECT max(coalesce((SELECT max(seq) FROM decisions), 0), coalesce((SELECT max(seq) FROM settlements), 0),
           coalesce((SELECT max(seq) FROM audits), 0), coalesce((SELECT max(seq) FROM acts), 0),
           coalesce((SELECT max(seq) FROM feedback), 0))
"""
ERASED_AT_ONCE = 2_000
ERASE_ACT = "erase"
KEYS_BUSY_MILLISECONDS = 1_000
"""How long decisions may wait for another process that writes the texts' keys."""


class Ledger:
    """The one writer. Use as a context manager, or call `close`, which writes all that is queued."""

    def __init__(self, path: Path, lock: WriterLock, connection: apsw.Connection, keeper: Keeper,
                 keys: ContentKeys, clock: Callable[[], datetime], retention: timedelta,
                 bound: int) -> None:  # fmt: skip
        self.path = path
        self._lock = lock
        self._connection = connection
        self.keeper = keeper
        self._clock = clock
        self._rows = RowMaker(retention)
        self._keys = keys
        self._seq = keeper.frontier.size
        self.failing: StoreError | None = None
        self._commits = GroupCommit(self._commit, bound=bound)
        self._closed = False
        self._noted_lost = 0

    @classmethod
    def open(cls, home: Path, *, clock: Callable[[], datetime], retention_days: int = 30,
             max_pages: int | None = None, bound: int = 10_000, witness: Path | None = None) -> Self:  # fmt: skip
        """Become the writer of the ledger in `home`, and record the start as an act.

        Content is kept for `retention_days`. `bound` is how many decisions may wait before `append` raises
        Overloaded. `max_pages` (of 4 KiB) plays a full disk in tests. `witness` is a file outside the home that
        remembers the last checkpoint.

        Raises StoreBusy where another process is the writer; StoreFull, StoreTooNew, StoreError.
        """
        path = home / FILE
        lock = WriterLock(home / LOCK)
        with ExitStack() as opened:
            lock.take()
            opened.callback(lock.release)
            connection = open_database(path, migrations=migrations.LEDGER)
            opened.callback(connection.close)
            with translated(path, connection):
                if max_pages is not None:
                    connection.execute(f"PRAGMA max_page_count = {int(max_pages)}")
                keeper = Keeper(home, path, connection, connection.execute(LAST_SEQ).get, witness)
                keys = _open_keys(home, connection)
            opened.pop_all()
        ledger = cls(path, lock, connection, keeper, keys, clock, timedelta(days=retention_days), bound)
        try:
            ledger.record("insource", "start", "ledger", f"process {os.getpid()}, {keeper.ready()}")
            keeper.begin(ledger._not_signed)
        except BaseException:
            ledger.close()
            raise
        return ledger

    async def append(self, decision: Decision, content: Content | None = None, *, keep_text: bool = False) -> None:
        """Return once the decision is committed and synced.

        With `content` the row carries its salted digest; with `keep_text` the text itself is kept until it expires.
        Raises StoreFull, StoreError (an identifier used before), Overloaded; then the row is not in the ledger.
        """
        await self._commits.commit(self._rows.decision(decision, content, keep_text))

    def append_now(self, decision: Decision, content: Content | None = None, *, keep_text: bool = False) -> None:
        """Do the same, blocking; for the command line, never on an event loop."""
        self._commits.submit(self._rows.decision(decision, content, keep_text), patient=False).result()

    def note(self, decision: Decision, content: Content | None = None, *, keep_text: bool = False) -> None:
        """Queue the decision and return; see `LedgerWriter.note`. Raises Overloaded, or StoreError once closed."""
        rows = self._rows.decision(decision, content, keep_text)
        self._commits.submit(rows, patient=False).add_done_callback(self._noted)

    def settle(
        self, settlement: Settlement, content: Content | None = None, *, keep_text: bool = False
    ) -> Future[None]:
        """Queue what became of a decided request; the future is done when it is durable.

        Never refused while the writer lives; while the disk is full it is kept and tried again. `content` carries
        an answer that was not known when the decision was written.
        """
        return self._commits.submit(self._rows.settlement(settlement, content, keep_text), patient=True)

    def audit(self, audit: Audit, content: Content | None = None, *, keep_text: bool = False) -> Future[None]:
        """Queue what the audit sample learned; as `settle`."""
        return self._commits.submit(self._rows.audit(audit, content, keep_text), patient=True)

    def act(
        self, who: str, what: str, subject: str, detail: str | None = None, *, patient: bool = True
    ) -> Future[None]:
        """Queue an administrative act at the clock's time; as `settle`."""
        act = Act(self._clock(), who, what, subject, detail)
        return self._commits.submit(self._rows.act(act), patient=patient)

    def act_now(self, act: Act) -> None:
        """Return once an act of another time is committed and synced; blocks. For `delivery`.

        With one of erasing, the sealed texts whose keys it destroyed leave the file as well.
        """
        self._commits.submit(self._rows.act(act), patient=False).result()
        if act.what == ERASE_ACT:
            self._commits.submit(self._drop_erased, patient=False).result()
            self._commits.submit(self._empty_log, patient=False).result()

    async def feedback(self, feedback: Feedback) -> None:
        """Return once a person's answer is committed and synced; raises as `append`, StoreError for an unknown id."""
        await self._commits.commit(self._rows.feedback(feedback))

    def feedback_now(self, feedback: Feedback) -> None:
        """Do the same, blocking; for the command line and other threads, never on an event loop."""
        self._commits.submit(self._rows.feedback(feedback), patient=False).result()

    def put(self, jobs: Sequence[Job]) -> None:
        """Queue jobs whose payload is rows, of one event loop and on its thread; for the `LedgerServer`."""
        self._commits.put(jobs)

    def now(self) -> datetime:
        """Return the clock's time."""
        return self._clock()

    async def purge(self, now: datetime) -> int:
        """Erase contents that expired by `now` or whose subject was erased, record it, and return how many rows went.

        The keys of days that are over are destroyed. Erased rows are overwritten in the file, and the write-ahead log
        is emptied unless a reader is in the way; then a later purge does it.
        """
        total, until = 0, columns.micros(now)
        while True:
            erased: int = await self._commits.commit(lambda: self._erase_expired(until))
            total += erased
            if erased < ERASED_AT_ONCE:
                break
        if total:
            detail = f"{total} expired, or of subjects that were erased"
            await self._commits.commit(self._rows.act(Act(now, "insource", "purge", "contents", detail)))
        await self._commits.commit(lambda: self._keys.expire(now))
        await self._commits.commit(self._empty_log)
        return total

    @property
    def waiting(self) -> int:
        """How many rows are queued."""
        return self._commits.waiting

    @property
    def lost(self) -> int:
        """How many settlements, audits, acts and noted decisions could not be written, in this process."""
        return self._commits.lost + self._noted_lost

    def close(self) -> None:
        """Write all that is queued, then give up the writer's role; raise StoreError where rows were lost."""
        if self._closed:
            return
        self._closed = True
        before = self.lost
        with translated(self.path), ExitStack() as closing:  # what fails must keep nothing else open
            for close in (self._lock.release, self._keys.close, self._connection.close, self.keeper.close):
                closing.callback(close)
            self._commits.close()
        if lost := self.lost - before:
            raise StoreError(
                f"{lost} rows (settlements, audits, acts or noted decisions) could not be written to {self.path} "
                "before it was closed; decisions without a settlement will read as aborted. The log says why."
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def record(self, who: str, what: str, subject: str, detail: str | None) -> None:
        """Return once an act of now is committed and synced; blocks. For the command line."""
        self.act_now(Act(self._clock(), who, what, subject, detail))

    def _not_signed(self, why: str) -> None:
        """Record, on the publisher's thread, why nothing is signed any more: later starts go by it."""
        rows = self._rows.act(Act(self._clock(), "insource", NOT_SIGNED_ACT, "proof", f"{NOT_SIGNED}{why}"))
        try:
            self._commits.submit(rows, patient=True)
        except StoreError:  # the last commit was made; `close` waits for this before it closes the file
            self._write([Awaited(rows, True, None)])

    def _noted(self, future: Future[None]) -> None:
        """Run on the writer's thread when a noted decision is durable or lost."""
        error = future.exception()
        if error is not None:
            self._noted_lost += 1
            self.failing = error if isinstance(error, StoreError) else StoreError(f"{type(error).__name__}: {error}")
            LOG.error("a decision was not written to the ledger: %s", error)

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
        tables: dict[str, list[Values]] = {table: [] for table in COLUMNS}
        order: list[tuple[str, Values]] = []
        for job in jobs:
            for table, values in job.payload:
                if table != "contents":  # a content bears the number of the row before it, whose digest it has
                    seq += 1
                    order.append((table, (seq, *values)))
                tables[table].append((seq, *values))
        try:
            tables["contents"] = self._sealed(tables["contents"])
        except StoreError as error:
            self._without_texts(jobs, error)
            return
        try:
            frontier, hashes = self.keeper.grown(order)
            with transaction(self._connection, self.path):
                for table, rows in tables.items():  # decisions first: the others refer to them
                    insert_rows(self._connection, table, rows)
                self.keeper.write_head(frontier)
            self.keeper.committed(frontier, hashes)
            self._seq = seq
            self.failing = None
        except (StoreFull, StoreBusy) as error:
            for job in jobs:
                job.error = again(error)
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].error = error
            else:
                self._write(jobs[: len(jobs) // 2])
                self._write(jobs[len(jobs) // 2 :])

    def _sealed(self, contents: list[Values]) -> list[Values]:
        if not contents:
            return contents
        self._keys.look()
        return sealed_rows(self._keys, contents)

    def _without_texts(self, jobs: Sequence[Job], error: StoreError) -> None:
        """Write what can be where the texts' keys fail: a decision is refused, as its text could not be kept.

        What follows a decision waits while that may pass, and is else written without its text: the row is worth more.
        """
        passes, rest = isinstance(error, StoreFull | StoreBusy), []
        for job in jobs:
            rows = tuple(row for row in job.payload if row[0] != "contents")
            if len(rows) < len(job.payload) and (passes or not job.patient):
                job.error = again(error)
                continue
            if len(rows) < len(job.payload):
                LOG.error("the text of a settlement or an audit is not kept: %s", error)
                job.payload = rows
            rest.append(job)
        if rest:
            self._write(rest)

    def _erase_expired(self, now: int) -> int:
        with transaction(self._connection, self.path):
            self._connection.execute(
                "DELETE FROM contents WHERE seq IN (SELECT seq FROM contents WHERE expires <= ? LIMIT ?)",
                (now, ERASED_AT_ONCE),
            )
            erased = int(self._connection.changes())
        return erased + (self._drop_erased() if erased < ERASED_AT_ONCE else 0)

    def _drop_erased(self) -> int:
        """Delete the sealed texts of subjects whose keys were destroyed, and return how many there were."""
        gone = 0
        with transaction(self._connection, self.path):
            for subject in self._keys.erased():
                self._connection.execute("DELETE FROM contents WHERE subject = ?", (subject,))
                gone += int(self._connection.changes())
        return gone

    def _empty_log(self) -> None:
        with translated(self.path, self._connection):
            self._connection.set_busy_timeout(0)  # a reader in the way must not hold up the decisions
            try:
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                self._connection.set_busy_timeout(BUSY_MILLISECONDS)


def _open_keys(home: Path, connection: apsw.Connection) -> ContentKeys:
    """Open the texts' keys; say what it means where their file is gone, or cannot be read."""
    path = home / KEYS_FILE
    if not path.exists() and (kept := connection.execute("SELECT count(*) FROM contents").get):
        LOG.warning("%s is not there: %s texts or digests of the ledger cannot be opened any more, nor is it known who "
                    "was erased. Put it back now, if there is a copy.", path, kept)  # fmt: skip
    try:
        return ContentKeys.open(home, busy_milliseconds=KEYS_BUSY_MILLISECONDS)
    except StoreFull:
        raise
    except StoreError as error:
        raise type(error)(
            f"The keys of the texts cannot be read: {error} To go on without the texts kept so far, move {path} aside."
        ) from error
