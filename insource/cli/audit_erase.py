"""`insource audit erase`: erases all texts about a subject, and names the specialists that learned from them.

It asks before it does, on a terminal, and says what is left to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from insource.cli.opening import configuration, open_registry
from insource.cli.output import emit, json_option, printable

if TYPE_CHECKING:
    from rich.console import Console

    from insource.governance.erasure import Erased, Traces


@click.command("erase", epilog='\b\nExample:\n  insource audit erase --subject customer-81 --why "request of 3 May"')
@click.option("--subject", required=True, metavar="NAME", help="Whom the texts are about, as the requests name it.")
@click.option("--who", metavar="NAME", help="Who decides [your user name].")
@click.option("--why", required=True, metavar="TEXT", help="The reason, kept with the act; do not name the subject.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_context
def erase(ctx: click.Context, subject: str, who: str | None, why: str, yes: bool, json_path: str | None) -> None:
    """Erase all texts about a subject, for good: in the ledger, the review queue, training snapshots and backups.

    A request's subject is its header x-insource-subject, its field "user" or "safety_identifier", or
    "metadata.user_id". The subject's key is destroyed, under which its texts are sealed everywhere. The ledger's rows
    stay, hold no text, and are proved as before. What a specialist has learned stays in it: those that did are named.
    """
    from datetime import UTC, datetime

    from insource.cli.answered import hand_over
    from insource.cli.promote import user_name
    from insource.cli.review import watched
    from insource.errors import UserError
    from insource.governance import erasure

    if not subject.strip():
        raise UserError("--subject is blank; the name that requests carry was expected.")
    if subject in why:
        raise UserError("--why names the subject, and it is kept for good; a reason without the name was expected, "
                        "such as a ticket's number.")  # fmt: skip
    config = configuration(ctx)
    with open_registry(config) as registry:
        if not yes and json_path is None and watched():
            found = erasure.traces(config.home, registry, subject)
            emit({}, None, lambda console: _show(console, found))
            click.confirm("Erase all of it, for good?", abort=True)
        done = erasure.erase(config.home, registry, subject, who or user_name(), why, datetime.now(UTC))
        if (waits := hand_over(config, registry)) is not None:
            click.echo(f"note: {waits}", err=True)
    emit(_row(done), json_path, lambda console: _show_done(console, done))


def _row(done: Erased) -> dict[str, Any]:
    found = done.traces
    return {
        "id": done.id,
        "texts": found.texts,
        "reviews": list(done.reviews),
        "snapshots": found.snapshots,
        "held_out": done.held_out,
        "caches": list(done.caches),
        "learned": [{"name": each.name, "stage": each.stage, "digest": each.digest} for each in found.learned],
    }


def _show(console: Console, found: Traces) -> None:
    told = f"There are {found.texts:,} texts or digests in the ledger, {sum(found.snapshots.values()):,} rows in " \
           f"{len(found.snapshots)} snapshots."  # fmt: skip
    console.print(told, soft_wrap=True)


def _show_done(console: Console, done: Erased) -> None:
    found = done.traces
    console.print(
        f"Erased, as subject {done.id}: {found.texts:,} texts or digests in the ledger, {len(done.reviews)} reviews, "
        f"{sum(found.snapshots.values()):,} rows in {len(found.snapshots)} snapshots.",
        soft_wrap=True,
    )
    console.print("No text of it that comes within ten minutes from now is kept; later requests are kept as before.",
                  soft_wrap=True)  # fmt: skip
    if not found.learned:
        console.print("No specialist learned from it.")
        return
    console.print("These learned from it, and keep what they learned until they are trained again:")
    for each in found.learned:
        console.print(printable(f"  {each.name}  {each.stage}"))
    tasks = " ".join(dict.fromkeys(each.task for each in found.learned if each.stage in ("active", "canary", "shadow")))
    if tasks:
        console.print(f"In use: train {tasks} again (`insource learn`, or `insource train` with a file without it).",
                      soft_wrap=True)  # fmt: skip
