"""HTML from plain text: every function escapes what it is given, so that nothing reaches the page as markup by chance.

It knows elements; not what they say.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence

Cell = str | int | None


def safe(text: object) -> str:
    """Return text as HTML, with quotes escaped; control, direction and surrogate characters become U+FFFD."""
    plain = "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in str(text))
    return html.escape(plain, quote=True)


def document(title: str, style: str, body: str) -> str:
    """Return a whole page of one file: no script runs on it and nothing is fetched. `style` and `body` are markup."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{safe(title)}</title><style>{style}</style></head><body>{body}</body></html>\n"
    )


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph of the class `kind`."""
    return f"<p{_class(kind)}>{safe(text)}</p>"


def heading(level: int, text: str, anchor: str | None = None) -> str:
    """Return a heading."""
    identifier = f' id="{safe(anchor)}"' if anchor else ""
    return f"<h{level}{identifier}>{safe(text)}</h{level}>"


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, figures: Sequence[int] = ()) -> str:
    """Return a table whose first column heads its rows; columns numbered in `figures` are set to the right."""
    right = frozenset(figures)
    head = "".join(f'<th scope="col"{_class("n" if i in right else "")}>{safe(name)}</th>' for i, name in
                   enumerate(columns))  # fmt: skip
    body = "".join(f"<tr>{''.join(_cells(row, right))}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><caption>{safe(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def notes(kind: str, items: Iterable[str]) -> str:
    """Return a list of sentences of the class `kind`; nothing where there are none."""
    listed = "".join(f"<li>{safe(item)}</li>" for item in items)
    return f"<ul{_class(kind)}>{listed}</ul>" if listed else ""


def tiles(figures: Iterable[tuple[str, str, str]]) -> str:
    """Return the great figures: name, value, and what to know about it."""
    made = "".join(
        f"<div><dt>{safe(name)}</dt><dd><b>{safe(value)}</b><span>{safe(about)}</span></dd></div>"
        for name, value, about in figures
    )
    return f'<dl class="tiles">{made}</dl>'


def number(value: float) -> str:
    """Return a coordinate; ValueError for one that is not finite."""
    if not math.isfinite(value):
        raise ValueError(f"a drawing has the coordinate {value}; a finite number was expected")
    return f"{value:.1f}"


def _cells(row: Sequence[Cell], right: frozenset[int]) -> Iterable[str]:
    for i, cell in enumerate(row):
        text = "–" if cell is None else safe(cell)
        if i == 0:
            yield f'<th scope="row">{text}</th>'
        else:
            yield f"<td{_class('n' if i in right else '')}>{text}</td>"


def _class(kind: str) -> str:
    return f' class="{safe(kind)}"' if kind else ""
