"""The way out: the only place that constructs an upstream, and the wrapper that every request to one passes.

Where a request goes is fixed by the configuration; no field, header or path of a request can change it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from insource.backends.contract import Backend, BackendInfo, Health
from insource.backends.upstream import Upstream
from insource.config import Config, UpstreamConfig
from insource.errors import ConfigError, RequestError
from insource.types import Answer, Request


def open_upstreams(config: Config, env: Mapping[str, str] = os.environ) -> dict[str, Backend]:
    """Return every configured upstream behind its egress, not yet entered; raise ConfigError for a missing key."""
    return {name: Egress(_upstream(upstream, env)) for name, upstream in config.upstreams.items()}


class Egress:
    """Passes requests on to one upstream; refuses a path that could leave its API."""

    def __init__(self, upstream: Backend) -> None:
        self._upstream = upstream

    @property
    def info(self) -> BackendInfo:
        """The upstream's."""
        return self._upstream.info

    async def answer(self, request: Request) -> Answer:
        """Pass the request on; raise RequestError for a path outside /v1/."""
        path = request.path.split("?", 1)[0]
        if not path.startswith("/v1/") or any(part in (".", "..") for part in _parts(path)):
            raise RequestError(f"The path {path[:80]!r} was asked for; one under /v1/ was expected. Correct the path.")
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


def _parts(path: str) -> list[str]:
    return path.lower().replace("%2e", ".").replace("%2f", "/").replace("\\", "/").replace("%5c", "/").split("/")


def _upstream(config: UpstreamConfig, env: Mapping[str, str]) -> Upstream:
    key = None
    if config.api_key_env is not None:
        key = env.get(config.api_key_env)
        if not key:
            raise ConfigError(
                f"The environment variable {config.api_key_env} is not set; upstreams.{config.name}.api_key_env names "
                "it as the upstream's key. Set it, or take the setting out to pass the clients' own keys on."
            )
    return Upstream(
        config.name, config.base_url, api_key=key, silence=config.timeout_s, connect=config.connect_timeout_s
    )
