"""`insource serve`: puts the gateway together from the configuration and runs it until it is told to stop.

It opens the parts and prints the banner; what they do is the gateway's business.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from insource.cli.opening import Opener, configuration
from insource.cli.output import percent

if TYPE_CHECKING:
    from insource.config import Config
    from insource.store.registry import Registry

FLAG_UPSTREAM = "command-line"


@click.command(epilog="\b\nExample:\n  insource serve --upstream https://api.openai.com/v1")
@click.option("--host", metavar="ADDRESS", help="The address to listen on; loopback only [127.0.0.1].")
@click.option("--port", type=int, metavar="PORT", help="The port to listen on; 0 takes any free one [8600].")
@click.option("--upstream", metavar="URL", help="Send what no specialist answers there, with the clients' own keys.")
@click.pass_context
def command(ctx: click.Context, host: str | None, port: int | None, upstream: str | None) -> None:
    """Run the gateway until SIGTERM or Ctrl-C; requests under way are finished first."""
    import logging

    from insource.cascade.cascade import utc_now
    from insource.cli.opening import open_registry
    from insource.gateway.gateway import Parts
    from insource.gateway.server import serve
    from insource.governance.energy import open_energy
    from insource.store.ledger import Ledger

    config = configuration(ctx, {"gateway.host": host, "gateway.port": port})
    if upstream is not None:
        config = with_upstream(config, upstream)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    days = config.store.retention_days
    with open_registry(config) as registry, Ledger.open(config.home, clock=utc_now, retention_days=days) as ledger:
        for line in banner(config, registry):
            click.echo(line)
        with one_thread():
            parts = Parts(config, ledger, registry, Opener(config), open_energy().joules_of, clock=utc_now)
            serve(parts, click.echo)
    click.echo("insource has stopped; every decision is in the ledger")


def with_upstream(config: Config, url: str) -> Config:
    """Return the configuration with one more upstream, the default; it never gets a key meant for another one.

    Raises ConfigError where `url` is not an http(s) address.
    """
    from insource.config import SETTINGS, UpstreamConfig
    from insource.config.checking import check_value

    setting = next(setting for setting in SETTINGS if setting.key == "upstreams.NAME.base_url")
    named = dataclasses.replace(setting, key="--upstream")
    added = UpstreamConfig(FLAG_UPSTREAM, check_value(named, url, "flag"))
    gateway = dataclasses.replace(config.gateway, default_upstream=FLAG_UPSTREAM)
    return dataclasses.replace(config, gateway=gateway, upstreams={**config.upstreams, FLAG_UPSTREAM: added})


def banner(config: Config, registry: Registry) -> Iterator[str]:
    """Yield a line for each task: which version serves it and what it promises."""
    names = sorted({*config.tasks, *(name for name in registry.tasks() if registry.active(name))})
    if not names:
        yield "tasks: none yet; everything is passed through and recorded"
    for name in names:
        active = registry.active(name)
        calibration = active.calibration if active else None
        if active is None:
            yield f"task {name}: no active version; everything goes up"
        elif calibration is None or calibration.threshold is None:
            yield f"task {name}: {active.name} ({active.family}) has no threshold; everything goes up"
        else:
            yield (
                f"task {name}: {active.name} ({active.family}) accepts at {calibration.threshold:.4f}, "
                f"certified coverage {percent(calibration.coverage)}, target risk {percent(calibration.target_risk)}"
            )


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep numerical libraries to one thread; requests side by side use the cores, spinning threads would take them."""
    import numpy  # noqa: F401  -- only libraries that are loaded can be limited
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield
