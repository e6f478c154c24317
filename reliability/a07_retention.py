"""A7: eleven years of a gateway by an injected clock, with restarts; texts go when their task says, nothing else goes.

Each case is one request of one of many tasks.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from insource.store.ledger import Ledger
from reliability.eleven_years import DAYS, HAIR, TASKS, Years
from reliability.harness import Promise, Tally

WRONG = ("early", "overdue", "day keys left", "rows lost", "documents lost", "proofs broken")
TRIED = ("read before their end", "gone at their end", "opened in a copy", "closed in a copy", "kept to the last day",
         "verified", "restarts")  # fmt: skip


class Early(Ledger):
    """A broken build: it erases a day early."""

    async def purge(self, now: datetime) -> int:
        """Purge as of tomorrow."""
        return await super().purge(now + timedelta(days=1))


class Late(Ledger):
    """Another: it takes "before" for "until", and erases a microsecond late."""

    async def purge(self, now: datetime) -> int:
        """Purge as of just before."""
        return await super().purge(now - HAIR)


async def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Live through eleven years with one request for each case; `broken` does so early, and once more late."""
    tally = Tally()
    for build in (Early, Late) if broken else (Ledger,):
        await Years(tally, cases, folder / build.__name__, build.open).live()
    return tally


def judge(tally: Tally) -> list[str]:
    """Nothing early, nothing overdue, rows, documents and proofs there."""
    counts = tally.counts
    found = [f"{what}: {counts[what]:,} of {counts['requests']:,} requests" for what in WRONG if counts[what]]
    missing = [what for what in TRIED if not counts[what]]
    return found + ([f"not tried: {', '.join(missing)}"] if missing else [])


def seen(tally: Tally) -> str:
    """One line."""
    counts = tally.counts
    wrong = ", ".join(f"{counts[what]:,} {what}" for what in WRONG)
    return (
        f"{counts['requests']:,} requests of {len(TASKS)} tasks in {DAYS // 365} years, {counts['restarts']:,} "
        f"restarts, {counts['purges']:,} purges: {counts['read before their end']:,} texts and digests there a "
        f"microsecond before their end, {counts['gone at their end']:,} gone at it, "
        f"{counts['kept to the last day']:,} not due and there after all; {counts['closed in a copy']:,} sealed texts "
        f"in copies that nobody opens any more; {wrong}; of {counts['read byte by byte']:,} files read at an end "
        f"{counts['sealed bytes in the file']:,} had sealed bytes of it left"
    )


PROMISE = Promise(
    id="A7",
    says="Retention follows the rule",
    asked="default at least 183 days for logs, 10 years for documents; simulated 11 years: 0 early deletions, 0 "
    "overdue payloads, proofs intact",
    unit="requests, spread over eleven years",
    full=DAYS,
    sample=45,
    slow=450,
    control=18,
    chunk=DAYS,
    run=run,
    judge=judge,
    seen=seen,
    open="SQLite leaves some bytes of a row that it moved within a page when it deletes the row: such sealed bytes "
    "outlast the purge, and whoever has the file and content_keys.db can open them until the key of their day is "
    "destroyed, after midnight UTC. Rows, versions and artifacts have no end at all here. Ends are looked at with a "
    "purge at that moment: a served gateway purges at its start and every hour",
)
