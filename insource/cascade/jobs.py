"""Jobs in the background: kept until they are done, counted, and waited for at the end.

Their failures reach nobody; it knows nothing of what they do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from insource.errors import InsourceError


class Jobs:
    """What runs in the background of one chooser."""

    def __init__(self) -> None:
        self._running: set[asyncio.Future[Any]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def spawn(self, job: Awaitable[None]) -> None:
        """Run a job; its failure never reaches the reply."""
        self._keep(asyncio.ensure_future(_quietly(job)))

    def begin(self) -> Callable[[], None]:
        """Count something that runs elsewhere until the function returned is called."""
        elsewhere: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._keep(elsewhere)

        def end() -> None:
            if not elsewhere.done():
                elsewhere.set_result(None)

        return end

    async def idle(self) -> None:
        """Wait until none is under way; cancelling the wait cancels them."""
        while self._running:
            await asyncio.gather(*self._running, return_exceptions=True)

    def _keep(self, job: asyncio.Future[Any]) -> None:
        self._running.add(job)
        job.add_done_callback(self._running.discard)


async def _quietly(job: Awaitable[None]) -> None:
    try:
        await job
    except InsourceError:
        return
