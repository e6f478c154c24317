"""From the registry into the ledger, each answer and each act once: by the process that writes the ledger, no other.

A delivery that is cut off is taken up again: what the ledger has already is not written twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol

from insource.errors import InsourceError
from insource.store.columns import Act, Feedback
from insource.store.ledger_reader import LedgerReader
from insource.store.outbox import Delivered
from insource.store.registry import Registry

LOG = logging.getLogger("insource.store")
SECONDS = 1.0


class Mailbox(Protocol):
    """Where answers and acts wait; the registry is one."""

    def outgoing_feedback(self) -> tuple[Feedback, ...]:
        """Return those that wait."""
        ...

    def close_feedback(self, feedback: Feedback, state: Delivered) -> None:
        """Record what became of one."""
        ...

    def outgoing_acts(self) -> tuple[tuple[int, Act], ...]:
        """Return the administrative acts that wait, each with its number."""
        ...

    def close_acts(self, number: int) -> None:
        """Record that those up to a number are told."""
        ...


def deliver(mailbox: Mailbox, home: Path, write: Callable[[Feedback], None]) -> int:
    """Write all waiting answers into the ledger of `home` and return how many it has now; blocks.

    `write` is `Ledger.feedback_now`. One whose request the ledger does not know is refused, with a line in the log.
    Raises what `write` raises; then that answer and the later ones wait on.
    """
    delivered = 0
    while waiting := mailbox.outgoing_feedback():
        with LedgerReader(home) as ledger:
            for feedback in waiting:
                if not ledger.knows(feedback.request_id):
                    LOG.error("an answer of %s is for request %s, which the ledger does not know; it is left out",
                              feedback.who, feedback.request_id)  # fmt: skip
                    mailbox.close_feedback(feedback, Delivered.REFUSED)
                    continue
                if feedback not in ledger.feedback(feedback.request_id):
                    write(feedback)
                mailbox.close_feedback(feedback, Delivered.DELIVERED)
                delivered += 1
    return delivered


def deliver_acts(mailbox: Mailbox, home: Path, write: Callable[[Act], None]) -> int:
    """Write all acts of the registry that the ledger of `home` does not have, and return how many; blocks.

    `write` is `Ledger.act_now`. Raises what it raises; then all of the batch wait on, and those that were written are
    found in the ledger the next time. Each change of the registry has every worker read the keys again, so that a batch
    is closed at once.
    """
    delivered = 0
    while waiting := mailbox.outgoing_acts():
        with LedgerReader(home) as ledger:
            told = set(ledger.acts())
        for _, act in waiting:
            if act not in told:
                write(act)
                delivered += 1
        mailbox.close_acts(waiting[-1][0])
    return delivered


async def keep_delivering(
    home: Path,
    write: Callable[[Feedback], None],
    write_act: Callable[[Act], None],
    seconds: float = SECONDS,
) -> None:
    """Deliver what comes into the registry of `home`, until cancelled; for the process that writes the ledger.

    It looks every `seconds`, and at what waits only where the registry has changed. What fails is logged and tried
    again.
    """
    seen = -1
    registry: Registry | None = None
    try:
        while True:
            try:
                if registry is None:
                    registry = await asyncio.to_thread(Registry.open, home)
                changed, mailbox = registry.changed(), registry
                if changed != seen:
                    await _to_its_end(asyncio.to_thread(deliver, mailbox, home, write))
                    await _to_its_end(asyncio.to_thread(deliver_acts, mailbox, home, write_act))
                    seen = changed
            except InsourceError as error:
                LOG.error("people's answers and acts wait to be written to the ledger: %s", error)
            await asyncio.sleep(seconds)
    finally:
        if registry is not None:
            registry.close()


async def _to_its_end(work: Coroutine[Any, Any, int]) -> None:
    """Wait for what a thread does, cancelled or not: registry and ledger stay open until it is done."""
    job = asyncio.ensure_future(work)
    try:
        await asyncio.shield(job)
    except asyncio.CancelledError:
        await asyncio.wait((job,))
        raise
