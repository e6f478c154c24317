"""`insource suspend`: nothing of a task is accepted any more, until somebody lifts it.

It stops and shows; what was wrong is for the person to find out. `resume` is the way back.
"""

from __future__ import annotations

from datetime import UTC, datetime

import click

from insource.cli.opening import configuration, open_registry
from insource.cli.output import emit, json_option, printable


@click.command(epilog='\b\nExample:\n  insource suspend triage --why "the refund policy changed"')
@click.argument("task")
@click.option("--why", metavar="TEXT", help="The reason, kept with the act.")
@click.option("--who", metavar="NAME", help="Who decides [your user name].")
@json_option
@click.pass_context
def command(ctx: click.Context, task: str, why: str | None, who: str | None, json_path: str | None) -> None:
    """Stop accepting TASK's requests: all of them escalate until `insource resume TASK`."""
    from insource.cli.promote import user_name

    with open_registry(configuration(ctx)) as registry:
        before = registry.suspension(task)
        standing = registry.suspend(task, who or user_name(), why or "no reason given", datetime.now(UTC))
    data = {"task": task, "changed": before is None, "since": standing.time, "who": standing.who, "why": standing.why}
    if before is None:
        lines = [f"{task} is suspended, by {standing.who}: every request escalates.",
                 "A running gateway follows within a second."]  # fmt: skip
    else:
        lines = [f"{task} is suspended already, since {standing.time:%Y-%m-%d %H:%M} UTC by {standing.who}: "
                 f"{standing.why}; nothing was changed."]  # fmt: skip
    lines.append(f"`insource resume {task}` lifts it.")
    emit(data, json_path, lambda console: console.print(printable("\n".join(lines), keep="\n"), soft_wrap=True))
