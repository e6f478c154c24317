"""`insource resume`: lifts a task's suspension; what was accepted before is accepted again.

It certifies nothing anew; whether the reason is gone is the person's judgement.
"""

from __future__ import annotations

from datetime import UTC, datetime

import click

from insource.cli.opening import configuration, open_registry
from insource.cli.output import emit, json_option, printable


@click.command(epilog='\b\nExample:\n  insource resume triage --why "the new policy is learnt"')
@click.argument("task")
@click.option("--why", metavar="TEXT", help="The reason, kept with the act.")
@click.option("--who", metavar="NAME", help="Who decides [your user name].")
@json_option
@click.pass_context
def command(ctx: click.Context, task: str, why: str | None, who: str | None, json_path: str | None) -> None:
    """Accept TASK's requests again, after a suspension by a person or by what watches the risk."""
    from insource.cli.promote import user_name

    with open_registry(configuration(ctx)) as registry:
        registry.get(task)  # raises UnknownTask
        before, active = registry.suspension(task), registry.active(task)
        decider = who or user_name()
        lifted = registry.resume(task, decider, why or "no reason given", datetime.now(UTC))
    data = {"task": task, "changed": lifted, "who": decider, "why": why, "active": active and active.version}
    if not lifted:
        told = f"{task} is not suspended; nothing was changed."
    else:
        since = f", which stood since {before.time:%Y-%m-%d %H:%M} UTC ({before.why})" if before else ""
        serves = f"{active.name} accepts again" if active else "no version is active, so every request goes up"
        told = f"The suspension of {task}{since} is lifted, by {decider}: {serves}."
    emit(data, json_path, lambda console: console.print(printable(told), soft_wrap=True))
