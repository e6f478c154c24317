"""A timeline as one inline SVG: a band for each version, and under it the panels over the same requests.

It knows a figure and pixels; colours stand in the page's style sheet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from insource.cli.timeline.figure import Band, Figure, Line, Panel, Point
from insource.governance.markup import number as n
from insource.governance.markup import safe

WIDTH, LEFT, RIGHT = 1000.0, 74.0, 22.0
ROW, PANEL = 24.0, 120.0
HEAD, FOOT = 46.0, 26.0
LETTER = 6.4
BOLD = 7.6
"""How wide a letter is taken to be, in plain and in bold type."""
STAGES = ("shadow", "canary", "active", "doubted", "suspended")


def draw(figure: Figure) -> str:
    """Return the drawing; what it shows is said in its title, for those who do not see it."""
    parts: list[str] = []
    y = 24.0
    parts += _stages(y - 8)
    bottom = y + ROW * max(len(figure.bands), 1)
    parts += _grid(figure, y, bottom)
    for row, band in enumerate(figure.bands):
        parts += _band(figure, band, y + ROW * row)
    y = bottom + FOOT + 6
    for panel in figure.panels:
        top = y + HEAD
        parts += _head(panel, y + 14)
        parts += _grid(figure, top, top + PANEL)
        parts += _axis(panel, top)
        for line in panel.lines:
            parts += _line(figure, panel, line, top)
        y = top + PANEL + FOOT
    said = safe(figure.said)
    return (
        f'<svg viewBox="0 0 {n(WIDTH)} {n(y + 2)}" role="img" aria-label="{said}"><title>{said}</title>'
        f"{''.join(parts)}</svg>"
    )


def _x(figure: Figure, at: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * at / max(figure.requests, 1)


def _y(panel: Panel, value: float, top: float) -> float:
    return top + PANEL * (1.0 - min(max(value / panel.top, 0.0), 1.0))


def _heading(y: float, text: str) -> str:
    return f'<text class="head" x="0" y="{n(y)}">{safe(text)}</text>'


def _stages(y: float) -> Iterator[str]:
    """Give the heading of the bands, and which colour is which stage."""
    yield _heading(y, "Versions")
    x = LEFT + 30
    for stage in STAGES:
        yield f'<rect class="{stage}" x="{n(x)}" y="{n(y - 10)}" width="12" height="12" rx="2"/>'
        yield f'<text class="small" x="{n(x + 18)}" y="{n(y)}">{stage}</text>'
        x += 46 + LETTER * len(stage)


def _head(panel: Panel, y: float) -> Iterator[str]:
    """Give the panel's name and, on the line below, what its lines are."""
    yield _heading(y, panel.title)
    x = LEFT
    for line in panel.lines:
        dash = ' stroke-dasharray="6 4"' if line.kind == "dashed" else ""
        if line.kind == "dots":
            yield f'<circle class="f-{line.colour}" cx="{n(x + 11)}" cy="{n(y + 15)}" r="3.5"/>'
        else:
            yield f'<path class="s-{line.colour}"{dash} d="M{n(x)} {n(y + 15)}h22"/>'
        yield f'<text class="small" x="{n(x + 28)}" y="{n(y + 19)}">{safe(line.name)}</text>'
        x += 52 + LETTER * len(line.name)


def _grid(figure: Figure, top: float, bottom: float) -> Iterator[str]:
    width, height = n(WIDTH - LEFT - RIGHT), n(bottom - top)
    yield f'<rect class="plot" x="{n(LEFT)}" y="{n(top)}" width="{width}" height="{height}"/>'
    for start, stop in figure.suspended:
        x = _x(figure, start)
        yield (f'<rect class="off" x="{n(x)}" y="{n(top)}" width="{n(max(_x(figure, stop) - x, 1.5))}" '
               f'height="{height}"><title>suspended from {start:,} to {stop:,}</title></rect>')  # fmt: skip
    for at, text in figure.ticks:
        x = _x(figure, at)
        yield f'<path class="grid" d="M{n(x)} {n(top)}V{n(bottom)}"/>'
        yield f'<text class="small" x="{n(x)}" y="{n(bottom + 15)}" text-anchor="middle">{safe(text)}</text>'


def _axis(panel: Panel, top: float) -> Iterator[str]:
    for value, text in panel.ticks:
        y = _y(panel, value, top)
        yield f'<path class="grid" d="M{n(LEFT)} {n(y)}H{n(WIDTH - RIGHT)}"/>'
        yield f'<text class="small" x="{n(LEFT - 7)}" y="{n(y + 4)}" text-anchor="end">{safe(text)}</text>'


def _band(figure: Figure, band: Band, top: float) -> Iterator[str]:
    yield f'<text class="small" x="{n(LEFT - 7)}" y="{n(top + 16)}" text-anchor="end">{safe(band.name)}</text>'
    for span in band.spans:
        x, width = _x(figure, span.start), _x(figure, span.stop) - _x(figure, span.start)
        said = f"{band.name} {span.stage} {span.text} from {span.start:,} to {span.stop:,}"
        yield (f'<rect class="{safe(span.stage)}" x="{n(x)}" y="{n(top + 3)}" width="{n(max(width, 1.0))}" '
               f'height="{n(ROW - 6)}"><title>{safe(said)}</title></rect>')  # fmt: skip
        if width > BOLD * len(span.text) + 8:
            yield f'<text class="on" x="{n(x + 4)}" y="{n(top + 16)}">{safe(span.text)}</text>'
    if band.back is not None:
        x, y = _x(figure, band.back), top + ROW / 2
        yield (f'<path class="back" d="M{n(x + 3)} {n(y - 5)}l10 10M{n(x + 3)} {n(y + 5)}l10 -10">'
               f"<title>{safe(band.name)} rolled back at {band.back:,}</title></path>")  # fmt: skip
        yield f'<text class="small" x="{n(x + 18)}" y="{n(top + 16)}">rolled back</text>'


def _line(figure: Figure, panel: Panel, line: Line, top: float) -> Iterator[str]:
    if line.kind == "dots":
        yield from _dots(figure, panel, line, top)
        return
    for run in runs(line.points):
        places = [(_x(figure, at), _y(panel, value, top)) for at, value in run]
        if line.kind == "step":
            places = _stepped(places)
        path = "M" + "L".join(f"{n(x)} {n(y)}" for x, y in places)
        if line.kind == "area":
            closed = f"{path}L{n(places[-1][0])} {n(top + PANEL)}L{n(places[0][0])} {n(top + PANEL)}Z"
            yield f'<path class="a-{line.colour}" d="{closed}"/>'
        dash = ' stroke-dasharray="6 4"' if line.kind == "dashed" else ""
        yield f'<path class="s-{line.colour}"{dash} d="{path}"/>'


def _dots(figure: Figure, panel: Panel, line: Line, top: float) -> Iterator[str]:
    """Give a dot for each value, and a triangle at the top for one beyond it."""
    for at, value in line.points:
        if value is None:
            continue
        x, y = _x(figure, at), _y(panel, value, top)
        said = f"<title>around request {at:,.0f}: {100 * value:.1f} %</title>"
        if value > panel.top:
            yield f'<path class="f-{line.colour}" d="M{n(x)} {n(top)}l5 8h-10z">{said}</path>'
        else:
            yield f'<circle class="f-{line.colour}" cx="{n(x)}" cy="{n(y)}" r="3">{said}</circle>'


def runs(points: Sequence[Point]) -> Iterator[list[tuple[float, float]]]:
    """Give what lies between the gaps."""
    run: list[tuple[float, float]] = []
    for at, value in points:
        if value is not None:
            run.append((at, value))
        elif run:
            yield run
            run = []
    if run:
        yield run


def _stepped(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    found = [places[0]]
    for x, y in places[1:]:
        found += [(x, found[-1][1]), (x, y)]
    return found
