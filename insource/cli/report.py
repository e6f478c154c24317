"""`insource report`: what was answered by what, at which risk and cost, for every task; on the terminal and as a page.

It fetches and prints; what the figures mean is for `governance` to say.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from insource.cli.opening import configuration, open_registry
from insource.cli.output import emit, json_option, printable, table
from insource.errors import UnknownTask, UserError

if TYPE_CHECKING:
    from rich.console import Console

    from insource.config import Config
    from insource.governance.figures import Report, TaskFigures
    from insource.types import Task

_PERIOD = re.compile(r"(\d{1,5})([dh])")


@click.command("report", epilog="\b\nExample:\n  insource report --since 7d --html report.html")
@click.option("--task", metavar="NAME", help="Show this task only, with its versions and answers.")
@click.option("--since", metavar="TIME", help="Count from then on: 7d, 24h, or an ISO date such as 2026-11-21.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write one self-contained page to PATH.")
@json_option
@click.pass_context
def command(ctx: click.Context, task: str | None, since: str | None, html: Path | None, json_path: str | None) -> None:
    """Sum up quality, coverage, risk and savings of all tasks, from the ledger and the registry."""
    now = datetime.now(UTC)
    start = None if since is None else parse_since(since, now)
    report = make_report(configuration(ctx), now=now, since=start, task=task)
    if html is not None:
        write_page(html, report)
    emit(report.to_json(), json_path, lambda console: show(console, report, detailed=task is not None))


def make_report(config: Config, *, now: datetime, since: datetime | None = None, task: str | None = None) -> Report:
    """Return the report of a home; a missing ledger is an empty one.

    Raises UnknownTask where `task` is neither configured, trained nor served; StoreError.
    """
    from insource.governance.report import build_report
    from insource.risk.bounds import binomial_interval
    from insource.store.ledger import FILE
    from insource.store.ledger_reader import LedgerReader

    def currency_of(asked: Task | None) -> str | None:
        named = config.upstreams_of(asked)
        return config.upstreams[named[0][0]].currency if named else None

    with ExitStack() as opened:
        registry = opened.enter_context(open_registry(config))
        served = (config.home / FILE).exists()
        ledger = opened.enter_context(LedgerReader(config.home)) if served else None
        report = build_report(
            registry,
            ledger,
            config.tasks,
            now=now,
            since=since,
            interval=binomial_interval,
            currency_of=currency_of,
            only=task,
        )
    if task is not None and not report.tasks:
        raise UnknownTask(
            f"Task {task!r} is neither configured nor trained here, and served nothing. The name of a task was "
            "expected; `insource tasks` lists them."
        )
    return report


def parse_since(text: str, now: datetime) -> datetime:
    """Return the moment that "7d", "24h" or an ISO date means; one without a zone is UTC. Raises UserError."""
    if period := _PERIOD.fullmatch(text.strip()):
        number, unit = int(period[1]), period[2]
        return now - (timedelta(days=number) if unit == "d" else timedelta(hours=number))
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise UserError(
            f"--since is {text!r}; a period such as 7d or 24h, or an ISO date such as 2026-11-21, was expected."
        ) from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def show(console: Console, report: Report, *, detailed: bool = False) -> None:
    """Print the tables; with `detailed` each task's versions and answers as well."""
    from insource.governance.wording import moment

    if report.ledger:
        since = moment(report.since) if report.since else "the first request"
        console.print(f"From {since} until {moment(report.now)}; {100 * report.level:.0f} % intervals in brackets.")
        _show_totals(console, report)
    else:
        console.print("No ledger yet: nothing has been served here. `insource serve` starts one.")
    if not report.tasks:
        console.print("No task is configured or trained yet. `insource train FILE --task NAME` makes a version.")
        return
    _show_tasks(console, report)
    for task in report.tasks:
        if detailed:
            _show_task(console, task)
        for caution in task.cautions:
            console.print(printable(f"! {task.name}: {caution.text}"), soft_wrap=True)


def _show_totals(console: Console, report: Report) -> None:
    from insource.governance.wording import count, joules, money, percent_range, saved, verdicts

    totals = report.totals
    rows = (
        ("requests", f"{count(totals.requests)}, {count(totals.outside)} of them of no task"),
        ("answered locally", f"{count(totals.accepted)}: {percent_range(totals.coverage)}"),
        ("promises", f"{verdicts(totals)}; {count(totals.compared)} accepted answers audited and compared"),
        ("cost upstream", money(totals.cost)),
        ("cost saved", saved(totals.cost_saved)),
        ("energy saved", joules(totals.energy.saved)),
    )
    console.print(table("All requests", ("figure", "value"), rows))


def _show_tasks(console: Console, report: Report) -> None:
    from insource.governance.wording import count, percent, percent_range, saved

    rows = (
        (
            task.name,
            f"@{task.active.version} {task.active.family}" if task.active else "none",
            count(task.requests),
            percent(task.coverage.value if task.coverage else None),
            percent(task.active.certified_coverage if task.active else None),
            percent_range(task.audits.risk),
            percent(task.target_risk),
            task.verdict.value.replace("_", " "),
            saved(task.cost_saved),
        )
        for task in report.tasks
    )
    columns = ("task", "active", "requests", "coverage", "certified", "risk realised", "promised", "promise", "saved")
    console.print(table("Tasks", columns, rows))
    if report.ledger:
        _show_latency(console, report)


def _show_latency(console: Console, report: Report) -> None:
    from insource.governance.wording import count, milliseconds

    rows = [
        (task.name, name, count(found.requests), *(milliseconds(end) for end in (found.p50, found.p99)))
        for task in report.tasks
        for name, found in task.latency.items()
        if found is not None
    ]
    if rows:
        console.print(table("Latency", ("task", "outcome", "settled", "p50", "p99"), rows))
    reasons = [(task.name, name, count(size)) for task in report.tasks for name, size in task.reasons.items()]
    if reasons:
        console.print(table("Reasons", ("task", "reason", "requests"), reasons))


def _show_task(console: Console, task: TaskFigures) -> None:
    from insource.governance.wording import count, joules, money, percent, percent_range, promise, promoted

    console.print(printable(promise(task)), soft_wrap=True)
    sums = (
        ("audit coin", f"{count(task.audits.coin)} picked at {percent(task.audit_rate)}"),
        ("cost upstream", money(task.cost)),
        ("energy, local", joules(task.energy.local)),
        ("energy, upstream", joules(task.energy.upstream)),
        ("energy saved", joules(task.energy.saved)),
    )
    console.print(table(f"Sums of {task.name}", ("figure", "value"), sums))
    rows = (
        (f"@{version.version}", version.stage, version.family, percent(version.certified_coverage),
         percent(version.risk_upper_bound), percent_range(version.audits.risk), promoted(version))
        for version in task.versions
    )  # fmt: skip
    columns = ("version", "stage", "family", "certified", "risk bound", "risk realised", "promoted")
    console.print(table(f"Versions of {task.name}", columns, rows))
    answers = task.active.per_answer if task.active else ()
    if answers:
        cells = ((row.answer, row.rows, row.accepted, row.missed, percent(row.missed_upper_bound)) for row in answers)
        console.print(table("Answers on the test rows", ("answer", "rows", "accepted", "missed", "at most"), cells))


def write_page(path: Path, report: Report) -> None:
    """Write the page; raise UserError where that is not possible."""
    from insource.governance.page import render_page

    try:
        path.write_text(render_page(report), encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}); a file in a folder that exists was expected. "
            "Choose another path for --html."
        ) from error
    click.echo(f"The page was written to {path}.", err=True)
