"""A gateway on loopback before upstreams that are handed in, and what it still holds when nobody asks it any more.

It serves from a thread with its own ledger and registry in one folder, straight up: no specialist. It knows no fault.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from insource.cascade.cascade import utc_now
from insource.config import Config, GatewayConfig, PolicyConfig, StoreConfig, UpstreamConfig
from insource.gateway.app import Application, create_app
from insource.gateway.parts import Parts
from insource.gateway.server import ServerThread
from insource.store.ledger import Ledger
from insource.store.registry import Registry
from insource.types import SpecialistVersion, Task

Weights = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Standing:
    """A gateway that serves: its port, and what it holds."""

    port: int
    app: _Watched

    def held(self) -> tuple[int, int]:
        """Return how many requests are being served, and how many jobs are on its event loop."""
        gateway = self.app.inner.state.gateway
        return gateway.permits.taken if gateway is not None else 0, self.app.jobs()


class _Watched:
    """The application, with the event loop that it runs on."""

    def __init__(self, inner: Application) -> None:
        self.inner = inner
        self.state = inner.state
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._loop = asyncio.get_running_loop()
        await self.inner(scope, receive, send)

    def jobs(self) -> int:
        """Count them."""
        return len(asyncio.all_tasks(self._loop)) if self._loop is not None else 0


@asynccontextmanager
async def standing(
    home: Path,
    upstreams: Iterable[UpstreamConfig],
    default: Weights,
    *,
    tasks: Iterable[Task] = (),
    policy: PolicyConfig | None = None,
    retry_budget: float = 0.2,
    broken: Callable[[ASGIApp], ASGIApp] = lambda app: app,
) -> AsyncIterator[Standing]:
    """Serve meanwhile; `default` are the upstreams of what belongs to no task, `broken` puts something in front."""
    home.mkdir(parents=True, exist_ok=True)
    gateway = GatewayConfig("127.0.0.1", 0, 10_000, 1, 1.0, 15.0, default, retry_budget=retry_budget)
    config = Config(
        gateway,
        StoreConfig(home, 30),
        {upstream.name: upstream for upstream in upstreams},
        {task.name: task for task in tasks},
        policy or PolicyConfig(),
    )
    with _quiet(), Registry.open(home) as registry, Ledger.open(home, clock=utc_now) as ledger:
        app = _Watched(create_app(Parts(config, ledger, registry, _no_specialist)))
        server = ServerThread(broken(app), drain=1)
        await asyncio.to_thread(server.__enter__)
        try:
            yield Standing(int(server.url.rpartition(":")[2]), app)
        finally:
            await asyncio.to_thread(server.__exit__, None, None, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the server from logging every reply that is rightly broken off."""
    log, keep_out = logging.getLogger("uvicorn.error"), logging.Filter("nothing is called so")
    log.addFilter(keep_out)
    try:
        yield
    finally:
        log.removeFilter(keep_out)


def _no_specialist(version: SpecialistVersion, upstream: Any = None) -> Any:
    raise LookupError(version.name)
