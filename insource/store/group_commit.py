"""One thread that commits whatever has queued up meanwhile, and tells each caller when its own part is durable.

It knows threads, queues and futures; it does not know SQLite. What a commit is, it is given. No artificial delay:
a lone job is committed at once, and jobs that come during a commit share the next one.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any

from insource.errors import InsourceError, Overloaded, StoreError

LOG = logging.getLogger("insource.store")


class Job(ABC):
    """One caller's part of a commit; `commit` sets `value` or `error`.

    A `patient` job is kept and tried again while its error is one that passes (a full disk); others fail at once.
    """

    __slots__ = ("error", "loop", "patient", "payload", "value")

    def __init__(self, payload: Any, patient: bool, loop: asyncio.AbstractEventLoop | None) -> None:
        self.payload = payload
        self.patient = patient
        self.loop = loop
        self.value: Any = None
        self.error: Exception | None = None

    @abstractmethod
    def resolve(self) -> None:
        """Hand value or error to whoever waits; called on the event loop's own thread where there is one."""


class Awaited(Job):
    """A job with a future."""

    __slots__ = ("future",)

    def __init__(self, payload: Any, patient: bool, loop: asyncio.AbstractEventLoop | None) -> None:
        super().__init__(payload, patient, loop)
        self.future: Any = _future() if loop is None else loop.create_future()

    def resolve(self) -> None:
        """Resolve the future."""
        if self.future.done():  # cancelled: nobody waits any more
            return
        if self.error is None:
            self.future.set_result(self.value)
        else:
            self.future.set_exception(self.error)


class GroupCommit:
    """A queue, a thread, and `commit(jobs)`, which runs on that thread and never overlaps itself.

    `commit` reports a failure of some jobs in their `error`. If it raises, the thread ends and every waiting and
    later caller gets a StoreError: nobody is left hanging. `name` says in messages what is written.
    """

    def __init__(
        self,
        commit: Callable[[list[Job]], None],
        *,
        name: str = "ledger",
        bound: int = 10_000,
        largest_batch: int = 256,
        retry_seconds: float = 1.0,
    ) -> None:
        self.lost = 0
        self._name = name
        self._commit = commit
        self._bound = bound
        self._largest_batch = largest_batch
        self._retry_seconds = retry_seconds
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._held: list[Job] = []
        self._stopped: StoreError | None = None
        self._ending = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"insource-{name}", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many jobs wait for their first commit or for a further try."""
        return self._queue.qsize() + len(self._held)

    async def commit(self, payload: Any) -> Any:
        """Return once `payload` is durable; raise its own error, or Overloaded where too many wait already."""
        self._admit()
        job = Awaited(payload, False, asyncio.get_running_loop())
        self._put((job,))
        return await job.future

    def submit(self, payload: Any, *, patient: bool) -> Future[Any]:
        """Queue `payload` and return a future; patient jobs belong to work already admitted and are never refused."""
        if not patient:
            self._admit()
        job = Awaited(payload, patient, None)
        self._put((job,))
        future: Future[Any] = job.future
        return future

    def put(self, jobs: Sequence[Job]) -> None:
        """Queue the jobs of one event loop, on its thread; those that cannot be taken are resolved with their error."""
        taken, refused = list(jobs), []
        error: InsourceError
        try:
            self._admit()
        except Overloaded as full:
            taken, refused, error = [job for job in jobs if job.patient], [job for job in jobs if not job.patient], full
        try:
            self._put(taken)
        except StoreError as stopped:
            refused, error = list(jobs), stopped
        for job in refused:
            job.error = error
            job.resolve()

    def close(self) -> None:
        """Commit all that was queued, with one last try for what was held back, then end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _admit(self) -> None:
        if self.waiting >= self._bound:
            raise Overloaded(
                f"{self.waiting} rows wait to be written to the {self._name}; at most {self._bound} may. "
                "Try again in a second; if it lasts, the disk is too slow or full."
            )

    def _put(self, jobs: Sequence[Job]) -> None:
        with self._ending:  # so that nothing is queued once nobody will look at the queue again
            if self._stopped is not None:
                raise again(self._stopped)
            for job in jobs:
                self._queue.put(job)

    def _run(self) -> None:
        batch: list[Job] = []
        try:
            going = True
            while going:
                batch, going = self._next_batch()
                if batch:
                    self._commit(batch)
                    batch = self._settle(batch, last=not going)
            self._stop(StoreError(f"The {self._name} is closed; open it again to write."), batch)
        except BaseException as error:
            LOG.exception("the %s's writer ended", self._name)
            stop = StoreError(
                f"The {self._name}'s writer ended ({type(error).__name__}: {error}). Nothing further can be written to "
                "it. Restart the gateway and report this."
            )
            stop.__cause__ = error
            self._stop(stop, batch)

    def _next_batch(self) -> tuple[list[Job], bool]:
        """Return held jobs and queued ones in their order, and whether to go on afterwards."""
        queued, going = self._take_queued()
        held, self._held = self._held, []
        return held + queued, going

    def _take_queued(self) -> tuple[list[Job], bool]:
        jobs: list[Job] = []
        try:
            job = self._queue.get(timeout=self._retry_seconds if self._held else None)
            while job is not None:
                jobs.append(job)
                if len(jobs) == self._largest_batch:
                    return jobs, True
                job = self._queue.get_nowait()
        except Empty:
            return jobs, True
        return jobs, False

    def _settle(self, batch: list[Job], *, last: bool) -> list[Job]:
        """Hold back what may succeed later, resolve the rest; one wake-up for each event loop."""
        by_loop: dict[asyncio.AbstractEventLoop, list[Job]] = {}
        for job in batch:
            if job.error is not None and job.patient:
                if not last and isinstance(job.error, InsourceError) and job.error.retryable:
                    job.error = None
                    self._held.append(job)
                    continue
                self.lost += 1
                LOG.error("a row was not written to the %s: %s", self._name, job.error)
            if job.loop is None:
                job.resolve()
            else:
                by_loop.setdefault(job.loop, []).append(job)
        for loop, jobs in by_loop.items():
            _wake(loop, jobs)
        return []

    def _stop(self, reason: StoreError, batch: list[Job]) -> None:
        with self._ending:
            self._stopped = reason
        jobs, self._held = batch + self._held, []
        while not self._queue.empty():
            job = self._queue.get_nowait()
            if job is not None:
                jobs.append(job)
        for job in jobs:
            job.error = job.error or again(reason)
        self._settle(jobs, last=True)


def again(error: StoreError) -> StoreError:
    """Return a fresh copy caused by `error`, so that callers who share a failure do not share a traceback."""
    copy = type(error)(*error.args)
    copy.__cause__ = error
    return copy


def _future() -> Future[Any]:
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()  # what is queued will be written: cancelling it is refused
    return future


def _wake(loop: asyncio.AbstractEventLoop, jobs: list[Job]) -> None:
    try:
        loop.call_soon_threadsafe(_resolve_all, jobs)
    except RuntimeError:  # the loop is closed: nobody waits any more
        LOG.debug("%d callers left before their rows were durable", len(jobs))


def _resolve_all(jobs: list[Job]) -> None:
    for job in jobs:
        job.resolve()
