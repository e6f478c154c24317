"""A thread beside the event loop, with an event loop of its own: one job at a time, given up when it takes too long.

It knows jobs and moments, no request. A job that hangs holds this thread and nothing else.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Generic, TypeVar

T = TypeVar("T")
FAREWELL_SECONDS = 1.0


class Aside(Generic[T]):
    """Runs one job after the other; `done` hears of each result on the caller's loop, of None where it came too late.

    `free` says whether the next may be given: not while one runs, be it one that was given up. A job must not raise.
    """

    def __init__(self, name: str, seconds: float) -> None:
        self._name = name
        self._seconds = seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: _Job[T] | None = None

    @property
    def free(self) -> bool:
        """Whether no job runs."""
        return self._running is None

    @property
    def stuck(self) -> bool:
        """Whether the one that runs was given up."""
        return self._running is not None and self._running.late

    def run(self, work: Callable[[], Coroutine[Any, Any, T]], done: Callable[[T | None], None]) -> None:
        """Begin a job and return at once."""
        assert self._running is None, "one job at a time"
        here, there = asyncio.get_running_loop(), self._started()
        job = self._running = _Job(done)
        job.timer = here.call_later(self._seconds, job.give_up)

        def begin() -> None:
            running = there.create_task(work())
            kept.add(running)
            running.add_done_callback(hand_over)

        def hand_over(running: asyncio.Task[T]) -> None:
            kept.discard(running)
            result = None if running.cancelled() or running.exception() is not None else running.result()
            with suppress(RuntimeError):  # the caller's loop is closed: nobody waits
                here.call_soon_threadsafe(self._ended, job, result)

        kept: set[asyncio.Task[T]] = set()
        there.call_soon_threadsafe(begin)

    def close(self) -> None:
        """Let the thread end once its job does; nobody is told of that job any more."""
        if self._running is not None:
            self._running.forget()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._loop = None

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = loop = asyncio.SelectorEventLoop()
            threading.Thread(target=_turn, args=(loop,), name=self._name, daemon=True).start()
        return self._loop

    def _ended(self, job: _Job[T], result: T | None) -> None:
        if self._running is job:
            self._running = None
        job.end(result)


class _Job(Generic[T]):
    """One job: who hears of it, and whether that has happened."""

    def __init__(self, done: Callable[[T | None], None]) -> None:
        self._done: Callable[[T | None], None] | None = done
        self.late = False
        self.timer: asyncio.TimerHandle | None = None

    def end(self, result: T | None) -> None:
        done = self._done
        self.forget()
        if done is not None:
            done(result)

    def give_up(self) -> None:
        self.late = True
        self.end(None)

    def forget(self) -> None:
        self._done = None
        if self.timer is not None:
            self.timer.cancel()


def _turn(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for job in left:
            job.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=FAREWELL_SECONDS))
    finally:
        loop.close()
