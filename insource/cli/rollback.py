"""`insource rollback`: ends a task's trial, or puts back the version that served before the active one.

It takes effect on whatever reads the registry; what the older version is worth is the person's judgement.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from insource.cli.opening import configuration, open_registry, split_name
from insource.cli.output import emit, json_option

if TYPE_CHECKING:
    from rich.console import Console


@click.command(epilog='\b\nExample:\n  insource rollback triage --why "refunds are mistaken for cards"')
@click.argument("name", metavar="TASK")
@click.option("--why", metavar="TEXT", help="The reason, kept with the act.")
@click.option("--who", metavar="NAME", help="Who decides [your user name].")
@json_option
@click.pass_context
def command(ctx: click.Context, name: str, why: str | None, who: str | None, json_path: str | None) -> None:
    """Retire TASK's version in shadow or canary; where there is none, go back to the version before the active one.

    TASK@V does so only if V is the version that would go.
    """
    from insource.cli.promote import user_name

    task, wanted = split_name(name)
    with open_registry(configuration(ctx)) as registry:
        registry.get(task, wanted)  # raises UnknownTask or UnknownVersion
        out = registry.trial(task) or registry.active(task)
        expected = wanted if wanted is not None or out is None else out.version
        decider = who or user_name()
        serves = registry.rollback(task, decider, why or "no reason given", datetime.now(UTC), expected=expected)
    data = {
        "task": task,
        "retired": out and out.version,
        "was": out and out.stage,
        "serves": serves and serves.version,
        "who": decider,
        "why": why,
    }
    emit(data, json_path, lambda console: _show(console, data))


def _show(console: Console, data: dict[str, Any]) -> None:
    task = data["task"]
    gone = f"{task}@{data['retired']}, which was {data['was']}," if data["retired"] else f"What stood for {task}"
    console.print(f"{gone} is retired, by {data['who']}.")
    if data["serves"] is None:
        console.print("No version serves now: every request goes up.")
    else:
        console.print(f"{task}@{data['serves']} serves.")
    console.print("A running gateway follows within a second.")
