"""What a reply cost and what an accepted answer saved, from tokens and prices; unknown is None, never zero.

It knows no upstream and no ledger. Amounts are in the upstream's currency.
"""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal

from insource.config import UpstreamConfig
from insource.types import Usage

MILLION = Decimal(1_000_000)
PLACES = Decimal("1E-12")


def cost_of(usage: Usage | None, upstream: UpstreamConfig | None) -> Decimal | None:
    """Return tokens times prices per million; None where the tokens or a price are unknown."""
    if usage is None or upstream is None or upstream.price_in is None or upstream.price_out is None:
        return None
    return (usage.prompt_tokens * upstream.price_in + usage.completion_tokens * upstream.price_out) / MILLION


class MeanCost:
    """The running mean of what a task's requests cost upstream: the estimate of what an accepted one saved.

    Per task and per process: after a start it is unknown until the first request of the task went up.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Decimal] = defaultdict(Decimal)
        self._counts: dict[str, int] = defaultdict(int)

    def learn(self, task: str, cost: Decimal | None) -> None:
        """Take the cost of one reply; an unknown one teaches nothing."""
        if cost is not None:
            self._sums[task] += cost
            self._counts[task] += 1

    def of(self, task: str) -> Decimal | None:
        """Return the mean so far to twelve places, or None."""
        count = self._counts.get(task)
        return (self._sums[task] / count).quantize(PLACES) if count else None
