"""A ledger's writer that prints each request id once its row is acknowledged, until it is killed.

Run by test_kill.py: `append_until_killed.py HOME PREFIX honest|early`. `early` is the broken build: it prints
before the row is durable.
"""

import asyncio
import itertools
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from insource.store.ledger import Ledger
from insource.types import Content, Decision, Outcome, Reason, Settlement


async def append(ledger: Ledger, prefix: str, numbers: "itertools.count[int]", honest: bool) -> None:
    while True:
        request_id = f"{prefix}-{next(numbers)}"
        now = datetime.now(UTC)
        decision = Decision(request_id, now, Outcome.ESCALATED, Reason.BELOW_THRESHOLD, task="triage", version=1)
        content = Content(request_id, now, "triage", "where is my card?")
        if honest:
            await ledger.append(decision, content, keep_text=True)
            ledger.settle(Settlement(request_id, now, 200, "upstream", 0.5))
        else:
            asyncio.get_running_loop().create_task(ledger.append(decision, content))
        os.write(1, f"{request_id}\n".encode())


async def main(home: str, prefix: str, mode: str) -> None:
    ledger = Ledger.open(Path(home), clock=lambda: datetime.now(UTC))
    os.write(1, b"ready\n")
    numbers = itertools.count()
    await asyncio.gather(*[append(ledger, prefix, numbers, mode == "honest") for _ in range(8)])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
