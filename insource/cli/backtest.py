"""`insource backtest`: what would have been saved, at which risk, had insource been there.

It reads the file and shows the figures; replaying is the lifecycle's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from insource.cli.output import emit, json_option
from insource.cli.prices import price, price_options
from insource.cli.promises import promise_options, promised

if TYPE_CHECKING:
    from rich.console import Console

_EPILOG = "\b\nExample:\n  insource backtest last-month.jsonl --target-risk 0.05 --price-in 2.5 --price-out 10"
_BLOCKS = " ▁▂▃▄▅▆▇█"


@click.command(epilog=_EPILOG)
@click.argument("file", type=click.Path(), metavar="FILE")
@click.option("--task", "task_name", metavar="NAME", help="The task; by default the lines' own, or one for the file.")
@promise_options
@click.option("--audit-rate", type=float, metavar="R", help="Calls for audits, as a share of requests [0.05].")
@click.option("--budget", type=int, metavar="N", help="At most N upstream calls in all, instead of a target.")
@click.option("--warmup", type=int, metavar="N", help="Requests before the first version [max(600, 30/target)].")
@click.option("--family", default="auto", metavar="NAME",
              help="linear, static, two-tier, encoder-frozen or auto [auto].")  # fmt: skip
@click.option("--base", default="all-MiniLM-L6-v2", metavar="NAME", help="Base model: known name, folder or hub id.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Fixes coin, splits and folds.")
@price_options
@click.option("--lifecycle", is_flag=True, help="Replay stages, rollbacks, suspensions and retraining, too.")
@click.option("--timeline", multiple=True, metavar="FILE", help="With --lifecycle: draw it to FILE.html or FILE.png.")
@click.option("--new-answers", is_flag=True, help="With --lifecycle: learn answers that turn up later, too.")
@click.option("--skip-bad", is_flag=True, help="Leave out lines that cannot be read, and count them.")
@json_option
@click.pass_context
def command(ctx: click.Context, /, file: str, task_name: str | None, json_path: str | None, **chosen: Any) -> None:
    """Replay FILE in its order through shadow, training, certification and serving. Offline; needs no key."""
    import asyncio

    from insource.cli.backtest_lifecycle import check_timelines, ended_in_order, write_timelines
    from insource.cli.opening import configuration, open_artifacts
    from insource.cli.progress import Bars
    from insource.lifecycle.backtest import Options, Prices, backtest
    from insource.traffic import examples_of_task, read
    from insource.training.trunks import TrunkRoom

    _check(chosen)
    whole, new_answers = chosen["lifecycle"], chosen["new_answers"]
    timelines = check_timelines(chosen["timeline"], lifecycle=whole, new_answers=new_answers)
    config = configuration(ctx)
    prices = Prices(price(chosen["price_in"], "in"), price(chosen["price_out"], "out"), chosen["currency"])
    with Bars() as bars:
        traffic = read(file, skip_bad=chosen["skip_bad"], progress=bars.say("reading"))
        name, examples = examples_of_task(traffic, task_name)
        options = Options(chosen["family"], chosen["seed"], chosen["budget"], chosen["warmup"], prices, chosen["base"])
        room, task = TrunkRoom(config.home, open_artifacts(config), bars.say), promised(config, name, chosen)
        told: dict[str, Any] = {"room": room, "say": bars.say, "skipped": traffic.skipped}
        if whole:
            from insource.lifecycle.rehearsal_report import rehearse

            with ended_in_order():
                rehearsed = rehearse(examples, task, options, new_answers=new_answers, **told)
                result = asyncio.run(rehearsed).to_json()
        else:
            result = asyncio.run(backtest(examples, task, options, **told)).to_json()
    emit(result, json_path, lambda console: show(console, result))
    write_timelines(result, timelines)


def _check(chosen: dict[str, Any]) -> None:
    from insource.errors import UserError

    if chosen["budget"] is not None and chosen["target_risk"] is not None:
        raise UserError("--budget stands instead of --target-risk; one of the two was expected. Drop one.")
    if chosen["budget"] is not None and chosen["lifecycle"]:
        raise UserError("--budget stands instead of a promise, and --lifecycle keeps one; one was expected. Drop one.")
    if chosen["warmup"] is not None and chosen["warmup"] < 1:
        raise UserError(f"--warmup is {chosen['warmup']}; at least 1 request was expected.")


def show(console: Console, result: dict[str, Any]) -> None:
    """Print a backtest's figures."""
    from insource.cli.backtest_lifecycle import lifecycle_rows, show_lifecycle
    from insource.cli.output import percent, table

    whole = result.get("lifecycle", False)
    rows = [*_rows(result), *(lifecycle_rows(result) if whole else ())]
    console.print(table(f"backtest of {result['task']}", ("", ""), rows))
    answers = sorted(result["per_answer"], key=lambda row: -row["rows"])[:10]
    console.print(
        table(
            None,
            ("answer", "requests", "accepted", "missed", "missed at most"),
            [
                (row["answer"], f"{row['rows']:,}", f"{row['accepted']:,}", row["missed"],
                 percent(row["missed_upper_bound"]))
                for row in answers
            ],
        )
    )  # fmt: skip
    if len(result["per_answer"]) > len(answers):
        console.print(f"({len(result['per_answer']) - len(answers)} more answers in --json)")
    if whole:
        show_lifecycle(console, result)
    else:
        _show_versions(console, result)
    for note in result["versions"][-1]["notes"] if result["versions"] else ():
        console.print(f"note (last version): {note}")
    console.print(f"coverage over time  |{_bars([window['coverage'] for window in result['timeline']])}|  0 to 100 %")


def _show_versions(console: Console, result: dict[str, Any]) -> None:
    from insource.cli.output import percent, table

    console.print(
        table(
            None,
            ("version", "from request", "family", "evidence", "certifies"),
            [
                (number, f"{version['at']:,}", version["family"], f"{version['evidence']:,}",
                 percent(version["certified_coverage"]))
                for number, version in enumerate(result["versions"], 1)
            ],
        )
    )  # fmt: skip


def _rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    from decimal import Decimal

    from insource.cli.output import money, percent

    risk, cost, accuracy = result["risk"], result["cost"], result["accuracy"]
    total, calls = result["requests"], result["upstream_calls"]
    held = "held" if risk["held"] else "NOT held"
    left = [f"{result[key]:,} {told}" for key, told in _LEFT_OUT if result[key]]
    rows = [
        ("requests", f"{total:,}" + (f" (left out: {', '.join(left)})" if left else "")),
        ("shadow period", f"{result['warmup']:,} requests, all sent upstream"),
        _coverage(result),
        ("upstream calls", f"{calls:,} of {total:,} ({percent(calls / total)}), {result['audited']:,} audited by coin"),
        ("risk", f"{percent(risk['realised'])} of accepted answers differ from the reference; at most "
                 f"{percent(risk['upper_bound'])} at confidence {result['confidence_level']:g}"),
        ("promise", f"at most {percent(result['target_risk'])}: {held}"),
        ("agreement", f"{percent(result['agreement'])} of all answers agree with the reference"),
    ]  # fmt: skip
    if accuracy["insource"] is not None:
        against = f"insource {percent(accuracy['insource'])}, upstream alone {percent(accuracy['upstream'])}"
        rows.append(("accuracy against gold", against))
    if result["budget"] is not None:
        rows.append(("budget", f"{result['budget']:,} calls"))
    if cost["currency"] is not None:
        paid, alone = Decimal(cost["insource"]), Decimal(cost["upstream_only"])
        rows.append(("money", f"{money(paid, cost['currency'])} instead of {money(alone, cost['currency'])}"))
    else:
        rows.append(("money", "unknown: give --price-in and --price-out"))
    return [*rows, ("took", f"{result['seconds']:.1f} s, seed {result['seed']}")]


def _coverage(result: dict[str, Any]) -> tuple[str, str]:
    from insource.cli.output import percent

    if result["budget"] is None:
        return "coverage", f"{percent(result['coverage'])} accepted ({result['accepted']:,})"
    spent = result["budget_spent"]
    return "answered here", f"{percent(spent / result['requests'])} ({spent:,}), under a budget instead of a promise"


_LEFT_OUT = (("skipped", "bad lines"), ("unlabelled", "without a reference"), ("textless", "without text"))


def _bars(shares: list[float]) -> str:
    return "".join(_BLOCKS[round(share * (len(_BLOCKS) - 1))] for share in shares)
