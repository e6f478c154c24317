"""`insource label`: shows the requests most worth a person's answer, and records what the person says as gold.

It shows and records; which requests are worth most is for `lifecycle` to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from insource.cli.answered import hand_over
from insource.cli.opening import configuration, open_registry
from insource.cli.output import console, emit, json_option, printable, table
from insource.cli.review import answers_of, checked_answer, cut, numbered, watched
from insource.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from insource.answers import AnswerSpace
    from insource.config import Config
    from insource.store.ledger_reader import LedgerReader, LedgerRow
    from insource.store.registry import Registry

_NEWEST = 1_000
_LISTED = 20


@click.command("label", epilog="\b\nExample:\n  insource label triage")
@click.argument("task")
@click.option("--request", "request_id", metavar="ID", help="Label this request, without being asked.")
@click.option("--answer", metavar="TEXT", help="The right answer to it.")
@click.option("--who", metavar="NAME", help="Who decides [your user name].")
@json_option
@click.pass_context
def command(
    ctx: click.Context, task: str, request_id: str | None, answer: str | None, who: str | None, json_path: str | None
) -> None:
    """Give the right answers to the requests of TASK from which it learns most; they count above the upstream's.

    On a terminal it asks for one after the other, else it lists them.
    """
    if (request_id is None) != (answer is None):
        raise UserError("--request and --answer belong together; both or neither were expected. Add the other one.")
    from insource.lifecycle.selection import worth_labelling

    config = configuration(ctx)
    with open_registry(config) as registry:
        space = _answers(config, registry, task)
        with _open_ledger(config) as ledger:
            if request_id is not None and answer is not None:
                _check_request(ledger, task, request_id)
                given = {request_id: checked_answer(space, answer, force=False, task=task)}
                rows: Sequence[LedgerRow] = ()
                _record(registry, task, given, who)
            else:
                given, rows = {}, worth_labelling(ledger.unlabelled(task, _NEWEST), _NEWEST)
                if json_path is None and watched():
                    given = ask_each(rows, space, _read, console(), lambda each: _record(registry, task, each, who))
        note = hand_over(config, registry)
    labelled = [{"id": each, "answer": said} for each, said in given.items()]
    waiting = [_row(row) for row in rows if row.decision.request_id not in given]
    data = {"task": task, "labelled": labelled, "waiting": waiting}
    emit(data, json_path, lambda shown: _show(shown, task, given, rows, note))


def ask_each(
    rows: Iterable[LedgerRow],
    space: AnswerSpace,
    read: Callable[[str], str],
    shown: Console,
    record: Callable[[dict[str, str]], None],
) -> dict[str, str]:
    """Show one request after the other, ask for its answer through `read`, and record each at once; return them.

    A number picks from the list, unless numbers are answers themselves; "-" skips, "q" ends, unless they are answers.
    What is no answer of the task is asked again.
    """
    known = [space.display(label) for label in space.answers]
    given: dict[str, str] = {}
    for row in rows:
        _show_request(shown, row, known)
        said = _asked(space, known, read, shown)
        if said is None:
            break
        if said:
            given[row.decision.request_id] = said
            record({row.decision.request_id: said})
    return given


def _asked(space: AnswerSpace, known: Sequence[str], read: Callable[[str], str], shown: Console) -> str | None:
    """Return an answer as the teacher writes it, "" to skip, None to end."""
    picks = numbered(known)
    wanted = "number or answer" if picks else "answer"
    while True:
        typed = read(f"{wanted} (- skips, q ends)").strip()
        if typed in ("-", "q") and space.find(typed) is None:
            return "" if typed == "-" else None
        if picks and typed.isascii() and typed.isdigit() and 1 <= int(typed) <= len(known):
            typed = known[int(typed) - 1]
        label = space.find(typed)
        if label is not None:
            return space.render(label)
        shown.print(printable(f"{typed!r} is no answer of this task."), soft_wrap=True)


def _read(prompt: str) -> str:
    return str(click.prompt(prompt, default="", show_default=False))


def _answers(config: Config, registry: Registry, task: str) -> AnswerSpace:
    registry.get(task)  # raises UnknownTask
    space = answers_of(config, registry, task)
    if space is None:
        raise UserError(
            f"The answers of task {task!r} are not known: its version cannot be read; one with a closed set of answers "
            "was expected. Train it again."
        )
    return space


def _open_ledger(config: Config) -> LedgerReader:
    from insource.store.ledger import FILE
    from insource.store.ledger_reader import LedgerReader

    if not (config.home / FILE).exists():
        raise UserError(
            f"There is no ledger in {config.home}, so there is no request to label; one that `insource serve` wrote "
            "was expected. Check --home."
        )
    return LedgerReader(config.home)


def _check_request(ledger: LedgerReader, task: str, request_id: str) -> None:
    row = ledger.decision(request_id)
    if row is None or row.decision.task != task:
        found = "it is not in the ledger" if row is None else f"it is of task {row.decision.task!r}"
        raise UserError(
            f"Request {request_id[:80]!r} is no request of task {task!r} ({found}); the id from a reply's "
            f"x-insource-request-id header was expected. `insource label {task}` lists requests to label."
        )


def _record(registry: Registry, task: str, given: dict[str, str], who: str | None) -> None:
    from insource.cli.promote import user_name
    from insource.store.columns import Feedback, Source

    decider = who or user_name()
    for request_id, answer in given.items():
        registry.post_feedback(Feedback(request_id, datetime.now(UTC), task, answer, decider, Source.LABEL))


def _reference(row: LedgerRow) -> str | None:
    return row.content.reference if row.content is not None else None


def _row(row: LedgerRow) -> dict[str, Any]:
    decision = row.decision
    return {
        "id": decision.request_id,
        "time": decision.time,
        "outcome": decision.outcome,
        "text": row.content.text if row.content is not None else None,
        "reference": _reference(row),
        "score": decision.score,
        "audits": [
            {"version": audit.version, "agrees": audit.agrees, "accepts": audit.accepts, "score": audit.score}
            for audit in row.audits
        ],
    }


def _show_request(shown: Console, row: LedgerRow, known: Sequence[str]) -> None:
    decision = row.decision
    shown.print(f"request {decision.request_id}, {decision.outcome}, {decision.time:%Y-%m-%d %H:%M} UTC")
    shown.print(printable(row.content.text if row.content is not None else "(erased)", keep="\n\t"), soft_wrap=True)
    shown.print(printable(f"reference: {_reference(row) or 'none'}"), soft_wrap=True)
    for audit in row.audits:
        agreed = {True: "agreed with it", False: "differed from it", None: "could not be compared"}[audit.agrees]
        score = f", score {audit.score:.4f}" if audit.score is not None else ""
        shown.print(f"@{audit.version} {agreed}{score}")
    for number, answer in enumerate(known[:_LISTED], 1):
        shown.print(printable(f"{number:>4}  {answer}" if numbered(known) else f"      {answer}"))
    if known[_LISTED:]:
        shown.print(f"      and {len(known) - _LISTED:,} more")


def _show(shown: Console, task: str, given: dict[str, str], rows: Sequence[LedgerRow], note: str | None) -> None:
    if given:
        shown.print(f"{len(given):,} answers were recorded as gold references of {task}.")
    elif not rows:
        shown.print(f"Nothing to label for {task}: no request was audited or escalated with its text kept "
                    '(content = "full"), or all of them have a person\'s answer.', soft_wrap=True)  # fmt: skip
    elif not watched():
        cells = [(row.decision.request_id, row.decision.score, cut(row.content.text if row.content else None),
                  cut(_reference(row))) for row in rows[:_LISTED]]  # fmt: skip
        shown.print(table(None, ("id", "score", "text", "reference"), cells))
        shown.print(f"{len(rows):,} may be labelled. `insource label {task} --request ID --answer TEXT` records one.")
    if note is not None:
        shown.print(note, soft_wrap=True)
