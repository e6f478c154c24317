"""`insource backtest --lifecycle`: the log through shadow, canary, rollback, suspension and retraining; the timeline.

It opens the parts, shows the figures and writes the drawings; deciding is the lifecycle's business.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from insource.cli.output import percent, table
from insource.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

ENDINGS = (".html", ".png")
TERMINATED = 128 + signal.SIGTERM


def check_timelines(paths: Sequence[str], *, lifecycle: bool, new_answers: bool) -> tuple[Path, ...]:
    """Return where the timeline goes, before any work is done.

    Raises UserError where a path is no .html or .png in a folder that exists, or a flag lacks --lifecycle; MissingExtra
    where a PNG is asked for and nothing can draw it.
    """
    for flag, given in (("--timeline", bool(paths)), ("--new-answers", new_answers)):
        if given and not lifecycle:
            raise UserError(f"{flag} was given without --lifecycle, which it belongs to. Add --lifecycle.")
    found = tuple(Path(path) for path in paths)
    for path in found:
        if path.suffix.lower() not in ENDINGS:
            raise UserError(f"--timeline is {str(path)!r}; a name that ends in .html or .png was expected.")
        if path.is_dir() or not path.parent.is_dir():
            raise UserError(
                f"--timeline is {str(path)!r}; a file in a folder that exists was expected. Make the folder."
            )
    if any(path.suffix.lower() == ".png" for path in found):
        from insource.cli.timeline.png import check

        check()
    return found


def write_timelines(result: Mapping[str, Any], paths: Sequence[Path]) -> None:
    """Draw the timeline into each file, by its ending; raise UserError where one cannot be written."""
    for path in paths:
        try:
            _writer(path)(result, path)
        except OSError as error:
            raise UserError(
                f"{path} cannot be written ({error.strerror or error}); a file that may be replaced was expected. "
                "The figures stand above; choose another path for --timeline."
            ) from error
        click.echo(f"The timeline was written to {path}.", err=True)


@contextmanager
def ended_in_order() -> Iterator[None]:
    """Have SIGTERM end this process as Ctrl-C does, so that no temporary folder is left behind."""
    import logging

    def end(number: int, frame: object) -> None:
        raise SystemExit(TERMINATED)

    steward = logging.getLogger("insource.lifecycle")
    quiet = logging.NullHandler()  # the steward warns of what it did; here that is a figure, not news
    steward.addHandler(quiet)
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        steward.removeHandler(quiet)


def show_lifecycle(console: Console, result: Mapping[str, Any]) -> None:
    """Print what became of versions, and what happened when."""
    from insource.cli.timeline.page import told, way

    rows = [
        (f"@{each['version']}", f"{each['at']:,}", each["family"], f"{each['evidence']:,}",
         percent(each["certified_coverage"]), f"{each['accepted']:,}", f"{each['wrong']:,}", way(each))
        for each in result["versions"]
    ]  # fmt: skip
    columns = ("version", "trained at", "family", "evidence", "certifies", "accepted", "wrong", "stages, from request")
    console.print(table(None, columns, rows))
    happened = [each for each in result["events"] if each["what"] in NEWS or _back(each)]
    if happened:
        news = [(f"{each['at']:,}", told(each), each["why"]) for each in happened]
        console.print(table(None, ("before request", "what", "why"), news))


def lifecycle_rows(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the lines that a lifecycle adds to a backtest's figures."""
    suspended = [f"{each['from']:,} to {_until(each)}" for each in result["suspensions"]]
    back = [f"@{each['version']} at {each['at']:,}" for each in result["rollbacks"]]
    served = [f"@{each['version']}" for each in result["versions"] if each["took_over"]]
    return [
        ("versions", f"{len(result['versions'])} trained, {len(served)} active in turn: {', '.join(served) or 'none'}"),
        ("suspended", "; ".join(suspended) or "never"),
        ("rolled back", "; ".join(back) or "none"),
    ]


NEWS = frozenset({"made way", "suspended", "resumed", "doubted", "certified anew", "doubt ended", "not learned"})


def _back(event: Mapping[str, Any]) -> bool:
    return bool(event["what"] == "retired" and event["before"] != "active")


def _until(stretch: Mapping[str, Any]) -> str:
    return "the end" if stretch["to"] is None else f"{stretch['to']:,}"


def _writer(path: Path) -> Callable[[Mapping[str, Any], Path], None]:
    if path.suffix.lower() == ".png":
        from insource.cli.timeline.figure import figure_of
        from insource.cli.timeline.png import write

        return lambda result, place: write(figure_of(result), place)
    from insource.cli.timeline.page import render

    def page(result: Mapping[str, Any], place: Path) -> None:
        place.write_text(render(result), encoding="utf-8")

    return page
