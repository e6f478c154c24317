"""`insource serve`: puts the gateway together from the configuration and runs it until it is told to stop.

It prints the banner and starts the supervisor; what that and its workers do is the gateway's business.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from insource.cli.output import percent

if TYPE_CHECKING:
    from insource.config import Config
    from insource.config.given import Given
    from insource.store.registry import Registry

WORKER = (sys.executable, "-m", "insource.cli.worker")
ENTRY = (sys.executable, "-m", "insource.cli.main")


@click.command(epilog="\b\nExample:\n  insource serve --upstream https://api.openai.com/v1")
@click.option("--host", metavar="ADDRESS", help="The address to listen on; beyond loopback with keys only [127.0.0.1].")
@click.option("--port", type=int, metavar="PORT", help="The port to listen on; 0 takes any free one [8600].")
@click.option("--upstream", metavar="URL", help="Send what no specialist answers there, with the clients' own keys.")
@click.option("--workers", type=int, metavar="N", help="How many processes serve; one more writes the ledger [1].")
@click.option("--no-steward", is_flag=True, help="Do not watch the evidence: nothing is moved, rolled back, suspended.")
@click.pass_context
def command(
    ctx: click.Context,
    host: str | None,
    port: int | None,
    upstream: str | None,
    workers: int | None,
    no_steward: bool,
) -> None:
    """Run the gateway until SIGTERM or Ctrl-C; requests under way are finished first.

    SIGHUP, or `insource config reload`, has it take over the configuration as it is now.
    """
    from insource.cli.choices import Choices
    from insource.cli.opening import open_registry
    from insource.config.given import Given
    from insource.gateway.logs import configure_logs
    from insource.gateway.supervisor import Supervisor

    choices = ctx.find_object(Choices) or Choices()
    home = None if choices.home is None else str(choices.home)
    flags = {"store.home": home, "gateway.host": host, "gateway.port": port, "gateway.workers": workers}
    given = Given.read(choices.config, flags, upstream)
    config = given.config()
    configure_logs(config.gateway.log)

    def announce(lines: Iterable[str]) -> None:
        with open_registry(config) as registry:
            for line in (*banner(config, registry), *lines):
                click.echo(line)

    steward = () if no_steward else steward_of(given, config)
    code = Supervisor(given, announce, WORKER, clock=_now, dead=_dead, steward=steward).run()
    click.echo("insource has stopped; every decision is in the ledger" if code == 0 else "insource was cut short")
    ctx.exit(code)


def steward_of(given: Given, config: Config) -> tuple[str, ...]:
    """Return the command that runs the steward of the same home under the same file, wanting the supervisor's id."""
    named = ("--config", given.path) if given.named else ()
    return (*ENTRY, *named, "--home", str(config.home), "steward", "--under")


def _now() -> datetime:
    return datetime.now(UTC)


def _dead(pid: int) -> None:
    from insource.gateway.metrics import worker_died

    worker_died(pid)


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
