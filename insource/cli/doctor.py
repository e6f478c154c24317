"""`insource doctor`: checks this machine, the store and the upstreams, and says what to do about what it finds.

It runs the checks of `cli.checks` and shows them; it mends nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from insource.cli.opening import configuration
from insource.cli.output import emit, json_option, printable
from insource.cli.progress import Bars
from insource.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from insource.cli.checks.check import Check
    from insource.config import Config

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@click.command(epilog="\b\nExample:\n  insource doctor --network")
@click.option("--network", is_flag=True, help="Also connect to the upstreams; without it nothing leaves this machine.")
@json_option
@click.pass_context
def command(ctx: click.Context, network: bool, json_path: str | None) -> None:
    """Check this machine, the store and the upstreams; exit with 1 if anything fails."""
    config: Config | ConfigError
    try:
        config = configuration(ctx)
    except ConfigError as error:
        config = error
    checks: list[Check] = []
    with Bars() as bars:
        report = bars.say("checking")
        for check in _checks(config, network):
            checks.append(check)
            report(len(checks), None)
    counts = _counts(checks)
    home = None if isinstance(config, ConfigError) else config.home
    emit({"home": home, "counts": counts, "checks": checks}, json_path, lambda console: _show(console, checks))
    ctx.exit(1 if counts["fail"] else 0)


def _checks(config: Config | ConfigError, network: bool) -> Iterator[Check]:
    """Yield every check; without a usable configuration, those of the machine only."""
    from insource.cli.checks.check import Check
    from insource.cli.checks.machine import machine_checks
    from insource.cli.checks.store import store_checks
    from insource.cli.checks.upstreams import upstream_checks

    yield from machine_checks()
    if isinstance(config, ConfigError):
        yield Check("configuration", "fail", str(config))
        return
    yield Check("configuration", "ok", f"read from {config.path}" if config.path else "no file; defaults")
    try:
        yield from store_checks(config)
    except OSError as error:
        yield Check(
            "store", "fail", f"{error.filename} cannot be looked at ({error.strerror})", "Check owner and mode."
        )
    yield from upstream_checks(config, network=network)


def _counts(checks: Sequence[Check]) -> dict[str, int]:
    counts: Counter[str] = Counter(check.status for check in checks)
    return {status: counts[status] for status in _STYLES}


def _show(console: Console, checks: Sequence[Check]) -> None:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for check in checks:
        told = printable(check.detail) + (f"\n{printable(check.todo)}" if check.todo else "")
        grid.add_row(Text(check.status, style=_STYLES[check.status]), Text(check.name), Text(told))
    console.print(grid)
    counts = _counts(checks)
    console.print(f"\n{counts['ok']} ok, {counts['warn']} to look at, {counts['fail']} failed")
