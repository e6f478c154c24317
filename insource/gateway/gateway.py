"""The running gateway: its generation opened, watched while it serves, reloaded, and closed.

It knows no HTTP; the endpoints hold one and ask it for the generation, the recorder and a permit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

from insource.cascade.choice import Choice
from insource.config import Config
from insource.config.amounts import parse_rate
from insource.config.digest import config_digest
from insource.errors import StoreError
from insource.gateway.generation import Generation
from insource.gateway.keyring import Keyring
from insource.gateway.limits import Limiter, LimitKeeper
from insource.gateway.listening import is_loopback
from insource.gateway.metrics import Metrics
from insource.gateway.parts import Parts, Registry
from insource.gateway.patience import Patience, TimelyLedger
from insource.gateway.permits import Permits
from insource.gateway.pricing import claims
from insource.gateway.recorder import Recorder
from insource.gateway.serving import Hears
from insource.gateway.taken import Taken
from insource.gateway.tasks import told_task
from insource.types import Decision, Key, Limits, Outcome, Request, Sensitivity, SpecialistVersion, Task

POLL_SECONDS = 0.5
PURGE_SECONDS = 3600.0
NO_LIMITS = Limits()
AUDIT_SECONDS = 1.0  # with the deadline before it, still within what the supervisor waits
_LOG = logging.getLogger(__name__)


class Gateway:
    """A gateway that serves; make one with `open_gateway`."""

    def __init__(self, parts: Parts) -> None:
        self.metrics = Metrics()
        self.new_id = parts.new_id
        self.clock = parts.clock
        self.spans = parts.spans
        self.recorder = Recorder(TimelyLedger(parts.ledger), self.metrics, parts)
        self.permits = Permits(
            parts.config.gateway.max_concurrency, lambda taken: self.metrics.set("insource_in_flight", taken)
        )
        self._hears = Hears(self._refused, self._opened, self.report_versions)
        self.generation = Generation(parts.config, parts, self.recorder, self._hears)
        self.ready = False
        self._parts = parts
        self.registry = Patience("registry")
        self.keys = Keyring(parts.versions, parts.clock, loopback=is_loopback(parts.config.gateway.host))
        self._own_limits = LimitKeeper(parts.config.home, parts.clock) if parts.limits is None else None
        self._limits: Limiter = self._own_limits.session() if self._own_limits else parts.limits  # type: ignore[assignment]
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def versions(self) -> Registry:
        """The registry; called in threads."""
        return self._parts.versions

    @property
    def config(self) -> Config:
        """The configuration that new requests are served under."""
        return self.generation.config

    async def reload(self, config: Config) -> None:
        """Serve new requests under another configuration; requests under way end under the old one.

        Raises InsourceError where the new one cannot be opened; then nothing has changed.
        """
        fresh = Generation(config, self._parts, self.recorder, self._hears)
        await fresh.open()
        before, self.generation = self.generation, fresh
        self.permits.limit = config.gateway.max_concurrency
        self.metrics.set("insource_config_info", 0, digest=config_digest(before.config))
        self.report()
        job = asyncio.ensure_future(before.close())
        self._closing.add(job)
        job.add_done_callback(self._closing.discard)

    @asynccontextmanager
    async def admitted(self, key: Key | None) -> AsyncIterator[None]:
        """Hold a permit of the key for one request; raise RateReached or ConcurrencyReached."""
        limits, defaults = key.limits if key is not None else NO_LIMITS, self.config.gateway
        rate = limits.rate or (parse_rate(defaults.key_rate) if defaults.key_rate is not None else None)
        concurrency = limits.concurrency or defaults.key_concurrency
        if key is None or (rate is None and concurrency is None):
            yield
            return
        permitted = await self._limits.admit(key.id, rate, concurrency)
        try:
            yield
        finally:
            if permitted:  # there may have been no bound yet
                self._limits.release(key.id)

    async def reserve(self, config: Config, request: Request, task: Task | None, choice: Choice) -> Taken | None:
        """Reserve what an escalated request may take of its key's budgets; raise BudgetReached or CostUnknown.

        `config` is the one that the request is served under, which may be the one before a reload.
        """
        key = request.key
        if key is None or choice.decision.outcome is not Outcome.ESCALATED:
            return None
        rated = request.sensitivity or Sensitivity.RESTRICTED
        upstreams = [config.upstreams[name] for name, _ in config.upstreams_of(task) if key.may_send(name, rated)]
        wanted = claims(request, key, upstreams)
        return Taken(self._limits, await self._limits.reserve(key.id, wanted)) if wanted else None

    async def review(self, request_id: str, key: Key | None = None) -> dict[str, object] | None:
        """Return id, state and answer of a request that was kept for review; None where none was, or not for a key."""
        found = await self.registry.call(lambda: asyncio.to_thread(self._parts.versions.review, request_id))
        if found is not None and key is not None and not key.may_ask(found.task):
            return None
        return None if found is None else {"id": found.request_id, "state": found.state, "answer": found.answer}

    async def queue_review(
        self, request: Request, task: str, text: str, suggestion: str | None, score: float | None
    ) -> None:
        """Queue a request for a person; raise StoreError where that is not possible."""
        ask = self._parts.versions.ask_review
        await self.registry.call(
            lambda: asyncio.to_thread(ask, request.id, task, text, suggestion, self.clock(), score, request.subject)
        )

    async def decision(self, request_id: str) -> Decision | None:
        """Return the decision of a request by its id, None where none is on record; raises StoreError."""
        find, home = self._parts.find_decision, self.config.home
        return await self.registry.call(lambda: asyncio.to_thread(find, home, request_id))

    async def tasks(self, name: str | None = None, key: Key | None = None) -> list[dict[str, object]]:
        """Return how the tasks (or one, if there is such a task) stand in their rollout; raises StoreError.

        Only those that a key allows, where there is one.
        """
        stacks = self.generation.serving.snapshot.stacks
        tasks = [stack.task for stack in stacks.values() if stack.task and name in (None, stack.task.name)
                 and (key is None or key.may_ask(stack.task.name))]  # fmt: skip

        def told() -> list[dict[str, object]]:
            return [told_task(self._parts.versions, task, self.clock()) for task in tasks]

        return await self.registry.call(lambda: asyncio.to_thread(told))

    async def watch(self) -> None:
        """Follow the registry, and erase what has outlived its retention, until cancelled."""
        async with asyncio.TaskGroup() as jobs:
            jobs.create_task(_again(POLL_SECONDS, "following the registry", lambda: self.generation.serving.follow()))
            jobs.create_task(_again(PURGE_SECONDS, "erasing what has expired", self._purge))

    async def _purge(self) -> None:
        """Erase what has outlived its retention; every worker does, and what one erased is no work for the next."""
        await self._parts.ledger.purge(self.clock())
        config, purge = self.config, self._parts.versions.purge_reviews
        tasks = {name: timedelta(days=config.days_kept(task)) for name, task in config.tasks.items()}
        await asyncio.to_thread(purge, self.clock(), timedelta(days=config.store.retention_days), tasks)

    def report(self) -> None:
        """Say which configuration and which versions serve."""
        self.metrics.set("insource_config_info", 1, digest=config_digest(self.config))
        self.metrics.set("insource_config_loaded_seconds", self.clock().timestamp())
        self.report_versions()

    def report_versions(self) -> None:
        """Set the gauges of what serves: active version, trial, its share, suspension and doubt."""
        for name, stack in self.generation.serving.snapshot.stacks.items():
            trial, standing = stack.trial, stack.standing
            self.metrics.set("insource_active_version", stack.version.version if stack.version else 0, task=name)
            self.metrics.set("insource_trial_version", trial.version if trial else 0, task=name)
            self.metrics.set("insource_canary_share", trial.share if trial else 0.0, task=name)
            self.metrics.set("insource_task_suspended", int(standing is not None and standing.suspended), task=name)
            self.metrics.set("insource_task_doubted", int(standing is not None and standing.doubted), task=name)

    async def count_reviews(self) -> None:
        """Set the gauge of requests that wait for a person; it stays where the registry does not say."""
        with suppress(StoreError):
            waiting = await self.registry.call(lambda: asyncio.to_thread(self._parts.versions.waiting_reviews))
            self.metrics.set("insource_reviews_waiting", waiting)

    def observe(self) -> None:
        """Set the gauges that are read rather than counted."""
        self.metrics.set("insource_ledger_waiting", self._parts.ledger.waiting)
        self.metrics.set("insource_ledger_lost_rows", self._parts.ledger.lost)
        for name, state in self.generation.upstreams.states().items():
            self.metrics.set("insource_upstream_breaker_open", 0 if state == "closed" else 1, upstream=name)

    async def close(self) -> None:
        """Close the generation and those before it, each after its last request."""
        await asyncio.gather(self.generation.close(), *self._closing, return_exceptions=True)

    def close_limits(self) -> None:
        """Write what was spent, where it is kept here."""
        if self._own_limits is not None:
            self._own_limits.close()

    def _opened(self, version: SpecialistVersion) -> None:
        self.metrics.add("insource_versions_opened_total", task=version.task)

    def _refused(self, version: SpecialistVersion, detail: str) -> None:
        self.metrics.add("insource_artifacts_refused_total", task=version.task)
        self._parts.ledger.act("insource", "refuse artifact", version.name, detail)
        _LOG.warning("%s is not served: %s", version.name, detail)


async def _again(seconds: float, what: str, work: Callable[[], Awaitable[object]]) -> None:
    """Do the work again and again; a store that fails is tried the next time."""
    while True:
        try:
            await work()
        except StoreError as error:
            _LOG.warning("%s", error)
        except Exception:
            _LOG.exception("%s failed; it is tried again", what)
        await asyncio.sleep(seconds)


@asynccontextmanager
async def open_gateway(parts: Parts) -> AsyncIterator[Gateway]:
    """Open upstreams and stacks, follow the registry meanwhile, and close: audits under way get 1 s more.

    Raises ConfigError for a missing key, StoreError for an unreadable registry.
    """
    gateway = Gateway(parts)
    await gateway.generation.open()
    gateway.report()
    watch = asyncio.ensure_future(gateway.watch())
    gateway.ready = True
    try:
        yield gateway
    finally:
        gateway.ready = False
        watch.cancel()
        await asyncio.wait((watch,))
        with suppress(TimeoutError):
            async with asyncio.timeout(min(AUDIT_SECONDS, gateway.config.gateway.drain_s)):
                await gateway.close()
        gateway.recorder.flush()
        gateway.close_limits()
