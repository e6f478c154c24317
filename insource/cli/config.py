"""`insource config`: every setting with its value and origin, and the order to a running gateway to read them again.

It shows what `config.load` found and what the gateway said; it knows no setting by name.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from insource.cli.opening import configuration
from insource.cli.output import emit, json_option, table

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from insource.gateway.running import Reloaded

WAIT_SECONDS = 40.0


@click.group(epilog="\b\nExample:\n  insource config show")
def command() -> None:
    """Show the configuration, or have the running gateway take it over."""


@command.command(epilog="\b\nExample:\n  insource config show --json - | jq '.values.\"gateway.port\"'")
@json_option
@click.pass_context
def show(ctx: click.Context, json_path: str | None) -> None:
    """Print every setting with its origin: flag, environment variable, line of the file, or default."""
    config = configuration(ctx)
    values = {key: {"value": value, "origin": config.origins[key]} for key, value in sorted(config.values.items())}
    data: dict[str, Any] = {"file": config.path, "values": values}

    def shown(console: Console) -> None:
        rows = [(key, _text(value), config.origins[key]) for key, value in sorted(config.values.items())]
        console.print(f"read from {config.path}" if config.path else "no insource.toml here; `insource init` makes one")
        console.print(table(None, ("setting", "value", "origin"), rows))

    emit(data, json_path, shown)


@command.command("reload", epilog="\b\nExample:\n  insource config reload")
@click.pass_context
def reload_command(ctx: click.Context) -> None:
    """Have the running gateway take over its configuration as it is now; a wrong one changes nothing."""
    import os
    import signal

    from insource.errors import ConfigError, UserError
    from insource.gateway.running import find_running, read_status

    config = configuration(ctx)
    pid, before = find_running(config.home), read_status(config.home)
    if pid is None or before is None:
        raise UserError(
            f"No gateway serves {config.home}; a running one was expected. Start it with `insource serve`, or name "
            "its home with --home."
        )
    os.kill(pid, signal.SIGHUP)
    told = _wait_for_reload(config.home, before.reload.number)
    if told is None:
        raise UserError(
            f"The gateway (process {pid}) did not say within {WAIT_SECONDS:.0f} s whether it took the configuration "
            "over. Its log says what it is doing."
        )
    if told.result != "loaded":
        raise ConfigError(f"The gateway (process {pid}) goes on with the configuration it had: {told.message}")
    click.echo(f"the gateway (process {pid}) took it over: {told.message}")


def _wait_for_reload(home: Path, number: int) -> Reloaded | None:
    """Return what the gateway says of the first reload after `number`, None where it says nothing in time."""
    from insource.gateway.running import read_status

    until = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < until:
        status = read_status(home)
        if status is not None and status.reload.number > number:
            return status.reload
        time.sleep(0.02)
    return None


def _text(value: object) -> str:
    if value is None or value == ():
        return "not set"
    return ", ".join(map(_item, value)) if isinstance(value, tuple) else str(value)


def _item(value: object) -> str:
    """Show an upstream with its weight, or a header with its value; all else as it is."""
    if not isinstance(value, tuple):
        return str(value)
    name, other = value
    if isinstance(other, float):
        return f"{name} (weight {other:g})" if other else f"{name} (on failure)"
    return f"{name}: {other}"
