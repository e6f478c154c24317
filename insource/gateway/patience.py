"""Waiting for a store no longer than it is worth: one that is slow is treated like one that is gone.

It knows the ledger's shape and a breaker; nothing of what is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

from insource.errors import StoreError
from insource.policy.breaker import Breaker
from insource.store.writer import LedgerWriter, Written
from insource.types import Audit, Content, Decision, Settlement

SECONDS = 5.0
FAILURES = 5
REST_SECONDS = 5.0

T = TypeVar("T")


class Patience:
    """Gives each call `seconds`; after five in a row that took longer, refuses at once until one tries again.

    An error that comes in time is no slowness. A call that was given up may still be done later.
    """

    def __init__(self, what: str, seconds: float = SECONDS, breaker: Breaker | None = None) -> None:
        self._what = what
        self._seconds = seconds
        self._breaker = breaker if breaker is not None else Breaker(FAILURES, REST_SECONDS)

    async def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Return what the work returns; raise StoreError where it takes too long or is not tried."""
        ticket = self._breaker.enter()
        if ticket is None:
            raise StoreError(
                f"The {self._what} has been too slow several times in a row and is left alone for a while; one that "
                "answers was expected. Try again in a few seconds; if it lasts, check the disk."
            )
        try:
            async with asyncio.timeout(self._seconds) as limit:
                result = await work()
        except TimeoutError as error:
            if not limit.expired():
                self._breaker.succeeded(ticket)
                raise
            self._breaker.failed(ticket)
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
        self._breaker.succeeded(ticket)
        return result


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
