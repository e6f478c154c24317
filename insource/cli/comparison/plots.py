"""Where `--plot` draws to, checked before any work, and drawn by the ending. It knows paths; not what is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from insource.errors import MissingExtra, UserError

ENDINGS = (".html", ".png")


def check_plots(paths: Sequence[str]) -> tuple[Path, ...]:
    """Return where to draw, before any work is done.

    Raises UserError where a path is no .html or .png in a folder that exists, MissingExtra where nothing draws a PNG.
    """
    found = tuple(Path(path) for path in paths)
    for path in found:
        if path.suffix.lower() not in ENDINGS:
            raise UserError(f"--plot is {str(path)!r}; a name that ends in .html or .png was expected.")
        if path.is_dir() or not path.parent.is_dir():
            raise UserError(f"--plot is {str(path)!r}; a file in a folder that exists was expected. Make the folder.")
    if any(path.suffix.lower() == ".png" for path in found):
        try:
            import matplotlib  # noqa: F401
        except ImportError as error:
            raise MissingExtra(
                "A PNG is drawn by matplotlib, which is not installed; it was expected beside insource. "
                "Run: pip install 'insource[plots]'. A plot in HTML needs nothing more."
            ) from error
    return found


def write_plots(result: Mapping[str, Any], paths: Sequence[Path]) -> None:
    """Draw the comparison into each file, by its ending; raise UserError where one cannot be written."""
    for path in paths:
        try:
            _draw(result, path)
        except OSError as error:
            raise UserError(
                f"{path} cannot be written ({error.strerror or error}); a file that may be replaced was expected. "
                "The figures stand above; choose another path for --plot."
            ) from error
        click.echo(f"The plot was written to {path}.", err=True)


def _draw(result: Mapping[str, Any], path: Path) -> None:
    if path.suffix.lower() == ".png":
        from insource.cli.comparison.figure import chart_of
        from insource.cli.comparison.png import write

        write(chart_of(result), path)
        return
    from insource.cli.comparison.page import render

    path.write_text(render(result), encoding="utf-8")
