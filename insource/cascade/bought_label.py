"""Labels bought: which accepted requests are worth a reference, so many a day, and the door to reserve each.

It knows decisions and a clock; neither who asks the upstream nor where is counted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime

from insource.cascade.choice import Choice
from insource.cascade.pacing import DayPacer
from insource.types import Outcome, Reason

LOG = logging.getLogger(__name__)
Reserve = Callable[[int, datetime], int | None]
"""Takes one of the `limit` labels of the day (UTC) of a time, durably, before anybody is asked.

Returns how many are taken by then, None where all were; called in threads.
"""


class BoughtLabels:
    """Picks the accepted requests whose scores lie nearest the threshold, and reserves a label for each.

    How they are spread over the day is `DayPacer`'s; that no more than `limit` are bought is `reserve`'s.
    """

    def __init__(self, limit: int, reserve: Reserve, *, workers: int = 1) -> None:
        self._limit = limit
        self._reserve = reserve
        self._pacer = DayPacer(limit, workers)
        self._turn = asyncio.Lock()

    def picks(self, choice: Choice) -> bool:
        """Say whether a label is to be bought for a request; not for one that is audited, or that a tier accepted."""
        decision = choice.decision
        if decision.audited or decision.outcome is not Outcome.ACCEPTED or decision.tier is not None:
            return False
        score, threshold = decision.score, decision.threshold
        if decision.reason is not Reason.ABOVE_THRESHOLD or score is None or threshold is None:
            return False
        return self._pacer(score - threshold, decision.time)

    async def reserve(self, now: datetime) -> bool:
        """Take one label of today's, and say whether there was one; where that cannot be written there was none."""
        try:
            async with self._turn:  # a store that is slow holds one thread, not all
                taken = await asyncio.to_thread(self._reserve, self._limit, now)
        except Exception as error:
            LOG.warning("no label was bought: the budget cannot be counted (%s)", type(error).__name__)
            return False
        self._pacer.told(0 if taken is None else self._limit - taken, now)
        return taken is not None
