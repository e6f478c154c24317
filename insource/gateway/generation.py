"""One configuration and all derived from it: upstreams, judge, stacks and embedders, opened and closed together.

A reload makes a new generation beside the old one and swaps them whole, so that nothing of the old can linger. It
knows no HTTP and no ledger.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial

from insource.backends.contract import Backend
from insource.cascade.builder import TIER_SECONDS, build_task
from insource.cascade.cascade import Cascade
from insource.cascade.choice import Chooser
from insource.config import Config
from insource.gateway.embedding import Embedder, open_embedders
from insource.gateway.parts import Parts
from insource.gateway.recorder import Recorder
from insource.gateway.serving import Hears, Serving
from insource.gateway.stack import Opening
from insource.policy.egress import open_upstreams
from insource.policy.sensitivity import Judge
from insource.types import Request, Sensitivity, Task

MARGIN_SECONDS = 0.25
_LOG = logging.getLogger(__name__)


class Generation:
    """Serves under one configuration; make one with `open`, and `close` it once another has taken its place."""

    def __init__(self, config: Config, parts: Parts, recorder: Recorder, hears: Hears) -> None:
        """Prepare all of it; raise ConfigError for a missing key or two tasks that claim the same requests."""
        self.config = config
        self.judge = Judge(config.policy, parts.check, on_doubt=_doubted)
        self.upstreams = open_upstreams(config, watch=recorder.attempted)
        self.embedders: Mapping[str, Embedder] = {}
        self.serving = Serving(config.tasks, parts.versions, parts.open_specialist, self._house, self._build, hears)
        self._parts = parts
        self._recorder = recorder
        self._opened = AsyncExitStack()

    async def open(self) -> None:
        """Open everything; where one part cannot be opened, close the others and raise what it raised."""
        async with AsyncExitStack() as opened:
            await opened.enter_async_context(self.upstreams)
            self.embedders = await open_embedders(self.config.embeddings, self._parts.open_trunk)
            await self.serving.refresh()
            self._opened = opened.pop_all()

    async def close(self) -> None:
        """Close every stack after its last request, then the upstreams."""
        try:
            await self.serving.close()
        finally:
            await self._opened.aclose()

    async def rated(self, request: Request, task: Task | None) -> Request:
        """Return the request with its sensitivity, as task, header and check have it."""
        sensitivity = self.judge.rate(request, task)
        if self.judge.checks:
            sensitivity = await self.judge.check(request, sensitivity)
        return request.judged(sensitivity, request.key)

    def _house(self, name: str) -> tuple[Backend, float]:
        """Return the way to an upstream in the house, with its breaker, and the seconds that it has as a tier.

        Its reply must begin within those, so that its breaker hears of each time that it was too slow; the cascade's
        own deadline is a little later, for a reply that begins and does not end.
        """
        seconds = self.config.upstreams[name].deadline_s or TIER_SECONDS
        chosen = self.upstreams.chosen(((name, 1.0),), deadline=seconds)
        assert chosen is not None, "one was named"
        return chosen, seconds + MARGIN_SECONDS

    def _build(self, task: Task | None, opening: Opening) -> Chooser:
        model, matched = (task.upstream_model, next(iter(task.match.models), None)) if task else (None, None)
        upstream = self.upstreams.chosen(self.config.upstreams_of(task), model, matched)
        permits = upstream.permits if upstream is not None else _not_restricted
        if task is None:
            return Cascade(None, upstream=upstream, permits=permits, clock=self._parts.clock)
        return build_task(
            task,
            active=opening.active,
            tiers=opening.tiers,
            trial=opening.trial,
            suspended=opening.suspended,
            doubted=opening.doubted,
            upstream=upstream,
            permits=permits,
            record=partial(self._recorder.found, task),
            coin=self._parts.coin,
            reserve=partial(self._parts.versions.reserve_label, task.name),
            workers=self.config.gateway.workers,
            dropped=partial(self._recorder.dropped, task),
            clock=self._parts.clock,
        )


def _doubted(kind: str) -> None:
    _LOG.warning("the check of a request's sensitivity failed (%s); it counts as restricted", kind)


def _not_restricted(request: Request) -> bool:
    """Say, where there is no upstream at all, whether its absence or the policy is what keeps a request here."""
    return request.sensitivity is not None and request.sensitivity is not Sensitivity.RESTRICTED
