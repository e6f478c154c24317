"""`insource serve-scripted`: an upstream that plays back the references of a traffic file.

It is for tests and demonstrations, and says so; nothing in it is a model.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from insource.cli.output import money
from insource.cli.progress import Bars
from insource.errors import DataError, UserError

if TYPE_CHECKING:
    from insource.backends.scripted import Price


def _amount(ctx: click.Context, parameter: click.Parameter, value: str | None) -> Decimal | None:
    """Return an exact amount of at least 0; refuse anything else."""
    if value is None:
        return None
    try:
        amount = Decimal(value)
    except ArithmeticError:
        amount = Decimal(-1)
    if not amount.is_finite() or amount < 0:
        raise click.BadParameter(f"{value!r} is no amount of at least 0, such as 0.15.")
    return amount


@click.command(epilog="\b\nExample:\n  insource serve-scripted last-month.jsonl --port 8700 --latency-ms 300")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--port", type=click.IntRange(0, 65_535), default=8700, show_default=True, help="0 takes any free one.")
@click.option("--latency-ms", type=click.FloatRange(0), default=0.0, show_default=True, help="The wait before a reply.")
@click.option("--fault-rate", type=click.FloatRange(0, 1), default=0.0, show_default=True,
              help="The share of requests that fail on purpose: a 500, a 429, a break, or silence.")  # fmt: skip
@click.option("--price-in", callback=_amount, metavar="AMOUNT", help="What a million input tokens would cost.")
@click.option("--price-out", callback=_amount, metavar="AMOUNT", help="What a million output tokens would cost.")
@click.option("--seed", type=int, default=0, show_default=True, help="Which requests the faults hit.")
@click.option("--skip-bad", is_flag=True, help="Leave out lines that cannot be read.")
def command(
    file: Path, port: int, latency_ms: float, fault_rate: float, price_in: Decimal | None, price_out: Decimal | None,
    seed: int, skip_bad: bool,
) -> None:  # fmt: skip
    """Answer chat completions from the recorded references of FILE, until SIGTERM or Ctrl-C; not a model."""
    from insource.backends.references import References
    from insource.backends.scripted import scripted_app
    from insource.gateway.server import serve_app
    from insource.traffic import read

    price = _price(price_in, price_out)
    with Bars() as bars:
        traffic = read(file, skip_bad=skip_bad, progress=bars.say(f"reading {file.name}"))
        references = References(traffic.examples)
    if not len(references):
        raise DataError(
            f"None of the {len(traffic.examples):,} requests in {file} has an answer; recorded references were "
            "expected. Give each line an \"answer\"."
        )  # fmt: skip
    app = scripted_app(references, latency_ms=latency_ms, price=price, fault_rate=fault_rate, seed=seed)

    def announce(url: str) -> None:
        click.echo("scripted upstream: answers from recorded references; not a model")
        click.echo(f"listens on {url}/v1 (loopback only), knows {len(references):,} texts of {file}")
        if traffic.skipped:
            click.echo(f"left out: {traffic.skipped:,} lines that could not be read")
        click.echo(f"latency {latency_ms:g} ms, faults {fault_rate:g}, seed {seed}; Ctrl-C stops it")

    serve_app(app, "127.0.0.1", port, announce)
    invoice = app.state.invoice
    tokens = f"{invoice.prompt_tokens:,} tokens in, {invoice.completion_tokens:,} out (estimated)"
    charged = "no price" if invoice.cost is None else f"would have cost {money(invoice.cost)}"
    click.echo(f"answered {invoice.requests:,} requests, {invoice.faults:,} faults; {tokens}; {charged}")


def _price(price_in: Decimal | None, price_out: Decimal | None) -> Price | None:
    from insource.backends.scripted import Price

    if price_in is None and price_out is None:
        return None
    if price_in is None or price_out is None:
        raise UserError("One of --price-in and --price-out was given; both were expected. Add the other.")
    return Price(price_in, price_out)
