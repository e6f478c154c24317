"""`insource audit key`, `checkpoint` and `verifier`: what a stranger needs to check a proof.

They print and copy; a new key is an act in the ledger.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from insource.cli.opening import configuration
from insource.errors import UserError

if TYPE_CHECKING:
    from insource.config import Config
    from insource.store.ledger import Ledger

_OUT = click.Path(path_type=Path, dir_okay=False, writable=True)


@click.command("key", epilog="\b\nExample:\n  insource audit key > our-key.txt")
@click.option("--rotate", is_flag=True, help="Sign with a new key from now on; the gateway must not run.")
@click.option("--who", metavar="NAME", help="Who decides [your user name]; with --rotate.")
@click.option("--why", metavar="TEXT", help="The reason, kept with the act; with --rotate.")
@click.pass_context
def key(ctx: click.Context, rotate: bool, who: str | None, why: str | None) -> None:
    """Print the public key that checks what this ledger signs; give it to those who shall check."""
    from insource.store.proof.proving import Prover

    config = configuration(ctx)
    if rotate:
        from insource.cli.promote import user_name

        if not why:
            raise click.UsageError("--rotate is an act: it needs --why TEXT.")
        with open_ledger(config) as ledger:
            click.echo(str(ledger.keeper.rotate(who or user_name(), why, ledger.record)))
        return
    with Prover(config.home) as prover:
        found = prover.key()
    click.echo(found or "")


@click.command("checkpoint", epilog="\b\nExample:\n  insource audit checkpoint --out /mnt/elsewhere/checkpoint.txt")
@click.option("--out", type=_OUT, metavar="FILE", help="Write it there instead of to standard output.")
@click.pass_context
def checkpoint(ctx: click.Context, out: Path | None) -> None:
    """Print the checkpoint that was signed last; kept elsewhere, it shows if anything was cut off or replaced."""
    from insource.store.proof.folder import write_note
    from insource.store.proof.proving import Prover

    with Prover(configuration(ctx).home) as prover:
        note, size = prover.note, prover.checkpoint.size
    if out is None:
        click.echo(note, nl=False)
        return
    write_note(out.absolute(), note)
    click.echo(f"{out}: the checkpoint of {size:,} rows. Keep it where this machine's owner cannot change it.")


@click.command("verifier", epilog="\b\nExample:\n  insource audit verifier --out verify_ledger.py")
@click.option("--out", type=_OUT, required=True, metavar="FILE", help="The file to write.")
def verifier(out: Path) -> None:
    """Write the verifier: one file of plain Python that checks proofs, exports and ledgers without insource."""
    from importlib.resources import files

    text = (files("insource.governance.verifier") / "verify_ledger.py").read_text("utf-8")
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error.strerror}). Name a file in a folder that exists.") from error
    click.echo(f"{out}: run it as `python {out} FILE`; it needs Python alone.")


def open_ledger(config: Config) -> Ledger:
    """Become the ledger's writer under the configuration. Raises StoreBusy beside a running gateway, StoreError."""
    from insource.store.ledger import FILE, Ledger

    if not (config.home / FILE).is_file():
        raise UserError(f"There is no ledger in {config.home}; one that `insource serve` wrote was expected.")
    store = config.store
    return Ledger.open(
        config.home, clock=lambda: datetime.now(UTC), retention_days=store.retention_days, witness=store.witness
    )
