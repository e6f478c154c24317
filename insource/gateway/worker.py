"""A worker: one process that serves requests; ledger, limits and its orders are at the other ends of inherited sockets.

It is run by the supervisor and never outlives it: without it no decision can be recorded. What a gateway is made of,
its caller opens.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace

from insource.cascade.cascade import utc_now
from insource.config import Config
from insource.config.given import Given
from insource.errors import InsourceError
from insource.gateway.app import Application, create_app
from insource.gateway.control import Control, Message, new_loop
from insource.gateway.gateway import Gateway
from insource.gateway.limits_leased import Leased
from insource.gateway.limits_shared import LimitsClient
from insource.gateway.logs import configure_logs
from insource.gateway.orphans import ORPHANED, end_with
from insource.gateway.parts import Parts
from insource.gateway.server import Server, make_server
from insource.gateway.tls import open_tls, serve_with
from insource.store.ledger_client import LedgerClient
from insource.store.writer import LedgerWriter

REFUSED = 3
FLUSH_SECONDS = 1.0
FAREWELL_SECONDS = 0.5
GARBAGE = 20_000
"""New objects that may stand at once before the collector looks for circles among them; Python's own is 700."""

_LOG = logging.getLogger(__name__)

Build = Callable[[Config, LedgerWriter], AbstractContextManager[Parts]]
"""Opens what a gateway is made of, and closes it when it is left."""


def run_worker(arguments: Sequence[str], build: Build) -> int:
    """Serve until told to stop; return the exit code. The arguments are those that `Child.spawn` gives."""
    control, ledger, limits, listening, supervisor = (int(argument) for argument in arguments)
    end_with(supervisor)
    for number in (signal.SIGINT, signal.SIGHUP):  # a terminal sends them to every process; the supervisor decides
        signal.signal(number, signal.SIG_IGN)
    worker = _Worker(socket.socket(fileno=ledger), socket.socket(fileno=limits), socket.socket(fileno=listening), build)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(worker.run(socket.socket(fileno=control)))


class _Worker:
    """The process's one job: start, follow orders, drain."""

    def __init__(self, ledger: socket.socket, limits: socket.socket, listening: socket.socket, build: Build) -> None:
        self._ledger = ledger
        self._limits = limits
        self._listening = listening
        self._build = build
        self._tls: ssl.SSLContext | None = None
        self._app: Application | None = None
        self._server: Server | None = None

    async def run(self, connected: socket.socket) -> int:
        """Return the exit code once everything has been served and recorded."""
        control = await Control.open(connected)
        order = await control.receive()
        if order is None or order.given is None:
            return ORPHANED
        try:
            await self._serve(control, order.given)
        except InsourceError as error:
            control.send(Message("refused", code=error.code, message=str(error)))
            return REFUSED
        return 0

    async def _serve(self, control: Control, given: Given) -> None:
        config = given.config()
        configure_logs(config.gateway.log)
        client = await LedgerClient.connect(
            self._ledger, clock=utc_now, retention_days=config.store.retention_days, gone=_orphaned
        )
        lessor = await LimitsClient.connect(self._limits)
        limiter = Leased(lessor)
        with self._build(config, client) as parts:
            self._app = app = create_app(replace(parts, limits=limiter))
            limits = config.gateway
            self._tls = open_tls(limits)
            self._server = server = make_server(
                app,
                limits.drain_s,
                limits.receipt_s,
                lambda: self._ready(control),
                signals=False,
                farewell=FAREWELL_SECONDS,
                tls=self._tls,
            )
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._drain)
            jobs = [asyncio.ensure_future(job) for job in (self._follow(control), self._flush())]
            with suppress(SystemExit):  # uvicorn's word for a start that failed
                await server.serve(sockets=[self._listening])
            for job in jobs:
                job.cancel()
            if not server.started:
                raise app.state.failure or InsourceError("The server did not start; its log says why.")
            await client.close()
            limiter.close()
            lessor.close()

    def _ready(self, control: Control) -> None:
        gc.collect()
        gc.freeze()  # what stands now stays: it need not be looked at again with every collection
        gc.set_threshold(GARBAGE)
        control.send(Message("ready"))

    def _drain(self) -> None:
        """Say that no more is taken, then take no more; what is under way ends within the server's deadline."""
        if self._gateway is not None:
            self._gateway.ready = False
        if self._server is not None:
            self._server.should_exit = True

    @property
    def _gateway(self) -> Gateway | None:
        return self._app.state.gateway if self._app is not None else None

    async def _follow(self, control: Control) -> None:
        """Do what the supervisor says; end at once when it is gone."""
        while (order := await control.receive()) is not None:
            gateway = self._gateway
            if order.kind == "counted" and gateway is not None:
                gateway.metrics.add("insource_config_reloads_total", result=order.message)
            if order.kind != "reload" or order.given is None:
                continue
            try:
                await self._reload(gateway, order.given)
            except InsourceError as error:
                control.send(Message("refused", code=error.code, message=str(error)))
            except Exception as error:
                _LOG.exception("a new configuration was not taken over")
                control.send(Message("refused", message=f"It cannot be taken over ({type(error).__name__})."))
            else:
                control.send(Message("done"))
        _orphaned()

    async def _reload(self, gateway: Gateway | None, given: Given) -> None:
        if gateway is None or self._server is None:
            raise InsourceError("The worker has not started yet, or stops. Reload again in a second.")
        config = given.config()
        fresh = open_tls(config.gateway)  # what does not fit is refused before anything is taken over
        await gateway.reload(config)
        if self._tls is not None and fresh is not None:
            serve_with(self._tls, fresh)
        self._server.set_limits(config.gateway.drain_s, config.gateway.receipt_s)

    async def _flush(self) -> None:
        """Hand the metrics over often enough that any worker can tell them all."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            if self._gateway is not None:
                self._gateway.observe()
                self._gateway.metrics.flush()


def _orphaned() -> None:
    """End at once: a worker whose supervisor is gone can record nothing and must not serve."""
    os._exit(ORPHANED)
