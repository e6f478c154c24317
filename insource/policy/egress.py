"""The way out: the only place that constructs an upstream, and the wrapper that every request to one passes.

Where a request goes is fixed by the configuration; no field, header or path of a request can change it, and none
leaves that the policy keeps. It knows no tasks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from random import Random
from types import TracebackType
from typing import Self

from insource.backends.contract import Backend, BackendInfo, Health
from insource.backends.upstream import Upstream
from insource.config import Config, UpstreamConfig
from insource.errors import ConfigError
from insource.policy.breaker import Breaker
from insource.policy.failover import Failover
from insource.policy.member import Member, Watch
from insource.policy.paths import check_destination
from insource.policy.retry_budget import RetryBudget
from insource.policy.rules import kept_local, may_take
from insource.types import Answer, Request, Sensitivity


def open_upstreams(config: Config, env: Mapping[str, str] = os.environ, watch: Watch | None = None) -> Upstreams:
    """Return every configured upstream behind its egress, not yet entered; raise ConfigError for a missing key.

    `watch` is told of every attempt.
    """
    budget = RetryBudget(config.gateway.retry_budget)
    backends = {name: _upstream(upstream, env, budget) for name, upstream in config.upstreams.items()}
    return Upstreams(config, backends, budget=budget, watch=watch)


class Egress:
    """Passes requests on to one upstream, if they are of a sensitivity in `allowed`; refuses a path out of its API."""

    def __init__(self, upstream: Backend, allowed: frozenset[Sensitivity]) -> None:
        self._upstream = upstream
        self._allowed = allowed

    @property
    def info(self) -> BackendInfo:
        """The upstream's."""
        return self._upstream.info

    def permits(self, request: Request) -> bool:
        """Whether policy and the request's key let it go here; one that nobody rated counts as restricted."""
        rated = request.sensitivity or Sensitivity.RESTRICTED
        return rated in self._allowed and (request.key is None or request.key.may_send(self.info.name, rated))

    async def answer(self, request: Request) -> Answer:
        """Pass the request on; raise KeptLocal where it may not go here, RequestError for a path outside /v1/."""
        if not self.permits(request):
            raise kept_local((self.info.name,), request)
        check_destination(request.method, request.path)
        return await self._upstream.answer(request)

    async def answer_many(self, requests: Sequence[Request]) -> list[Answer]:
        """Pass the requests on, one after the other."""
        return [await self.answer(request) for request in requests]

    async def health(self) -> Health:
        """The upstream's."""
        return await self._upstream.health()

    async def __aenter__(self) -> Self:
        """Open the upstream."""
        await self._upstream.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the upstream."""
        await self._upstream.__aexit__(kind, error, trace)


class Upstreams(Mapping[str, Egress]):
    """All upstreams by name, each with one circuit breaker for whoever asks it, and one retry budget for all.

    Entering it opens every upstream; each may be entered by itself instead. `backends` are what the egresses wrap,
    `budget` what they were given to ask before a request goes out once more.
    """

    def __init__(
        self,
        config: Config,
        backends: Mapping[str, Backend],
        random: Random | None = None,
        budget: RetryBudget | None = None,
        watch: Watch | None = None,
    ) -> None:
        self._configs = config.upstreams
        self._budget = budget or RetryBudget(config.gateway.retry_budget)
        self._egresses = {
            name: Egress(backend, may_take(config.policy, config.upstreams[name])) for name, backend in backends.items()
        }
        self._breakers = {
            name: Breaker(upstream.breaker_failures, upstream.breaker_rest_s)
            for name, upstream in config.upstreams.items()
        }
        self._random = (random or Random()).random
        self._watched = {} if watch is None else {"watch": watch}
        self._opened: AsyncExitStack | None = None

    def __getitem__(self, name: str) -> Egress:
        return self._egresses[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._egresses)

    def __len__(self) -> int:
        return len(self._egresses)

    def chosen(
        self,
        named: Sequence[tuple[str, float]],
        model: str | None = None,
        otherwise: str | None = None,
        deadline: float | None = None,
    ) -> Failover | None:
        """Return what asks the named upstreams by weight and falls back on failure; None where none is named.

        `model` is what "task:NAME" becomes, whichever is asked; without it each upstream's own model, then `otherwise`.
        `deadline` takes the place of the upstreams' own: seconds in which a reply must begin.
        """
        members = [self._member(name, weight, model, otherwise, deadline) for name, weight in named]
        return Failover(members, self._budget, random=self._random) if members else None

    def states(self) -> Mapping[str, str]:
        """Return where each upstream's breaker stands: "closed", "open" or "half_open"."""
        return {name: breaker.state.value for name, breaker in self._breakers.items()}

    async def __aenter__(self) -> Self:
        """Open every upstream, or none."""
        async with AsyncExitStack() as opened:
            for egress in self._egresses.values():
                await opened.enter_async_context(egress)
            self._opened = opened.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every upstream."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.__aexit__(kind, error, trace)

    def _member(
        self, name: str, weight: float, model: str | None, otherwise: str | None, deadline: float | None
    ) -> Member:
        config = self._configs[name]
        return Member(
            name,
            self._egresses[name],
            self._breakers[name],
            weight,
            config.retries,
            deadline if deadline is not None else config.deadline_s,
            model or config.model or otherwise,
            **self._watched,
        )


def _upstream(config: UpstreamConfig, env: Mapping[str, str], budget: RetryBudget) -> Upstream:
    key = None
    if config.api_key_env is not None:
        key = env.get(config.api_key_env)
        if not key:
            raise ConfigError(
                f"The environment variable {config.api_key_env} is not set; upstreams.{config.name}.api_key_env names "
                "it as the upstream's key. Set it, or take the setting out to pass the clients' own keys on."
            )
    return Upstream(
        config.name,
        config.base_url,
        api_key=key,
        key_header=config.key_header,
        silence=config.timeout_s,
        connect=config.connect_timeout_s,
        whole=config.reply_s,
        resend=budget.spend,
    )
