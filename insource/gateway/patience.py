"""Waiting for a store no longer than it is worth: one that is slow is treated like one that is gone.

It knows the ledger's shape and a breaker; nothing of what is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, TypeVar

from insource.errors import StoreError
from insource.policy.breaker import Breaker
from insource.store.columns import Feedback
from insource.store.writer import LedgerWriter, Written
from insource.types import Audit, Content, Decision, Settlement

SECONDS = 5.0
FAILURES = 5
REST_SECONDS = 5.0

T = TypeVar("T")


class _Wait:
    """One call under way: whose it is, until when, and whether that is over."""

    __slots__ = ("cancelling", "expired", "job", "until")

    def __init__(self, job: asyncio.Task[Any], until: float) -> None:
        self.job = job
        self.cancelling = job.cancelling()
        self.until = until
        self.expired = False


class Patience:
    """Gives each call `seconds`; after five in a row that took longer, refuses at once until one tries again.

    An error that comes in time is no slowness. A call that was given up may still be done later. As all have the same
    time, one timer follows the oldest: `asyncio.timeout` for each would take five times as long.
    """

    def __init__(self, what: str, seconds: float = SECONDS, breaker: Breaker | None = None) -> None:
        self._what = what
        self._seconds = seconds
        self._breaker = breaker if breaker is not None else Breaker(FAILURES, REST_SECONDS)
        self._waits: dict[_Wait, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Return what the work returns; raise StoreError where it takes too long or is not tried."""
        ticket = self._breaker.enter()
        if ticket is None:
            raise StoreError(
                f"The {self._what} has been too slow several times in a row and is left alone for a while; one that "
                "answers was expected. Try again in a few seconds; if it lasts, check the disk."
            )
        wait = self._wait()
        try:
            result = await work()
        except asyncio.CancelledError as error:
            if not wait.expired:
                self._breaker.abandoned(ticket)
                raise
            self._breaker.failed(ticket)
            if wait.job.uncancel() > wait.cancelling:  # whoever waits was cancelled as well
                raise
            raise StoreError(
                f"The {self._what} had not answered after {self._seconds:g} s, so the request was given up. Try "
                "again; if it lasts, check the disk."
            ) from error
        except Exception:
            self._breaker.succeeded(ticket)
            raise
        except BaseException:
            self._breaker.abandoned(ticket)
            raise
        finally:
            self._waits.pop(wait, None)
        self._breaker.succeeded(ticket)
        return result

    def _wait(self) -> _Wait:
        loop, job = asyncio.get_running_loop(), asyncio.current_task()
        assert job is not None, "there is always a job on an event loop"
        wait = _Wait(job, loop.time() + self._seconds)
        self._waits[wait] = None
        if self._timer is None:
            self._timer = loop.call_at(wait.until, self._give_up)
        return wait

    def _give_up(self) -> None:
        """Cancel the calls whose time is over, and see to the oldest of the others."""
        loop, self._timer = asyncio.get_running_loop(), None
        for wait in tuple(self._waits):
            if loop.time() + 0.001 < wait.until:  # uvloop's clock counts milliseconds
                self._timer = loop.call_at(wait.until, self._give_up)
                return
            wait.expired = True
            del self._waits[wait]
            wait.job.cancel()


class TimelyLedger:
    """A ledger whose decisions are durable in time, or refused; all else is queued there as before.

    A decision that was given up may be found in the ledger later: without a settlement, as nothing was sent.
    """

    def __init__(self, ledger: LedgerWriter, patience: Patience | None = None) -> None:
        self._ledger = ledger
        self._patience = patience if patience is not None else Patience("ledger")

    async def append(self, decision: Decision, content: Content | None = None, *, keep_text: bool = False) -> None:
        """Return once the decision is durable; raise StoreError where that takes too long, or as the ledger does."""
        await self._patience.call(lambda: self._ledger.append(decision, content, keep_text=keep_text))

    def note(self, decision: Decision, content: Content | None = None, *, keep_text: bool = False) -> None:
        """As the ledger does."""
        self._ledger.note(decision, content, keep_text=keep_text)

    def settle(self, settlement: Settlement, content: Content | None = None, *, keep_text: bool = False) -> Written:
        """As the ledger does."""
        return self._ledger.settle(settlement, content, keep_text=keep_text)

    def audit(self, audit: Audit, content: Content | None = None, *, keep_text: bool = False) -> Written:
        """As the ledger does."""
        return self._ledger.audit(audit, content, keep_text=keep_text)

    def act(self, who: str, what: str, subject: str, detail: str | None = None, *, patient: bool = True) -> Written:
        """As the ledger does."""
        return self._ledger.act(who, what, subject, detail, patient=patient)

    async def feedback(self, feedback: Feedback) -> None:
        """Return once it is durable; raise StoreError where that takes too long, or as the ledger does."""
        await self._patience.call(lambda: self._ledger.feedback(feedback))

    async def purge(self, now: datetime) -> int:
        """As the ledger does."""
        return await self._ledger.purge(now)

    @property
    def waiting(self) -> int:
        """The ledger's."""
        return self._ledger.waiting

    @property
    def lost(self) -> int:
        """The ledger's."""
        return self._ledger.lost

    @property
    def failing(self) -> StoreError | None:
        """The ledger's."""
        return self._ledger.failing
