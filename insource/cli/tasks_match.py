"""`insource tasks match FILE`: which requests of a traffic file would belong to which task, and why.

It counts and shows; what matches is decided by the gateway's own matcher.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from insource.cli.opening import configuration, open_registry
from insource.cli.output import emit, json_option, printable, table

if TYPE_CHECKING:
    from rich.console import Console

    from insource.cascade.match import Matcher
    from insource.config import Config
    from insource.types import Example

SHOWN = 10
_PASTED = 400
_HEAD = 60
_EPILOG = "\b\nExample:\n  insource tasks match last-month.jsonl"


@click.command("match", epilog=_EPILOG, short_help="Say which requests of a file would belong to which task.")
@click.argument("file", type=click.Path(), metavar="FILE")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Read only the first N requests.")
@click.option("--skip-bad", is_flag=True, help="Leave out lines that cannot be read, and count them.")
@json_option
@click.pass_context
def match(ctx: click.Context, file: str, limit: int | None, skip_bad: bool, json_path: str | None) -> None:
    """Say which requests of FILE would belong to which task, and why; for the others, what to set."""
    from insource.cascade.match import Matcher
    from insource.cli.progress import Bars
    from insource.traffic import read

    config = configuration(ctx)
    matcher = Matcher(_served(config).values())
    with Bars() as bars:
        traffic = read(file, skip_bad=skip_bad, progress=bars.say("reading"), limit=limit)
        matched, unmatched = _sorted_out(matcher, traffic.examples, bars.say("matching"))
    unmatched.sort(key=lambda group: -group["requests"])
    seen = {row["task"] for row in matched}
    data = {
        "file": file,
        "requests": len(traffic.examples),
        "skipped": traffic.skipped,
        "matched": matched,
        "without_requests": sorted(task.name for task in matcher.tasks if task.name not in seen),
        "unmatched": unmatched,
    }
    emit(data, json_path or (ctx.parent.params.get("json_path") if ctx.parent else None), lambda c: _show(c, data))


def _served(config: Config) -> dict[str, Any]:
    """The tasks that `insource serve` would serve: those configured, and those with an active version."""
    from insource.types import Task

    with open_registry(config) as registry:
        active = {name: Task(name) for name in registry.tasks() if registry.active(name)}
    return active | dict(config.tasks)


def _sorted_out(
    matcher: Matcher, examples: Sequence[Example], report: Any
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of what matched, by task and reason, and the groups of what did not."""
    from insource.cli.unmatched import Groups
    from insource.errors import UnknownTask

    rows: dict[tuple[str, str], dict[str, Any]] = {}
    groups = Groups(matcher.tasks)
    for number, example in enumerate(examples):
        try:
            found = matcher.match(example.request)
        except UnknownTask as error:
            groups.add(example.request, str(error))
            continue
        if found is None:
            groups.add(example.request)
        else:
            fresh = {"task": found.task.name, "by": found.by, "requests": 0, "example": example.request.id}
            rows.setdefault((found.task.name, found.by), fresh)["requests"] += 1
        if number % 1_000 == 0:
            report(number, len(examples))
    return sorted(rows.values(), key=lambda row: (row["task"], -row["requests"])), groups.rows()


def _show(console: Console, data: Mapping[str, Any]) -> None:
    unmatched = sum(group["requests"] for group in data["unmatched"])
    skipped = f", {data['skipped']:,} lines skipped" if data["skipped"] else ""
    console.print(f"{data['file']}: {data['requests']:,} requests, {unmatched:,} of them belong to no task{skipped}")
    cells = [(row["task"], row["by"], f"{row['requests']:,}", row["example"]) for row in data["matched"]]
    cells += [(name, None, "0", None) for name in data["without_requests"]]
    if cells:
        console.print(table(None, ("task", "matched by", "requests", "for example"), cells))
    if not data["unmatched"]:
        return
    console.print(table("What belongs to no task", ("requests", "model", "system prompt", "schema", "for example"),
                        map(_cells, data["unmatched"][:SHOWN])))  # fmt: skip
    if len(data["unmatched"]) > SHOWN:
        console.print(f"... and {len(data['unmatched']) - SHOWN:,} more groups in --json")
    for group in data["unmatched"][:SHOWN]:
        _advise(console, group)


def _cells(group: Mapping[str, Any]) -> tuple[object, ...]:
    prompt = group["system_prompt"]
    if prompt is not None:
        prompt = " ".join(prompt[:_HEAD].split()) + ("..." if len(prompt) > _HEAD else "")
        prompt += f" ({group['prompts']:,} different)" if group["prompts"] > 1 else ""
    return f"{group['requests']:,}", group["model"] or None, prompt, group["schema"], group["example"]


def _advise(console: Console, group: Mapping[str, Any]) -> None:
    """Print the lines that would give a group of requests to a task, ready to be pasted."""
    said: list[str] = [text for text in (group["unknown"], group["nearest"]) if text]
    for line in _lines(group["match"]):
        said.append(line if len(line) <= _PASTED else f"{line.split(' = ')[0]} = ...  (long: --json has it whole)")
    if said:
        console.print(f"\n{group['example']}:")
        for text in said:
            console.print(f"  {printable(text)}", soft_wrap=True)


def _lines(match: Mapping[str, str]) -> Iterable[str]:
    """Return TOML lines for [tasks.NAME]; JSON's texts are TOML's, but for the character DEL."""
    import json

    for key, value in match.items():
        text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        yield f"match.{key} = {text}"
