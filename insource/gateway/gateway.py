"""The running gateway: its parts opened in order, watched while it serves, and closed in the other order.

It knows no HTTP; the endpoints hold one and ask it for the stack, the recorder and a permit.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from insource.backends.contract import Backend
from insource.cascade.builder import Active, build_task, upstream_model_of
from insource.cascade.cascade import Cascade, utc_now
from insource.cascade.choice import Chooser
from insource.cascade.coin import Coin, hash_coin
from insource.config import Config, UpstreamConfig
from insource.errors import StoreError
from insource.gateway.metrics import Metrics
from insource.gateway.permits import Permits
from insource.gateway.recorder import Energy, Recorder
from insource.gateway.serving import OpenSpecialist, Serving, Versions
from insource.policy.egress import open_upstreams
from insource.store.ledger import Ledger
from insource.types import SpecialistVersion, Task

POLL_SECONDS = 0.5
PURGE_SECONDS = 3600.0
AUDIT_SECONDS = 2.0
_LOG = logging.getLogger(__name__)


def new_request_id() -> str:
    """Return 48 bits of time in milliseconds and 80 random ones, in hexadecimal, so that ids sort as they come.

    The audit coin is a hash of it, so no caller may choose it.
    """
    return f"{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"


@dataclass(frozen=True, slots=True)
class Parts:
    """What a gateway is made of; the ledger and the registry are open, and stay their opener's to close."""

    config: Config
    ledger: Ledger
    versions: Versions
    open_specialist: OpenSpecialist
    energy: Energy = lambda served_by, seconds: None
    clock: Callable[[], datetime] = utc_now
    new_id: Callable[[], str] = new_request_id
    coin: Coin = field(default_factory=lambda: hash_coin(os.urandom(32)))


class Gateway:
    """A gateway that serves; make one with `open_gateway`."""

    def __init__(self, parts: Parts, upstreams: Mapping[str, Backend]) -> None:
        self.config = parts.config
        self.new_id = parts.new_id
        self.clock = parts.clock
        self.metrics = Metrics()
        self.recorder = Recorder(parts.ledger, self.metrics, parts.clock, parts.energy)
        self.permits = Permits(
            parts.config.gateway.max_concurrency, lambda taken: self.metrics.set("insource_in_flight", taken)
        )
        self.serving = Serving(parts.config.tasks, parts.versions, parts.open_specialist, self._build, self._refused)
        self.ready = False
        self._parts = parts
        self._upstreams = upstreams

    async def watch(self) -> None:
        """Follow the registry, and erase what has outlived its retention, until cancelled."""
        loop = asyncio.get_running_loop()
        purge_at = loop.time()
        while True:
            try:
                if await self.serving.refresh():
                    self.report_versions()
                if loop.time() >= purge_at:
                    purge_at = loop.time() + PURGE_SECONDS
                    await self._parts.ledger.purge(self.clock())
            except StoreError as error:
                _LOG.warning("%s", error)
            except Exception:
                _LOG.exception("following the registry failed; it is tried again")
            await asyncio.sleep(POLL_SECONDS)

    def report_versions(self) -> None:
        """Set the gauge of active versions."""
        for name, stack in self.serving.snapshot.stacks.items():
            self.metrics.set("insource_active_version", stack.version.version if stack.version else 0, task=name)

    def _upstream_of(self, task: Task | None) -> UpstreamConfig | None:
        if task is not None and task.upstream is not None:
            return self.config.upstreams.get(task.upstream)
        return self.config.default_upstream

    def _build(self, task: Task | None, active: Active | None) -> tuple[Chooser, UpstreamConfig | None]:
        upstream = self._upstream_of(task)
        backend = self._upstreams.get(upstream.name) if upstream else None
        if task is None:
            return Cascade(None, upstream=backend, clock=self.clock), upstream
        stack = build_task(
            task,
            active=active,
            upstream=backend,
            upstream_model=upstream_model_of(task, upstream.model if upstream else None),
            record=partial(self.recorder.found, task),
            coin=self._parts.coin,
            clock=self.clock,
        )
        return stack, upstream

    def _refused(self, version: SpecialistVersion, detail: str) -> None:
        self.metrics.add("insource_artifacts_refused_total", task=version.task)
        self._parts.ledger.act("insource", "refuse artifact", version.name, detail)
        _LOG.warning("%s is not served: %s", version.name, detail)


@asynccontextmanager
async def open_gateway(parts: Parts) -> AsyncIterator[Gateway]:
    """Open upstreams and stacks, follow the registry meanwhile, and close: audits under way get 2 s more.

    Raises ConfigError for a missing key, StoreError for an unreadable registry.
    """
    async with AsyncExitStack() as opened:
        upstreams = open_upstreams(parts.config)
        for upstream in upstreams.values():
            await opened.enter_async_context(upstream)
        gateway = Gateway(parts, upstreams)
        await gateway.serving.refresh()
        gateway.report_versions()
        watch = asyncio.ensure_future(gateway.watch())
        gateway.ready = True
        try:
            yield gateway
        finally:
            gateway.ready = False
            watch.cancel()
            await asyncio.wait((watch,))
            with suppress(TimeoutError):
                async with asyncio.timeout(min(AUDIT_SECONDS, parts.config.gateway.drain_s)):
                    await gateway.serving.close()
            gateway.recorder.flush()
