"""`insource keys`: who may ask the gateway. Keys are made, listed and revoked; each is shown once and never again.

It turns options into words and rows into a table; what a key may be stands in `gateway.key_wishes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from insource.cli.opening import configuration, open_registry
from insource.cli.output import emit, json_option, printable, table

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from insource.store.registry import Registry

_who = click.option("--who", metavar="NAME", help="Who decides [your user name].")
_why = click.option("--why", metavar="TEXT", help="The reason, kept with the act.")


@click.group(epilog='\b\nExample:\n  insource keys create "ticket app" --task triage --budget 5/day')
def command() -> None:
    """Make, list and revoke the keys that requests to the gateway need."""


@command.command(epilog='\b\nExample:\n  insource keys create "ticket app" --task triage --budget 5/day --rate 60/min')
@click.argument("name")
@click.option("--task", "tasks", multiple=True, metavar="NAME", help="A task whose requests it allows [all, and none].")
@click.option("--upstream", "upstreams", multiple=True, metavar="NAME", help="An upstream it may use [all].")
@click.option("--sensitivity", metavar="LEVEL", help="The highest that may leave with it [restricted].")
@click.option("--expires", metavar="WHEN", help="Until when it is valid: 90d, 12h or 2027-01-31 [for ever].")
@click.option(
    "--budget", metavar="MONEY/PERIOD", help='What it may spend: 5/day, "20 EUR/month", 100/total [anything].'
)
@click.option("--tokens", metavar="N/PERIOD", help="How many tokens it may use: 200000/day [any number].")
@click.option("--rate", metavar="N/UNIT", help="How many requests for each s, min or h: 60/min [gateway.key_rate].")
@click.option("--concurrency", type=int, metavar="N", help="How many at once [gateway.key_concurrency].")
@click.option("--admin", is_flag=True, help="It may administer keys over HTTP, and read the metrics.")
@_why
@_who
@json_option
@click.pass_context
def create(ctx: click.Context, /, why: str | None, who: str | None, json_path: str | None, **told: Any) -> None:
    """Make a key for NAME and show it, once: only its digest is kept."""
    from insource.cli.promote import user_name
    from insource.gateway.key_wishes import to_data, wish
    from insource.gateway.stack import tasks_here

    config, now = configuration(ctx), datetime.now(UTC)
    fields = {name: (list(value) or None) if isinstance(value, tuple) else value for name, value in told.items()}
    with open_registry(config) as registry:
        tasks = tasks_here(config.tasks, registry.tasks())
        wanted = wish(fields, who=who or user_name(), now=now, tasks=tasks, upstreams=config.upstreams)
        first = not registry.keys()
        made, secret = registry.create_key(wanted, why or "no reason given")
    data = {**to_data(made, {}, now), "key": secret}
    lines = [f"{secret}", f"This is the key of {made.name} (id {made.id}); it is not shown again, so keep it now.",
             "A running gateway knows it within a second."]  # fmt: skip
    if first:
        lines.append("It is the first key of this home: from now on every request needs one.")
    emit(data, json_path, lambda console: console.print(printable("\n".join(lines), keep="\n"), soft_wrap=True))


@command.command("list", epilog="\b\nExample:\n  insource keys list --all")
@click.option("--all", "everything", is_flag=True, help="Those that are revoked or expired, too.")
@json_option
@click.pass_context
def list_command(ctx: click.Context, everything: bool, json_path: str | None) -> None:
    """List the keys with what they allow, and what is left of their budgets."""
    config = configuration(ctx)
    with open_registry(config) as registry:
        found = describe(registry, config.home, datetime.now(UTC))
    keys = [data for data in found if everything or data["state"] == "valid"]
    emit({"keys": keys}, json_path, lambda console: _show(console, keys))


@command.command(epilog='\b\nExample:\n  insource keys revoke 3fKq9ZtB --why "the laptop was lost"')
@click.argument("key_id", metavar="ID")
@_why
@_who
@json_option
@click.pass_context
def revoke(ctx: click.Context, key_id: str, why: str | None, who: str | None, json_path: str | None) -> None:
    """Revoke the key with ID, for good."""
    from insource.cli.promote import user_name
    from insource.gateway.key_wishes import to_data

    now = datetime.now(UTC)
    with open_registry(configuration(ctx)) as registry:
        key, changed = registry.revoke_key(key_id, who or user_name(), why or "no reason given", now)
    if changed:
        said = f"The key of {key.name} (id {key.id}) is revoked; a running gateway refuses it within a second."
    else:
        said = f"The key of {key.name} (id {key.id}) was revoked already, at {key.revoked:%Y-%m-%d %H:%M} UTC by " \
               f"{key.revoked_by}; nothing was changed."  # fmt: skip
    data = {**to_data(key, {}, now), "changed": changed}
    emit(data, json_path, lambda console: console.print(printable(said), soft_wrap=True))


def describe(registry: Registry, home: Path, now: datetime) -> list[dict[str, Any]]:
    """Return every key of a home as data, with what was spent. Raises StoreError."""
    from insource.gateway.key_wishes import to_data
    from insource.store.spending import read_spending

    spending = read_spending(home)
    return [to_data(key, spending, now) for key in registry.keys()]


def budget_words(budget: Mapping[str, Any]) -> str:
    """Return a budget in words: "0.4 of 5 USD a day left"."""
    per = "in total" if budget["per"] == "total" else f"a {budget['per']}"
    return f"{budget['left']} of {budget['limit']} {budget['unit']} {per} left"


def key_rows(keys: Sequence[Mapping[str, Any]]) -> list[tuple[str, object]]:
    """Return the lines of `insource status` on keys: how many, and what is left of each budget."""
    valid = [key for key in keys if key["state"] == "valid"]
    told = f"{len(valid)} valid of {len(keys)}" if keys else "none yet: every program on this machine may ask"
    budgets = [(f"key {key['name']}", "; ".join(map(budget_words, key["budgets"]))) for key in valid if key["budgets"]]
    return [("keys", told), *budgets]


def _show(console: Console, keys: list[dict[str, Any]]) -> None:
    if not keys:
        console.print("No key is valid here. `insource keys create NAME` makes one.")
        return
    columns = ("id", "name", "state", "tasks", "upstreams", "leaves up to", "expires (UTC)", "limits")
    console.print(table(None, columns, map(_row, keys)))


def _row(data: Mapping[str, Any]) -> tuple[object, ...]:
    limits = [budget_words(budget) for budget in data["budgets"]]
    if data["rate"] is not None:
        limits.append(f"{data['rate']['requests']} requests in {data['rate']['seconds']:g} s")
    if data["concurrency"] is not None:
        limits.append(f"{data['concurrency']} at once")
    return (
        data["id"],
        data["name"],
        data["state"] + (", administrator" if data["admin"] else ""),
        _named(data["tasks"]),
        _named(data["upstreams"]),
        data["sensitivity"],
        None if data["expires"] is None else data["expires"][:16].replace("T", " "),
        "; ".join(limits) or None,
    )


def _named(names: tuple[str, ...] | None) -> str:
    return "all" if names is None else ", ".join(names)
