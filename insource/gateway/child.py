"""One worker process as its supervisor sees it: started with its sockets, told its configuration, ended.

It knows processes and the control socket; when to start, restart or reload is the supervisor's business.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Self

from insource.config.given import Given
from insource.errors import InsourceError
from insource.gateway.control import Control, Message, error_told

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Numerical libraries keep to one thread: requests side by side use the cores, spinning threads would take them."""


class Child:
    """One worker process; make it with `spawn`."""

    def __init__(self, process: asyncio.subprocess.Process, control: Control, ledger: socket.socket,
                 limits: socket.socket) -> None:  # fmt: skip
        self.process = process
        self.ledger = ledger
        self.limits = limits
        self.given: Given | None = None
        self.started = asyncio.get_running_loop().time()
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ready.add_done_callback(lambda future: future.exception())  # looked at: `ended` tells it, too
        self._control = control
        self._replies: asyncio.Queue[Message | None] = asyncio.Queue()
        self._asking = asyncio.Lock()
        self._listening = asyncio.ensure_future(self._listen())

    @classmethod
    async def spawn(cls, command: Sequence[str], listening: socket.socket, environment: Mapping[str, str]) -> Self:
        """Start `command` with five arguments more: the numbers of its four sockets, and this process's id.

        The sockets are control, ledger, limits and listening; it inherits no other file but the standard ones.
        """
        control, for_control = socket.socketpair()
        ledger, for_ledger = socket.socketpair()
        limits, for_limits = socket.socketpair()
        with for_control, for_ledger, for_limits:
            numbers = (for_control.fileno(), for_ledger.fileno(), for_limits.fileno(), listening.fileno())
            process = await asyncio.create_subprocess_exec(
                *command,
                *map(str, (*numbers, os.getpid())),
                pass_fds=numbers,
                stdin=asyncio.subprocess.DEVNULL,
                env={**environment, **ONE_THREAD},
            )
        return cls(process, await Control.open(control), ledger, limits)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether it can still be told anything."""
        return not self._listening.done()

    def start(self, given: Given) -> None:
        """Tell it to serve under a configuration; `ready` says when it does, or why it does not."""
        self.given = given
        self._control.send(Message("start", given))

    async def reload(self, given: Given) -> None:
        """Have it serve under another configuration; raise what it refuses it for. One that has ended counts as done.

        It is started again under the newest configuration anyway.
        """
        with suppress(InsourceError):
            await self.ready
        async with self._asking:
            if not self.alive:
                return
            self._control.send(Message("reload", given))
            reply = await self._replies.get()
        if reply is not None and reply.kind == "refused":
            raise error_told(reply)
        self.given = given

    def count(self, result: str) -> None:
        """Have it count a reload with this result in the metrics."""
        self._control.send(Message("counted", message=result))

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens where the process has ended."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def ended(self) -> int:
        """Return its exit code once it has ended, minus the signal's number where a signal ended it."""
        code = await self.process.wait()
        await self._listening
        self._control.close()
        return code

    async def _listen(self) -> None:
        while (message := await self._control.receive()) is not None:
            if message.kind == "ready":
                self.ready.set_result(None)
            elif message.kind == "refused" and not self.ready.done():
                self.ready.set_exception(error_told(message))
            else:
                self._replies.put_nowait(message)
        self._replies.put_nowait(None)
        if not self.ready.done():
            self.ready.set_exception(InsourceError("A worker ended before it served; its log says why."))
