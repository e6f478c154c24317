"""`insource config show`: every setting, its value, and where that was set.

It shows what `config.load` found; it knows no setting by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from insource.cli.opening import configuration
from insource.cli.output import emit, json_option, table

if TYPE_CHECKING:
    from rich.console import Console


@click.group(epilog="\b\nExample:\n  insource config show")
def command() -> None:
    """Show the configuration."""


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


def _text(value: object) -> str:
    if value is None or value == ():
        return "not set"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
