"""One queue before a few threads: requests that arrive together are computed side by side, whoever sent them.

It knows work and items, no text and no engine. Each thread takes the next waiting item as soon as it is free, so no
core waits for the longest text of a batch, and nothing waits for a batch to fill.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An item in the queue, and the future of whoever waits for its result."""

    work: Callable[[Any], Any]
    item: Any
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop

    def compute(self) -> None:
        """Compute on this thread and hand the result over; an item that nobody waits for any more is dropped."""
        if self.future.cancelled():
            return
        result, failure = None, None
        try:
            result = self.work(self.item)
        except BaseException as error:  # whatever it is, it belongs to this item alone, and somebody waits for it
            failure = error
        with suppress(RuntimeError):  # the event loop is closed: nobody waits
            self.loop.call_soon_threadsafe(_hand_over, self.future, result, failure)


class Batcher:
    """Runs work on at most `threads` threads, first come first served, from any event loop.

    Threads start with the first item, stay for the next ones, and end with `close` or with the batcher itself.
    """

    def __init__(self, threads: int, *, name: str = "batcher") -> None:
        self._threads, self._name = threads, name
        self._lock = threading.Lock()
        self._queue: deque[_Waiting] = deque()
        self._busy = 0
        self._pool: ThreadPoolExecutor | None = None

    @property
    def waiting(self) -> int:
        """The number of items that no thread has taken yet."""
        return len(self._queue)

    async def run(self, work: Callable[[_Item], _Result], item: _Item) -> _Result:
        """Return `work(item)`, computed on a thread; raise what it raises.

        One who stops waiting (cancelled, a deadline) before a thread took the item costs no computation.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_Result] = loop.create_future()
        self._put(_Waiting(work, item, future, loop))
        return await future

    def close(self) -> None:
        """Let the threads end once the queue is empty; a later item starts new ones."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False)

    def _put(self, waiting: _Waiting) -> None:
        with self._lock:
            self._queue.append(waiting)
            if self._busy < self._threads:
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix=self._name)
                self._pool.submit(self._empty_queue)
                self._busy += 1

    def _empty_queue(self) -> None:
        """Compute what waits, item by item, until nothing does."""
        while True:
            with self._lock:
                if not self._queue:
                    self._busy -= 1
                    return
                waiting = self._queue.popleft()
            waiting.compute()


def _hand_over(future: asyncio.Future[Any], result: Any, failure: BaseException | None) -> None:
    if future.done():
        return
    if failure is None:
        future.set_result(result)
    elif isinstance(failure, StopIteration):  # which no future can carry
        future.set_exception(RuntimeError(f"work raised {failure!r}"))
    else:
        future.set_exception(failure)
