"""`insource audit show`: answers an auditor in words, about a span of rows or one request, and hands them over.

What the answers are is `governance.auditing`'s business; this opens what they are taken from and shows them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from insource.cli.opening import configuration, open_registry
from insource.cli.output import emit, json_option
from insource.cli.progress import Bars

if TYPE_CHECKING:
    from rich.console import Console

    from insource.config import Config
    from insource.governance.auditing.answers import Sources

_EPILOG = "\b\nExamples:\n  insource audit show --since 30d\n  insource audit show --since 2026-11-01 --to november"


@click.command("show", epilog=_EPILOG)
@click.argument("request_id", required=False, metavar="[REQUEST_ID]")
@click.option("--since", metavar="TIME", help="From then on: 7d, 24h, or an ISO date [the first row].")
@click.option("--until", metavar="TIME", help="Before then [the last row].")
@click.option("--task", metavar="NAME", help="Of this task alone.")
@click.option("--to", "folder", type=click.Path(path_type=Path), metavar="DIR",
              help="Write rows, answers, verifier and guide there, for a stranger to check.")  # fmt: skip
@click.option("--texts", is_flag=True, help="With the texts that are kept; for --to.")
@json_option
@click.pass_context
def show(
    ctx: click.Context, request_id: str | None, since: str | None, until: str | None, task: str | None,
    folder: Path | None, texts: bool, json_path: str | None,
) -> None:  # fmt: skip
    """Answer an auditor: which model, from which data, who approved it, what left, what changed, is it complete.

    About all rows of a span of time, or all about one request. Each answer names the rows that prove it, or says who
    only tells it. Where the rows are not whole, nothing is answered, and `insource audit verify` says where.
    """
    if request_id is not None and (since or until or task):
        raise click.UsageError("A REQUEST_ID stands for itself; --since, --until and --task go with a span of time.")
    if texts and (folder is None or request_id is not None):
        raise click.UsageError("--texts goes with --to and a span of time; one request's text is shown without --to.")
    with _sources(configuration(ctx)) as sources:
        if request_id is not None:
            answers = _request(sources, request_id, folder)
        else:
            answers = _span(sources, since, until, task, folder, texts)
    emit(answers, json_path, lambda console: _show(console, answers, folder))


@contextmanager
def _sources(config: Config) -> Iterator[Sources]:
    """Give what answers are taken from; the registry is not made where there is none."""
    from insource.governance.auditing.answers import Sources
    from insource.governance.auditing.told import Told
    from insource.store.ledger_reader import LedgerReader
    from insource.store.proof.proving import Prover
    from insource.store.registry import FILE

    with ExitStack() as opened:
        prover = opened.enter_context(Prover(config.home))
        there = (config.home / FILE).exists()
        registry = opened.enter_context(open_registry(config)) if there else None
        ledger = opened.enter_context(LedgerReader(config.home))
        yield Sources(prover, ledger, Told(config, registry, datetime.now(UTC)))


def _request(sources: Sources, request_id: str, folder: Path | None) -> dict[str, Any]:
    from insource.governance.auditing.answers import answers_of_request
    from insource.governance.auditing.handing import fill_with_request
    from insource.training.exporting.appearing import check_free, write_folder

    if folder is None:
        return answers_of_request(sources, request_id)[0]
    check_free(folder)
    return write_folder(folder, {}, lambda draft: fill_with_request(draft, sources, request_id))


def _span(
    sources: Sources, since: str | None, until: str | None, task: str | None, folder: Path | None, texts: bool
) -> dict[str, Any]:
    from insource.cli.audit_export import moment_of
    from insource.governance.auditing.answers import answers_of_span
    from insource.governance.auditing.handing import fill_with_span
    from insource.training.exporting.appearing import check_free, write_folder

    span = sources.prover.span(moment_of(since), moment_of(until))
    with Bars() as bars:
        report = bars.say("rows")
        if folder is None:
            return answers_of_span(sources, span, task, report=report)
        check_free(folder)
        return write_folder(
            folder, {}, lambda draft: fill_with_span(draft, sources, span, task, contents=texts, report=report)
        )


def _show(console: Console, answers: dict[str, Any], folder: Path | None) -> None:
    from insource.cli.output import printable
    from insource.governance.verifier.verify_ledger import SOURCES, page

    if folder is None:
        console.print(page(answers).rstrip("\n"), soft_wrap=True)
        return
    only_told = sum(each["source"] in SOURCES for each in answers["statements"])
    proved = len(answers["statements"]) - only_told
    told = f"{folder}: {proved} statements proved by rows, {only_told} told."
    console.print(printable(f"{told} GUIDE.txt says how a stranger checks them."), soft_wrap=True)
