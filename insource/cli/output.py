"""How results leave the command line: one mapping as JSON, one table for people, figures in one way everywhere.

It knows no command and computes nothing; rich is imported when something is shown.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from datetime import date, datetime
from decimal import Decimal
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from insource.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

STDOUT = "-"
UNKNOWN = "unknown"
_WIDTH = 120
_FIGURE = re.compile(r"[<>]?[-+]?\d[\d,.]*( \S+)?|unknown|-|")
_F = TypeVar("_F", bound=Callable[..., Any])


def json_option(function: _F) -> _F:
    """Add `--json PATH`, passed on as `json_path`; a folder that does not exist is refused before any work is done."""
    told = "Write the result as JSON to PATH as well; - writes it, and nothing else, to standard output."
    return click.option("--json", "json_path", metavar="PATH", callback=_checked, help=told)(function)


def emit(data: Mapping[str, Any], json_path: str | None, show: Callable[[Console], None]) -> None:
    """Print the result: with "-" the JSON alone, else what `show` prints, and the JSON into `json_path` if given.

    Decimal becomes text, a time ISO 8601, a path text. Raises ValueError for a figure that is not finite (nothing is
    printed then), UserError where the file cannot be written.
    """
    if json_path == STDOUT:
        click.echo(to_json(data, getattr(sys.stdout, "encoding", None) or "utf-8"))
        return
    text = None if json_path is None else to_json(data)
    show(console())
    if text is not None and json_path is not None:
        _write(Path(json_path), text + "\n")


def to_json(data: Mapping[str, Any], encoding: str = "utf-8") -> str:
    """Return a mapping as JSON, indented by two, that `encoding` can carry.

    Raises ValueError for NaN and infinity, TypeError for what is no data.
    """
    text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False, default=_plain)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:  # a poor terminal, or a lone surrogate, which JSON can bring and UTF-8 cannot carry
        return json.dumps(data, indent=2, allow_nan=False, default=_plain)
    return text


def console() -> Console:
    """Return a console on standard output that takes text as it is: no markup, no emoji, no guessed colours."""
    from rich.console import Console

    made = Console(markup=False, emoji=False, highlight=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = _WIDTH
    return made


def table(title: str | None, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Return a table; columns of figures are set to the right, None reads "-", control characters are replaced.

    Without any column name there is no header.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    cells = [["-" if cell is None else printable(str(cell)) for cell in row] for row in rows]
    named = None if title is None else Text(printable(title), no_wrap=True, overflow="ignore")
    headed = any(columns)
    shape = box.SIMPLE_HEAD if headed else box.SIMPLE
    made = Table(title=named, title_justify="left", box=shape, pad_edge=False, show_header=headed)
    for number, name in enumerate(columns):
        figures = bool(cells) and all(_FIGURE.fullmatch(row[number]) for row in cells)
        made.add_column(name, justify="right" if figures else "left", overflow="fold")
    for row in cells:
        made.add_row(*(Text(cell) for cell in row))
    return made


def printable(text: str, *, keep: str = "") -> str:
    """Return text that cannot steer a terminal: control characters become U+FFFD, those in `keep` stay."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep or c == " " else "\ufffd" for c in text)


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share as "93.7 %"; one that only rounds to 0 or 100 % says so: "<0.1 %", ">99.9 %"."""
    if share is None:
        return UNKNOWN
    least, shown = 10.0**-digits, round(100 * share, digits)
    if shown == 0 and share > 0:
        return f"<{least:.{digits}f} %"
    if shown == 100 and share < 1:
        return f">{100 - least:.{digits}f} %"
    return f"{shown:.{digits}f} %"


def money(amount: Decimal | None, currency: str | None = None) -> str:
    """Return an amount as "1,234.56 USD"; below 0.01 with two digits that count ("0.00042 USD")."""
    if amount is None:
        return UNKNOWN
    places = 2 if not amount or abs(amount) >= Decimal("0.01") else 1 - amount.adjusted()
    return f"{amount:,.{places}f}" + (f" {currency}" if currency else "")


def milliseconds(value: float | None) -> str:
    """Return milliseconds with two digits that count below 10 ("0.083 ms", "4.7 ms"), whole above ("1,250 ms")."""
    if value is None:
        return UNKNOWN
    places = next((places for limit, places in ((0.1, 3), (1, 2), (10, 1)) if value < limit), 0)
    return f"{value:,.{places}f} ms"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError(f"{value} is not finite")
        return str(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, AbstractSet):
        return sorted(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    raise TypeError(f"a result holds {type(value).__name__}, which is no data")


def _checked(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value in (None, STDOUT):
        return value
    path = Path(value or "")
    if path.is_dir() or not path.parent.is_dir():
        raise click.BadParameter(f"{value!r} is no file in a folder that exists; name one, or - for standard output.")
    return value


def _write(path: Path, text: str) -> None:
    """Replace the file as a whole, or leave it alone."""
    draft = None
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            draft = Path(file.name)
            file.write(text)
        mask = os.umask(0)
        os.umask(mask)
        draft.chmod(0o666 & ~mask)
        draft.replace(path)
    except OSError as error:
        if draft is not None:
            with suppress(OSError):
                draft.unlink()
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}); a file that may be replaced was expected. "
            "The figures stand above; choose another path for --json."
        ) from error
