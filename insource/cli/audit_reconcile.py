"""`insource audit reconcile`: after a restored backup or damage, has the ledger signed again, as a new log.

It records who decided and why; what was found stays on record.
"""

from __future__ import annotations

import click

from insource.cli.audit_key import open_ledger
from insource.cli.opening import configuration
from insource.cli.output import emit, json_option, printable


@click.command(
    "reconcile", epilog='\b\nExample:\n  insource audit reconcile --who ada --why "disk lost, backup of Monday"'
)
@click.option("--who", metavar="NAME", help="Who decides [your user name].")
@click.option("--why", required=True, metavar="TEXT", help="The reason, kept with the act.")
@json_option
@click.pass_context
def reconcile(ctx: click.Context, who: str | None, why: str, json_path: str | None) -> None:
    """Sign the ledger again as it is now, where the writer refuses to; the gateway must not run.

    A new log begins, with a new name and key, so that the old key never signs two histories. Checkpoints, tiles and
    key of the old one are moved aside, and who keeps checkpoints elsewhere needs the new key.
    """
    from insource.cli.promote import user_name
    from insource.errors import UserError

    who = who or user_name()
    with open_ledger(configuration(ctx)) as ledger:
        found = ledger.keeper.refusal
        if found is None:
            raise UserError("Nothing is to be reconciled: the ledger's proofs are signed. `insource audit verify` "
                            "checks it in full.")  # fmt: skip
        aside = ledger.keeper.reconcile(who, why, ledger.record)
        key = str(ledger.keeper.key)
    data = {"found": found, "who": who, "why": why, "aside": aside, "key": key}
    told = f"Found: {found}.\nThe old log lies in {aside}; a new one is signed by\n{key}\nGive it to those who check."
    emit(data, json_path, lambda console: console.print(printable(told, keep="\n")))
