"""`insource discover`: which tasks a log holds, what each is worth, and the section of insource.toml for it.

It reads the log and shows the proposals; finding them is `training.discovery`'s business, and what a section matches
the gateway's own matcher says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from insource.cli.output import emit, json_option, percent, printable, table
from insource.cli.prices import price, price_options
from insource.cli.promises import promised

if TYPE_CHECKING:
    from rich.console import Console

    from insource.config import Config
    from insource.training.discovery import Discovery, Prices
    from insource.types import Example, Request

SHOWN = 10
_PASTED = 2_000
_EPILOG = "\b\nExample:\n  insource discover last-month.jsonl --price-in 2.5 --price-out 10 --write tasks"


@click.command(epilog=_EPILOG)
@click.argument("file", type=click.Path(), metavar="[FILE]", required=False)
@click.option("--target-risk", type=float, metavar="R", help="Risk that the expected coverage is certified for [0.05].")
@click.option("--confidence", type=float, metavar="P", help="Confidence level of that [0.95].")
@price_options
@click.option(
    "--write",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Write each task's requests to FOLDER/TASK.jsonl, to train and backtest with.",
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Read only the first N requests.")
@click.option("--skip-bad", is_flag=True, help="Leave out lines that cannot be read, and count them.")
@json_option
@click.pass_context
def command(ctx: click.Context, /, file: str | None, json_path: str | None, **chosen: Any) -> None:
    """Find the tasks in FILE (JSON lines, plain or .gz), or without FILE in the ledger's recorded requests.

    Requests are grouped by what is constant in them: system prompt, template, tools, response schema. A group whose
    answers come from a closed set, or are JSON with the same fields, is proposed as a task. Nothing leaves this
    machine, and only --write and --json write anything.
    """  # fmt: skip
    from insource.cli.opening import configuration
    from insource.cli.progress import Bars
    from insource.training.develop import Promise
    from insource.training.discovery import discover

    config = configuration(ctx)
    task = promised(config, "discovered", chosen)
    with Bars() as bars:
        examples, skipped = _examples(config, file, chosen, bars.say("reading"))
        found = discover(
            examples,
            schema_of=schema_key,
            promise=Promise(task.target_risk, task.confidence_level, {}),
            say=bars.say,
            prices=_prices(config, chosen),
            taken=frozenset(config.tasks),
        )
        checked = _checked(found, examples, bars.say("checking the sections"))
        if chosen["folder"] is not None:
            _write(found, examples, chosen["folder"], bars.say("writing"))
    result = {"source": file or "ledger", "skipped": skipped, **found.to_json()}
    for proposal, matched in zip(result["proposals"], checked, strict=True):
        proposal.update(matched)
    emit(result, json_path, lambda console: show(console, result))


def schema_key(request: Request) -> str | None:
    """Return the schema a request asks for as `match.schema` takes it: its digest, else its name."""
    from insource.cascade.schema import digest, schema_of

    wanted = schema_of(request)
    if wanted is None:
        return None
    found = digest(wanted.schema) if wanted.schema is not None else None
    return found or wanted.name


def _examples(
    config: Config, file: str | None, chosen: Mapping[str, Any], report: Any
) -> tuple[Sequence[Example], int]:
    from insource.cli.discover_ledger import recorded
    from insource.traffic import read

    if file is None:
        return recorded(config.home, report, chosen["limit"]), 0
    traffic = read(file, skip_bad=chosen["skip_bad"], progress=report, limit=chosen["limit"])
    return traffic.examples, traffic.skipped


def _prices(config: Config, chosen: Mapping[str, Any]) -> Prices:
    """Return the prices given, else those of the default upstream."""
    from insource.training.discovery import Prices

    given = price(chosen["price_in"], "in"), price(chosen["price_out"], "out")
    upstream = config.default_upstream
    if given == (None, None) and upstream is not None:
        return Prices(upstream.price_in, upstream.price_out, upstream.currency)
    return Prices(*given, chosen["currency"])


def _checked(found: Discovery, examples: Sequence[Example], report: Any) -> list[dict[str, int]]:
    """Return for each proposal how many of its requests its section matches, and how many others, by the matcher."""
    from insource.cascade.match import Matcher
    from insource.errors import UnknownTask
    from insource.types import Task

    matcher = Matcher([Task(proposal.name, match=proposal.claims.match) for proposal in found.proposals])
    place = {proposal.name: number for number, proposal in enumerate(found.proposals)}
    owner = {int(row): number for number, proposal in enumerate(found.proposals)
             for wording in proposal.wordings for row in wording.rows}  # fmt: skip
    counts = [{"section_matches": 0, "section_matches_others": 0} for _ in found.proposals]
    for row, example in enumerate(examples):
        if row % 5_000 == 0:
            report(row, len(examples))
        try:
            matched = matcher.match(example.request)
        except UnknownTask:
            continue
        if matched is not None:
            number = place[matched.task.name]
            counts[number]["section_matches" if owner.get(row) == number else "section_matches_others"] += 1
    report(len(examples), len(examples))
    return counts


def _write(found: Discovery, examples: Sequence[Example], folder: Path, report: Any) -> None:
    """Write each proposal's requests, in the log's order, as insource's own lines."""
    from insource.errors import UserError
    from insource.traffic import write

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be made ({error.strerror}); a folder was expected. Choose another."
        ) from error
    for number, proposal in enumerate(found.proposals):
        report(number, len(found.proposals))
        rows = sorted(int(row) for wording in proposal.wordings for row in wording.rows)
        write(folder / f"{proposal.name}.jsonl", _lines(rows, examples))
    report(len(found.proposals), len(found.proposals))


def _lines(rows: Sequence[int], examples: Sequence[Example]) -> Iterator[dict[str, Any]]:
    for row in rows:
        example = examples[row]
        messages = [{"role": message.role, "content": message.content} for message in example.request.messages]
        line = {"messages": messages, "answer": example.answer, "gold": example.gold, "time": example.time,
                "group": example.group}  # fmt: skip
        yield {key: value for key, value in line.items() if value is not None}


def show(console: Console, result: Mapping[str, Any]) -> None:
    """Print what was found: a table, the learning curves, what is left, and the sections to paste."""
    proposals, left = result["proposals"], result["left"]
    skipped = f", {result['skipped']:,} lines skipped" if result["skipped"] else ""
    said = "1 proposed task" if len(proposals) == 1 else f"{len(proposals):,} proposed tasks"
    console.print(f"{result['source']}: {result['requests']:,} requests, {said}{skipped}")
    if proposals:
        columns = ("task", "requests", "share", "a day", "spend", "answers", "asked again", "accuracy", "coverage")
        console.print(table(None, columns, map(_cells, proposals)))
        console.print(table("How accuracy grows with rows (linear, on rows held out; in brackets: always the usual "
                            "answer)", ("task", ""), [(each["task"], _curve(each)) for each in proposals]))  # fmt: skip
    if left:
        rows = [(f"{each['requests']:,}", percent(each["share"]), each["why"], _told(each["wording"]),
                 each["wording"]["example"]) for each in left[:SHOWN]]  # fmt: skip
        console.print(table("Not proposed", ("requests", "share", "why", "what is constant", "for example"), rows))
    _rest(console, result)
    for each in proposals:
        console.print(f"\n{_match(each)}")
        text = each["section"]
        shown = text if len(text) <= _PASTED else text[:_PASTED] + " ... (long: --json has it whole)"
        console.print(printable(shown, keep="\n"), soft_wrap=True)


def _rest(console: Console, result: Mapping[str, Any]) -> None:
    if len(result["left"]) > SHOWN:
        console.print(f"... and {len(result['left']) - SHOWN:,} more groups in --json")
    if result["rare"]:
        console.print(f"Requests in groups of fewer than {result['support']:,}, too few to tell: {result['rare']:,}.")
    if result["textless"]:
        console.print(f"Requests without a text of a user: {result['textless']:,}.")
    if not result["proposals"]:
        console.print(f"No task is proposed: {result['support']:,} requests alike, with answers from a closed set or "
                      "with the same JSON fields, were expected. Bring a longer log, with answers.")  # fmt: skip


def _cells(each: Mapping[str, Any]) -> tuple[object, ...]:
    from insource.cli.output import UNKNOWN, money

    model, differing = each["model"], each["differing"]
    spend = money(each["spend"], each["currency"])
    if each["spend"] is not None and each["priced"] < each["requests"]:
        spend += f" ({each['priced']:,} priced)"
    again = percent(each["repeated"]) + (f", {percent(differing)} differ" if differing else "")
    accuracy = UNKNOWN if model is None else percent(model["curve"][-1]["accuracy"])
    coverage = UNKNOWN if model is None else percent(model["coverage"])
    per_day = UNKNOWN if each["per_day"] is None else f"{each['per_day']:,.0f}"
    return (each["task"], f"{each['requests']:,}", percent(each["share"]), per_day, spend, _answers(each), again,
            accuracy, coverage)  # fmt: skip


def _answers(each: Mapping[str, Any]) -> str:
    if each["fields"]:
        names = ", ".join(field["name"] for field in each["fields"][:6])
        return f"{each['distinct_answers']:,}, fields: {names}"
    return f"{each['distinct_answers']:,}, {each['answer_kind']}"


def _curve(each: Mapping[str, Any]) -> str:
    model = each["model"]
    if model is None:
        return f"unknown: {each['why_not']}"
    points = " · ".join(f"{point['rows']:,} {percent(point['accuracy'])}" for point in model["curve"])
    promise = f"risk {percent(model['target_risk'])} at {model['confidence_level']:g}"
    certified = f"accepts {percent(model['coverage'])} at {promise}"
    notes = "" if model["coverage"] or not model["notes"] else f"; {model['notes'][0]}"
    return f"{points} [{percent(model['majority'])}]; {certified}, from {model['rows']:,} rows{notes}"


def _match(each: Mapping[str, Any]) -> str:
    """Say how many of the requests the section gives to the task."""
    others = each["section_matches_others"]
    extra = f", and {others:,} others" if others else ", and no others"
    ways = "1 wording" if len(each["wordings"]) == 1 else f"{len(each['wordings'])} wordings"
    return f"{each['task']}: {ways}; this section matches {each['section_matches']:,} of its requests{extra}."


def _told(wording: Mapping[str, Any]) -> str:
    parts = [(key, wording[key]) for key in ("system_prompt", "system_template", "user_template", "schema")]
    said = [f"{key.replace('_', ' ')} {' '.join(value[:40].split())!r}" for key, value in parts if value]
    said += [name for name, there in (("tools", wording["tools"]), ("earlier turns", wording["turns_before"])) if there]
    return ", ".join(said) or "nothing"
