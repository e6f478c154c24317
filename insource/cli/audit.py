"""`insource audit`: proves what the ledger says, checks it from its bytes, and hands it to strangers.

Each subcommand stands in a file of its own.
"""

from __future__ import annotations

import click

from insource.cli.audit_erase import erase
from insource.cli.audit_export import export, prove
from insource.cli.audit_key import checkpoint, key, verifier
from insource.cli.audit_reconcile import reconcile
from insource.cli.audit_show import show
from insource.cli.audit_verify import verify


@click.group(epilog="\b\nExample:\n  insource audit verify")
def command() -> None:
    """Check the ledger from its bytes, and prove to others what it says."""


for each in (verify, show, prove, export, checkpoint, key, verifier, reconcile, erase):
    command.add_command(each)
