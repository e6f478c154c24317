"""Checks of the upstreams: that there is one, that its key's variable is set, and on request that it can be reached.

It never shows a key and sends no request.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from insource.cli.checks.check import Check

if TYPE_CHECKING:
    from insource.config import Config, UpstreamConfig

CONNECT_SECONDS = 3.0
Connect = Callable[[str, int], None]


def connect(host: str, port: int) -> None:
    """Open a TCP connection and close it; OSError where that is not possible within 3 s."""
    socket.create_connection((host, port), CONNECT_SECONDS).close()


def upstream_checks(
    config: Config, *, network: bool, env: Mapping[str, str] = os.environ, connect: Connect = connect
) -> Iterator[Check]:
    """Yield the checks of every upstream; connections only with `network`."""
    if not config.upstreams:
        yield Check("upstreams", "warn", "none is configured; what no specialist answers gets an error",
                    "Add [upstreams.NAME] to insource.toml, or pass --upstream URL to serve.")  # fmt: skip
    elif config.default_upstream is None:
        yield Check("upstreams", "warn", f"{len(config.upstreams)} are configured and none is the default",
                    "Set gateway.default_upstream.")  # fmt: skip
    for upstream in config.upstreams.values():
        yield _key_check(upstream, env)
        if network:
            yield _reach_check(upstream, connect)


def _key_check(upstream: UpstreamConfig, env: Mapping[str, str]) -> Check:
    name, variable = f"upstream {upstream.name}", upstream.api_key_env
    if variable is None:
        return Check(name, "ok", f"{upstream.base_url}, with each client's own key")
    if not env.get(variable):
        return Check(name, "fail", f"{upstream.base_url}: the variable {variable} is not set",
                     f"Set {variable}; `insource serve` does not start without it.")  # fmt: skip
    return Check(name, "ok", f"{upstream.base_url}, key in {variable}")


def _reach_check(upstream: UpstreamConfig, connect: Connect) -> Check:
    parts = urlsplit(upstream.base_url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    name = f"upstream {upstream.name} reachable"
    try:
        connect(host, port)
    except OSError as error:
        return Check(name, "fail", f"no connection to {host}:{port} ({error.strerror or error})",
                     "Check the address, your network and its proxies.")  # fmt: skip
    return Check(name, "ok", f"{host}:{port} takes connections")
