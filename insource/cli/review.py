"""`insource review`: the kept requests that wait for a person, answered one by one, and exported as gold references.

It shows and records; what may leave the house was decided before. Answers are checked against the task's closed set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from insource.cli.answered import hand_over
from insource.cli.opening import configuration, open_artifacts, open_registry
from insource.cli.output import emit, json_option, printable, table
from insource.errors import ArtifactDamaged, UserError

if TYPE_CHECKING:
    from rich.console import Console

    from insource.answers import AnswerSpace
    from insource.config import Config
    from insource.store.registry import Registry
    from insource.store.reviews import Review

_SHOWN = 20
_LONGEST = 60


class _Queue(click.Group):
    """Takes what is no command's name for the id of a request to answer."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] in self.commands:
            return super().resolve_command(ctx, args)
        return "answer", self.commands["answer"], args


@click.group(
    "review",
    cls=_Queue,
    invoke_without_command=True,
    epilog='\b\nExample:\n  insource review 019aa7... --answer "billing"',
)
@click.option("--task", metavar="NAME", help="List this task's requests only.")
@json_option
@click.pass_context
def command(ctx: click.Context, task: str | None, json_path: str | None) -> None:
    """List the kept requests that wait for a person, oldest first; `insource review ID` answers one."""
    if ctx.invoked_subcommand is not None:
        if task is not None or json_path is not None:
            raise UserError(
                "--task and --json before an id or a command are for the list; behind it they were expected. Put them "
                "last."
            )
        return
    with open_registry(configuration(ctx)) as registry:
        waiting = registry.reviews(task)
    emit({"reviews": [_row(review) for review in waiting]}, json_path, lambda console: _list(console, waiting))


@command.command("answer", epilog='\b\nExample:\n  insource review 019aa7... --answer "billing"')
@click.argument("request_id", metavar="ID")
@click.option("--answer", metavar="TEXT", help="The right answer; it becomes a gold reference.")
@click.option("--dismiss", is_flag=True, help="Say that nobody will answer it.")
@click.option("--who", metavar="NAME", help="Who decides [your user name].")
@click.option("--force", is_flag=True, help="Record an answer that the task does not know.")
@json_option
@click.pass_context
def answer_command(
    ctx: click.Context,
    request_id: str,
    answer: str | None,
    dismiss: bool,
    who: str | None,
    force: bool,
    json_path: str | None,
) -> None:
    """Show request ID with the specialist's suggestion, and record a person's answer; asks for it on a terminal."""
    if answer is not None and dismiss:
        raise UserError("--answer and --dismiss were both given; one of them was expected. Leave one out.")
    config = configuration(ctx)
    with open_registry(config) as registry:
        review = registry.find_review(request_id)
        space = answers_of(config, registry, review.task)
        show: Callable[[Console], None] = partial(_show, review=review, space=space)
        if answer is None and not dismiss and review.state == "waiting" and json_path is None and watched():
            emit({}, None, show)
            answer, dismiss = ask(space, lambda told: str(click.prompt(told, default="", show_default=False)))
            if answer is None and not dismiss:
                return
        if dismiss:
            review = registry.dismiss_review(request_id, who or _user(), datetime.now(UTC))
            show = partial(_show_closed, review=review)
        elif answer is not None:
            given = checked_answer(space, answer, force=force, task=review.task)
            review = registry.answer_review(request_id, given, who or _user(), datetime.now(UTC))
            show = partial(_show_closed, review=review)
        if (waits := hand_over(config, registry)) is not None:
            click.echo(f"note: {waits}", err=True)
    emit(_row(review), json_path, show)


@command.command("export", epilog="\b\nExample:\n  insource review export reviewed.jsonl")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--task", metavar="NAME", help="Export this task's requests only.")
@json_option
@click.pass_context
def export_command(ctx: click.Context, file: Path, task: str | None, json_path: str | None) -> None:
    """Write the answered requests to FILE as traffic, the person's answer as gold."""
    from insource import traffic

    with open_registry(configuration(ctx)) as registry:
        answered = len(registry.reviews(task, "answered"))
        written = traffic.write(file, registry.export_reviews(task))
    data = {"file": file, "written": written, "erased": answered - written}
    emit(data, json_path, lambda console: _show_export(console, data))


def answers_of(config: Config, registry: Registry, task: str) -> AnswerSpace | None:
    """Return the closed set of the task's version that serves (else the newest), None where there is none to read."""
    from insource.answers import AnswerSpace

    version = registry.active(task) or next(reversed(registry.versions(task)), None)
    if version is None:
        return None
    try:
        return AnswerSpace.from_json(open_artifacts(config).open(version.digest).manifest["answers"])
    except (ArtifactDamaged, KeyError):
        return None


def checked_answer(space: AnswerSpace | None, answer: str, *, force: bool, task: str) -> str:
    """Return the reply to record for what a person wrote, as the teacher would write it.

    Raises UserError for an empty answer, and for one outside the closed set unless `force`: then it is recorded with a
    warning, as it is where no closed set is known.
    """
    label = space.find(answer) if space is not None else None
    if space is not None and label is not None:
        return space.render(label)
    if not answer.strip():
        raise UserError("The answer is empty; the right answer was expected. Pass --answer TEXT, or --dismiss.")
    if space is None:
        told = f"task {task!r} has no version here whose answers are known, so {printable(answer)!r} was not checked"
    else:
        told = f"{printable(answer)!r} is no answer of task {task!r}"
        if not force:
            raise UserError(
                f"{told}; {_expected(space, answer)} was expected. Correct it, or pass --force to record it as it is."
            )
    click.echo(f"warning: {told}; it is recorded as it is", err=True)
    return answer


def _expected(space: AnswerSpace, answer: str) -> str:
    from difflib import get_close_matches

    known = [space.display(each) for each in space.answers]
    near = get_close_matches(answer, known, n=1)
    listed = ", ".join(printable(repr(each)) for each in known[:_SHOWN])
    more = " and more" if known[_SHOWN:] else ""
    return f"one of {listed}{more}" + (f" (did you mean {near[0]!r}?)" if near else "")


def ask(space: AnswerSpace | None, read: Callable[[str], str]) -> tuple[str | None, bool]:
    """Ask a person through `read`; return the answer and whether to dismiss, (None, False) for neither.

    A number picks from the list, unless numbers are answers themselves.
    """
    known = [space.display(label) for label in space.answers] if space is not None else []
    picks = numbered(known)
    wanted = "number or answer" if picks else "answer"
    typed = read(f"{wanted} (d dismisses, nothing leaves it waiting)").strip()
    if not typed:
        return None, False
    if typed == "d" and typed not in known:
        return None, True
    if picks and typed.isascii() and typed.isdigit():
        if not 1 <= int(typed) <= len(known):
            raise UserError(f"{typed} is no number of the list; 1 to {len(known)} was expected. Nothing was recorded.")
        return known[int(typed) - 1], False
    return typed, False


def numbered(known: Sequence[str]) -> bool:
    """Say whether a number may pick from these answers: not where numbers are answers."""
    return bool(known) and not any(answer.isdigit() for answer in known)


def watched() -> bool:
    """Say whether a person sits at a terminal, on both sides."""
    import sys

    return sys.stdin.isatty() and sys.stdout.isatty()


def _user() -> str:
    from insource.cli.promote import user_name

    return user_name()


def _row(review: Review) -> dict[str, Any]:
    return {
        "id": review.request_id,
        "time": review.time,
        "task": review.task,
        "state": review.state.value,
        "text": review.text,
        "suggestion": review.suggestion,
        "score": review.score,
        "answer": review.answer,
        "who": review.who,
        "answered_at": review.answered_at,
    }


def _list(console: Console, waiting: Sequence[Review]) -> None:
    if not waiting:
        console.print("Nothing waits for review.")
        return
    rows = (
        (review.request_id, f"{review.time:%Y-%m-%d %H:%M}", review.task, cut(review.text), cut(review.suggestion))
        for review in waiting
    )
    console.print(table(None, ("id", "since (UTC)", "task", "text", "suggestion"), rows))
    console.print(f"{len(waiting):,} wait. `insource review ID` shows one and takes the answer.")


def cut(text: str | None) -> str | None:
    """Return a text on one short line, its end left out."""
    if text is None:
        return None
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."


def _show(console: Console, review: Review, space: AnswerSpace | None) -> None:
    console.print(f"request {review.request_id}, task {review.task}, {review.state}, {review.time:%Y-%m-%d %H:%M} UTC")
    console.print(printable(review.text if review.text is not None else "(erased)", keep="\n\t"), soft_wrap=True)
    score = f" (score {review.score:.4f})" if review.score is not None else ""
    console.print(printable(f"suggestion: {review.suggestion or 'none'}{score}"), soft_wrap=True)
    if review.state != "waiting":
        _show_closed(console, review)
        return
    known = [space.display(label) for label in space.answers] if space is not None else []
    for number, answer in enumerate(known[:_SHOWN], 1):
        console.print(printable(f"{number:>4}  {answer}" if numbered(known) else f"      {answer}"))
    if known[_SHOWN:]:
        console.print(f"      and {len(known) - _SHOWN:,} more")


def _show_closed(console: Console, review: Review) -> None:
    if review.answer is not None:
        console.print(printable(f"answered by {review.who}: {review.answer}"), soft_wrap=True)
    elif review.who is not None:
        console.print(printable(f"dismissed by {review.who}"))


def _show_export(console: Console, data: dict[str, Any]) -> None:
    console.print(f"{data['written']:,} answered requests were written to {data['file']}, with their texts.")
    if data["erased"]:
        console.print(f"{data['erased']:,} more were left out: their texts have been erased.")
    if data["written"]:
        console.print(f"`insource train {data['file']} --task NAME --gold` learns from them.")
