"""`insource backup`: copies a home, beside a running gateway, into a folder that appears checked or not at all.

What goes in, and what never does, is `store.backup`'s business; this names the folder, and records who did it.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from insource.cli.opening import configuration, open_registry
from insource.cli.output import emit, json_option, printable
from insource.cli.progress import Bars
from insource.errors import UserError

if TYPE_CHECKING:
    from insource.store.backup import Backup


@click.command(epilog="\b\nExample:\n  insource backup --to /mnt/elsewhere/insource-monday")
@click.option("--to", "folder", type=click.Path(path_type=Path), required=True, metavar="DIR",
              help="A folder that does not exist yet, or an empty one, outside the home.")  # fmt: skip
@click.option("--why", metavar="TEXT", help="The reason, kept with the act.")
@click.option("--who", metavar="NAME", help="Who decides [your user name].")
@json_option
@click.pass_context
def command(ctx: click.Context, folder: Path, why: str | None, who: str | None, json_path: str | None) -> None:
    """Copy ledger, proofs, registry, artifacts and settings to DIR, and check the copy; a gateway may run meanwhile.

    The keys of kept texts are not in it: who restores it reads texts only where content_keys.db is, and what was erased
    stays erased. The key that signs proofs is not in it either. Copied to an empty home it serves.
    """
    from insource.cli.promote import user_name
    from insource.store import backup
    from insource.store.columns import Act
    from insource.training.exporting.appearing import check_free, write_folder

    config, now = configuration(ctx), datetime.now(UTC)
    check_free(folder)
    folder = folder.resolve()
    if folder.is_relative_to(config.home.resolve()):
        raise UserError(f"--to {folder} lies in the home that is to be backed up; a folder outside it, best on another "
                        "disk, was expected. Name another.")  # fmt: skip
    with Bars() as bars:
        made = write_folder(folder, {}, lambda draft: backup.back_up(
            config.home, draft, settings=config.path, now=now, say=bars.say))  # fmt: skip
    with open_registry(config) as registry:
        detail = f"{made.rows:,} rows, {backup.MANIFEST} {made.sha256}; {why or 'no reason given'}"
        registry.post_act(Act(datetime.now(UTC), who or user_name(), backup.ACT, folder.name, detail))
    data = {"folder": folder, **asdict(made)}
    emit(data, json_path, lambda console: console.print(printable(_told(folder, made), keep="\n"), soft_wrap=True))


def _told(folder: Path, made: Backup) -> str:
    lines = [f"{folder}: {made.rows:,} rows of the ledger, as they were written ({made.signed:,} signed); "
             f"{made.versions:,} versions, {made.artifacts:,} artifacts; {made.files:,} files, {made.bytes:,} bytes.",
             "Not in it: content_keys.db, without which nobody reads a kept text in it, and "
             "the key that signs proofs."]  # fmt: skip
    if made.missing:
        lines.append(f"The home has no artifact of {', '.join(made.missing)}.")
    return "\n".join(lines)
