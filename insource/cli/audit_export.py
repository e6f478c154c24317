"""`insource audit prove` and `export`: one request, or a span of time, as a file that a stranger can check.

They write what `store.proof.proving` makes; what it proves is for the verifier to say.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from insource.cli.opening import configuration
from insource.cli.output import printable, to_json
from insource.cli.progress import Bars

if TYPE_CHECKING:
    from datetime import datetime

_OUT = click.Path(path_type=Path, dir_okay=False, writable=True)


@click.command("prove", epilog="\b\nExample:\n  insource audit prove req-7f3a --out proof.json")
@click.argument("request_id")
@click.option("--out", type=_OUT, metavar="FILE", help="Write it there instead of to standard output.")
@click.pass_context
def prove(ctx: click.Context, request_id: str, out: Path | None) -> None:
    """Write all rows about REQUEST_ID with their proofs and the signed checkpoint, as JSON."""
    from insource.store.proof.proving import Prover
    from insource.store.sync import replacing

    with Prover(configuration(ctx).home) as prover:
        data = prover.prove(request_id)
    text = to_json(data)
    if out is None:
        click.echo(text)
        return
    with replacing(out.absolute()) as file:
        file.write(text.encode() + b"\n")
    rows = ", ".join(f"{row['index'] + 1:,}" for row in data["rows"])
    click.echo(printable(f"{out}: rows {rows} about {request_id}. `python verify_ledger.py {out}` checks it."))


@click.command(
    "export", epilog="\b\nExample:\n  insource audit export --from 2026-11-01 --to 2026-12-01 --out nov.jsonl"
)
@click.option("--from", "since", metavar="TIME", help="From then on: 7d, 24h, or an ISO date [the first row].")
@click.option("--to", "until", metavar="TIME", help="Before then [the last row].")
@click.option("--out", type=_OUT, required=True, metavar="FILE", help="The file to write.")
@click.option("--with-contents", is_flag=True, help="With the texts that are kept; without, only their digests.")
@click.pass_context
def export(ctx: click.Context, since: str | None, until: str | None, out: Path, with_contents: bool) -> None:
    """Write all rows of a span of time, proved to be whole and unchanged, into one file."""
    from insource.store.proof.proving import Prover
    from insource.store.sync import replacing

    first, behind = moment_of(since), moment_of(until)
    with Bars() as bars, Prover(configuration(ctx).home) as prover:
        span = prover.span(first, behind)
        with replacing(out.absolute()) as file:
            for line in prover.export(span, contents=with_contents, report=bars.say("rows")):
                file.write(line)
        size = prover.checkpoint.size
    click.echo(f"{out}: rows {span.first:,} to {span.last:,} of {size:,} signed ones. "
               f"`python verify_ledger.py {out}` checks it.")  # fmt: skip


def moment_of(text: str | None) -> datetime | None:
    """Return the time that an option names, None where it is not given. Raises UserError."""
    from datetime import UTC, datetime

    from insource.cli.report import parse_since

    return None if text is None else parse_since(text, datetime.now(UTC))
