"""What whoever records needs of a ledger: the same in the writer's own process and in one that it serves.

It is a shape and knows no implementation; `ledger` and `ledger_client` are the two.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Protocol

from insource.errors import StoreError
from insource.store.columns import Feedback
from insource.types import Audit, Content, Decision, Settlement


class Written(Protocol):
    """The part of a future that says whether a queued row is durable."""

    def done(self) -> bool:
        """Say whether the row is durable, or refused."""
        ...

    def result(self) -> Any:
        """Return None, or raise what kept the row out of the ledger."""
        ...

    def exception(self) -> BaseException | None:
        """Return what kept the row out of the ledger, or None."""
        ...


class LedgerWriter(Protocol):
    """Takes rows and says when they are durable. `content` gives a row its digest; `keep_text` keeps the text."""

    async def append(self, decision: Decision, content: Content | None = None, *, keep_text: bool = False) -> None:
        """Return once the decision is durable; raise StoreError or Overloaded where it is not."""
        ...

    def note(self, decision: Decision, content: Content | None = None, *, keep_text: bool = False) -> None:
        """Queue the decision and return; raise StoreError or Overloaded where it cannot even be queued.

        A row that then fails counts in `lost` and sets `failing`. While that is set, use `append`: it refuses what
        cannot be recorded, and its first success clears `failing`.
        """
        ...

    def settle(self, settlement: Settlement, content: Content | None = None, *, keep_text: bool = False) -> Written:
        """Queue what became of a decided request; kept and tried again while the disk is full."""
        ...

    def audit(self, audit: Audit, content: Content | None = None, *, keep_text: bool = False) -> Written:
        """Queue what the audit sample learned; as `settle`."""
        ...

    def act(self, who: str, what: str, subject: str, detail: str | None = None, *, patient: bool = True) -> Written:
        """Queue an administrative act at the present time; as `settle` where it is patient."""
        ...

    async def feedback(self, feedback: Feedback) -> None:
        """Return once a person's answer is durable; raise StoreError or Overloaded where it is not.

        A request that the ledger does not know is refused (StoreError), as is the same answer again.
        """
        ...

    async def purge(self, now: datetime) -> int:
        """Erase contents that have expired, and return how many."""
        ...

    @property
    def waiting(self) -> int:
        """How many rows are not durable yet."""
        ...

    @property
    def lost(self) -> int:
        """How many rows that nobody awaited could not be written."""
        ...

    @property
    def failing(self) -> StoreError | None:
        """What made the latest noted decision fail; None once a row has been written since."""
        ...
