"""A companion: one further process beside the gateway, kept running, which serves nothing and delays nothing.

It is a command and its end; what the command does is its caller's business. Its failures are told, and never the
gateway's.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal

from insource.gateway.child import ONE_THREAD

GRACE_SECONDS = 2.0
_LOG = logging.getLogger(__name__)

Ended = Callable[[int, str], None]
"""Hears of a companion that ended unasked: its process id, and how."""


class Companion:
    """Runs `command`, called `name`, with this process's id put behind it, again and again until `stop` is set.

    One that dies is started again after `after(quick deaths in a row)` seconds; it died quickly where it ran for less
    than `steady` seconds.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        name: str,
        stop: asyncio.Event,
        after: Callable[[int], float],
        steady: float,
        ended: Ended,
    ) -> None:
        self._command, self._environment, self._name = command, environment, name
        self._stop, self._after, self._steady, self._ended = stop, after, steady, ended
        self._process: asyncio.subprocess.Process | None = None
        self._asked = False

    async def run(self) -> None:
        """Keep it running until told to stop, then end it, within GRACE_SECONDS. Without a command, return at once."""
        if not self._command:
            return
        quick_deaths, loop = 0, asyncio.get_running_loop()
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            while not self._stop.is_set():
                started, self._asked = loop.time(), False
                how = await self._once(stopped)
                if self._stop.is_set() or self._asked:
                    continue
                quick_deaths = quick_deaths + 1 if loop.time() - started < self._steady else 0
                _LOG.error("the %s ended: %s; it is started again", self._name, how)
                with suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(stopped), self._after(quick_deaths))
        finally:
            stopped.cancel()
            await self._end()

    def again(self) -> None:
        """Have it start anew, as under another configuration."""
        self._asked = True
        self._signal(signal.SIGTERM)

    async def _once(self, stopped: asyncio.Future[Literal[True]]) -> str:
        """Start it and wait for its end, or for the order to stop; return how it ended."""
        try:
            self._process = process = await asyncio.create_subprocess_exec(
                *self._command,
                str(os.getpid()),
                stdin=asyncio.subprocess.DEVNULL,
                env={**self._environment, **ONE_THREAD},
            )
        except OSError as error:
            self._ended(0, f"not started: {error.strerror or error}")
            return f"it cannot be started ({error.strerror or error})"
        over = asyncio.ensure_future(process.wait())
        either: set[asyncio.Future[Any]] = {over, stopped}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not over.done():
            over.cancel()
            return "told to stop"
        code = over.result()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        if not self._asked:
            self._ended(process.pid, how)
        return how

    async def _end(self) -> None:
        self._signal(signal.SIGTERM)
        if self._process is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), GRACE_SECONDS)
            self._signal(signal.SIGKILL)
            await self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)
