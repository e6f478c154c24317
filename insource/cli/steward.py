"""`insource steward`: the process beside the gateway that watches the evidence and moves versions, or proposes to.

It opens the parts and runs the loop; what the evidence allows is the lifecycle's business.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from insource.cli.opening import configuration, open_artifacts, open_registry
from insource.cli.output import emit, json_option
from insource.cli.watched_home import LaterLedger, tasks_of

if TYPE_CHECKING:
    from rich.console import Console

    from insource.config import Config
    from insource.lifecycle.steward import Steward
    from insource.store.registry import Registry

NICENESS = 10


@click.command("steward", epilog="\b\nExample:\n  insource steward --once")
@click.option("--once", is_flag=True, help="Look until nothing new is found, say what stands, and end.")
@click.option("--every", type=click.FloatRange(0.05, 60.0), default=0.25, show_default=True,
              help="Seconds between two looks; idle, it looks less often, at least once a second.")  # fmt: skip
@click.option("--under", type=int, metavar="PID", hidden=True, help="End with this process, the supervisor.")
@json_option
@click.pass_context
def command(ctx: click.Context, once: bool, every: float, under: int | None, json_path: str | None) -> None:
    """Watch what the audits say of every task: suspend, roll back, move on (auto) or propose it (approve).

    `insource serve` runs one; run it by hand where none does, or beside a gateway that was started with --no-steward.
    Two of them do no harm: whoever is second finds the step taken.
    """
    from insource.gateway.logs import configure_logs

    config = configuration(ctx)
    if under is not None:
        from insource.gateway.orphans import end_with

        end_with(under)
        os.nice(NICENESS)
        configure_logs(config.gateway.log)
    told = threading.Event()
    for number in (signal.SIGTERM, *([] if under else [signal.SIGINT])):
        signal.signal(number, lambda *_: told.set())
    if under:
        for number in (signal.SIGINT, signal.SIGHUP):  # a terminal sends them to all; the supervisor decides
            signal.signal(number, signal.SIG_IGN)
    with ExitStack() as opened:
        registry = opened.enter_context(open_registry(config))
        steward = open_steward(config, registry, opened)
        if once:
            while steward.turn():
                pass
            stands = {name: standing_told(steward, name) for name in tasks_of(config, registry)}
            emit({"tasks": stands}, json_path, lambda console: _show(console, stands))
            return
        if not under:
            click.echo(f"the steward watches {len(tasks_of(config, registry)):,} tasks; Ctrl-C stops it")
        steward.run(told.wait, told.is_set, every)


def open_steward(config: Config, registry: Registry, opened: ExitStack) -> Steward:
    """Return the steward of a home, its ledger closed with `opened`. Raises StoreError."""
    from insource.lifecycle.reading import Artifacts, Reading
    from insource.lifecycle.steward import Steward

    ledger = opened.enter_context(LaterLedger(config))
    artifacts = Artifacts(open_artifacts(config))
    return Steward(lambda: tasks_of(config, registry), registry, Reading(ledger, artifacts, ledger),
                   unservable=artifacts.unservable, now=lambda: datetime.now(UTC))  # fmt: skip


def standing_told(steward: Steward, task: str) -> dict[str, Any]:
    """Return what the steward knows of a task, as data."""
    from insource.cli.status_task import told

    with suppress(KeyError):
        return told(steward.look(task))
    return {"task": task}


def _show(console: Console, stands: Mapping[str, Any]) -> None:
    from insource.cli.status_task import lines

    if not stands:
        console.print("No task is configured or trained yet.")
    for found in stands.values():
        for line in lines(found):
            console.print(line)
