"""`insource compare`: the families and compressions that could fit a task, measured, and the one to take.

It reads the file and shows the outcome; comparing is `training.compare`'s business.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from insource.cli.output import emit, json_option
from insource.cli.prices import price, price_options
from insource.cli.promises import promise_options, promised

if TYPE_CHECKING:
    from decimal import Decimal

_EPILOG = "\b\nExample:\n  insource compare last-month.jsonl --task triage --time-budget 10m --plot choice.html"


@click.command(epilog=_EPILOG)
@click.argument("file", type=click.Path(), metavar="FILE")
@click.option("--task", "task_name", required=True, metavar="NAME", help="The task; lines may name it.")
@promise_options
@click.option("--time-budget", default="10m", show_default=True, metavar="TIME", help="Such as 90s, 10m or 1h.")
@click.option("--concurrency", type=click.IntRange(1, 256), default=1, show_default=True, metavar="N",
              help="Callers at once while the latency is measured.")  # fmt: skip
@click.option("--requests-per-month", type=click.IntRange(min=1), metavar="N",
              help="Who pay for the training [the file's rate; 100,000 where it has no times].")  # fmt: skip
@click.option("--core-hour", metavar="MONEY", help="Price of an hour of one core, without power [0.04].")
@click.option("--kilowatt-hour", metavar="MONEY", help="Price of a kilowatt-hour [0.25].")
@price_options
@click.option("--base", default="all-MiniLM-L6-v2", metavar="NAME", help="Base model: known name, folder or hub id.")
@click.option("--gold", is_flag=True, help="Learn from gold instead of the teacher's answer where there is gold.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Fixes splits and folds.")
@click.option("--plot", multiple=True, metavar="FILE", help="Draw it to FILE.html or FILE.png.")
@click.option("--skip-bad", is_flag=True, help="Leave out lines that cannot be read, and count them.")
@json_option
@click.pass_context
def command(ctx: click.Context, /, file: str, task_name: str, json_path: str | None, **chosen: Any) -> None:
    """Train and measure what could fit a task, and recommend one, with the reason and what would change it.

    Every version is certified and registered as a candidate, so that any of them can be promoted. What does not fit in
    the time is left out, what cannot win is dropped early; both are told. The cost counts what a version escalates, at
    the upstream's prices (--price-in, --price-out or the configuration's).
    """
    started = time.monotonic()
    from insource.cli.comparison.plots import check_plots, write_plots
    from insource.cli.comparison.show import show
    from insource.cli.comparison.upstream import prices_of
    from insource.cli.opening import configuration, open_artifacts, open_registry
    from insource.cli.progress import Bars
    from insource.governance.energy import open_energy
    from insource.traffic import examples_of_task, read
    from insource.training.compare import Options, compare
    from insource.training.comparing.time_budget import seconds_of
    from insource.training.run import Workshop
    from insource.training.trunks import TrunkRoom

    options = Options(seconds_of(chosen["time_budget"]), chosen["concurrency"], chosen["seed"], chosen["base"],
                      chosen["gold"])  # fmt: skip
    plots = check_plots(chosen["plot"])
    asked: dict[str, Any] = {
        "given": (price(chosen["price_in"], "in"), price(chosen["price_out"], "out")),
        "currency": chosen["currency"],
        "core_hour": _amount(chosen["core_hour"], "--core-hour"),
        "kilowatt_hour": _amount(chosen["kilowatt_hour"], "--kilowatt-hour"),
        "requests_per_month": chosen["requests_per_month"],
    }
    config, energy = configuration(ctx), open_energy()
    task = promised(config, task_name, chosen)
    with Bars() as bars, open_registry(config) as registry:
        traffic = read(file, skip_bad=chosen["skip_bad"], progress=bars.say("reading"))
        _, examples = examples_of_task(traffic, task_name)
        prices = prices_of(config, task, examples, lambda seconds: energy.of_local(seconds).value, **asked)
        artifacts = open_artifacts(config)
        shop = Workshop(config.home, registry, artifacts, TrunkRoom(config.home, artifacts, bars.say), bars.say, _now)
        result = compare(examples, task, options, prices, shop, started=started).to_json()
    result |= {"skipped": traffic.skipped, "energy": energy.of_local(1.0).method}
    emit(result, json_path, lambda console: show(console, result))
    write_plots(result, plots)


def _amount(text: str | None, flag: str) -> Decimal | None:
    """Return a flag's amount of money, None where it is not given; raise UserError for what is no such amount."""
    from decimal import Decimal, InvalidOperation

    from insource.errors import UserError

    if text is None:
        return None
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or amount < 0:
        raise UserError(f"{flag} is {text!r}; an amount of at least 0 was expected, such as 0.04.")
    return amount


def _now() -> Any:
    from datetime import UTC, datetime

    return datetime.now(UTC)
