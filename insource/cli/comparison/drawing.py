"""A comparison as one inline SVG: two panels, one below the other. It knows a chart and pixels, no figures."""

from __future__ import annotations

from collections.abc import Iterator

from insource.cli.comparison.figure import Chart, Dot, Panel, Rule
from insource.governance.markup import number as n
from insource.governance.markup import safe

WIDTH, LEFT, RIGHT = 1000.0, 62.0, 16.0
PANEL, HEAD, FOOT = 270.0, 34.0, 34.0
LEGEND = (("chosen", "recommended"), ("front", "on the front"), ("other", "dominated"), ("misses", "misses what is "
          "required"))  # fmt: skip


def draw(chart: Chart) -> str:
    """Return the drawing; what it shows is said in its title, for those who do not see it."""
    parts = [*_legend()]
    y = 26.0
    for panel in chart.panels:
        parts += _panel(panel, y + HEAD)
        y += HEAD + PANEL + FOOT
    said = safe(chart.said)
    return (
        f'<svg viewBox="0 0 {n(WIDTH)} {n(y)}" role="img" aria-label="{said}"><title>{said}</title>'
        f"{''.join(parts)}</svg>"
    )


def _legend() -> Iterator[str]:
    x = LEFT
    for kind, text in LEGEND:
        yield f'<circle class="d-{kind}" cx="{n(x + 6)}" cy="12" r="{n(_radius(kind))}"/>'
        yield f'<text class="small" x="{n(x + 18)}" y="16">{safe(text)}</text>'
        x += 44 + 6.4 * len(text)
    yield f'<path class="way" d="M{n(x)} 12h26"/><text class="small" x="{n(x + 34)}" y="16">the best of the two</text>'


def _panel(panel: Panel, top: float) -> Iterator[str]:
    width = WIDTH - LEFT - RIGHT
    yield f'<text class="head" x="0" y="{n(top - 12)}">{safe(panel.title)}</text>'
    yield f'<rect class="plot" x="{n(LEFT)}" y="{n(top)}" width="{n(width)}" height="{n(PANEL)}"/>'
    for share, text in panel.x_ticks:
        x = _x(share)
        yield f'<path class="grid" d="M{n(x)} {n(top)}V{n(top + PANEL)}"/>'
        yield f'<text class="small" x="{n(x)}" y="{n(top + PANEL + 16)}" text-anchor="middle">{safe(text)}</text>'
    for share, text in panel.y_ticks:
        y = _y(share, top)
        yield f'<path class="grid" d="M{n(LEFT)} {n(y)}H{n(WIDTH - RIGHT)}"/>'
        yield f'<text class="small" x="{n(LEFT - 7)}" y="{n(y + 4)}" text-anchor="end">{safe(text)}</text>'
    for rule in panel.rules:
        yield from _rule(rule, top)
    path = "L".join(f"{n(_x(x))} {n(_y(y, top))}" for x, y in panel.front)
    yield f'<path class="way" d="M{path}"/>'
    for dot in panel.dots:
        yield from _dot(dot, top)


def _rule(rule: Rule, top: float) -> Iterator[str]:
    kind = safe(rule.kind)
    if rule.upright:
        x = _x(rule.at)
        anchor, aside = ("end", -5.0) if rule.at > 0.5 else ("start", 5.0)
        yield f'<path class="r-{kind}" d="M{n(x)} {n(top)}V{n(top + PANEL)}"/>'
        yield (f'<text class="small t-{kind}" x="{n(x + aside)}" y="{n(top + PANEL - 8)}" text-anchor="{anchor}">'
               f"{safe(rule.text)}</text>")  # fmt: skip
    else:
        y = _y(rule.at, top)
        yield f'<path class="r-{kind}" d="M{n(LEFT)} {n(y)}H{n(WIDTH - RIGHT)}"/>'
        yield (
            f'<text class="small t-{kind}" x="{n(WIDTH - RIGHT - 6)}" y="{n(y + 15)}" text-anchor="end">'
            f"{safe(rule.text)}</text>"
        )


def _dot(dot: Dot, top: float) -> Iterator[str]:
    x, y = _x(dot.x), _y(dot.y, top)
    yield f'<path class="bar" d="M{n(x)} {n(_y(dot.low, top))}V{n(_y(dot.high, top))}"/>'
    yield (f'<circle class="d-{safe(dot.kind)}" cx="{n(x)}" cy="{n(y)}" r="{n(_radius(dot.kind))}">'
           f"<title>{safe(dot.said)}</title></circle>")  # fmt: skip
    anchor = "end" if dot.left else "start"
    label_x, label_y = _x(dot.label[0]), _y(dot.label[1], top)
    bold = " bold" if dot.kind == "chosen" else ""
    if abs(label_y - y) > 12:
        yield f'<path class="lead" d="M{n(x)} {n(y)}L{n(label_x)} {n(label_y)}"/>'
    yield (f'<text class="small{bold}" x="{n(label_x)}" y="{n(label_y + 4)}" text-anchor="{anchor}">'
           f"{safe(dot.name)}</text>")  # fmt: skip


def _radius(kind: str) -> float:
    return 7.0 if kind == "chosen" else 5.0


def _x(share: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * share


def _y(share: float, top: float) -> float:
    return top + PANEL * (1.0 - share)
