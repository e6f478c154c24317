"""The report's drawings as inline SVG: a share against its promise, reasons as one bar, latencies on a log scale.

They know figures and pixels; each says in words (title) what it shows, for those who do not see it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from insource.governance.figures import Share
from insource.governance.markup import number as n
from insource.governance.markup import safe
from insource.governance.wording import count, milliseconds, percent
from insource.store.totals import Latency

WIDTH = 640.0
HALF = 440.0
LEFT = 4.0
MARGIN = 4.0
KINDS = 6
STEP = 26.0
LABELS = 84.0


def share_bar(share: Share | None, marks: Sequence[tuple[float | None, str]], top: float, title: str, kind: str) -> str:
    """Return a bar of a share in [0, top] with its interval as a whisker, and marks with their names above it."""
    known = [(value, name) for value, name in marks if value is not None]
    bar, right = 18.0 * len(known) + 6, HALF - MARGIN

    def at(value: float) -> float:
        return LEFT + (right - LEFT) * min(max(value / top, 0.0), 1.0)

    parts = [f'<rect class="track" x="{n(LEFT)}" y="{n(bar)}" width="{n(right - LEFT)}" height="16" rx="3"/>']
    if share is not None:
        width = at(share.value) - LEFT
        parts.append(f'<rect class="{safe(kind)}" x="{n(LEFT)}" y="{n(bar)}" width="{n(width)}" height="16" rx="3"/>')
        low, high, middle = at(share.low), at(share.high), bar + 8
        parts.append(
            f'<path class="whisker" d="M{n(low)} {n(middle)}H{n(high)}M{n(low)} {n(bar + 3)}V{n(bar + 13)}'
            f'M{n(high)} {n(bar + 3)}V{n(bar + 13)}"/>'
        )
    for line, (value, name) in enumerate(known):
        parts += _mark(at(value), 18.0 * line + 13, bar, name)
    base = bar + 32
    parts.append(f'<text x="{n(LEFT)}" y="{n(base)}">0 %</text>')
    parts.append(f'<text x="{n(right)}" y="{n(base)}" text-anchor="end">{safe(percent(top, 0))}</text>')
    return _drawing(title, base + 6, parts, HALF)


def stacked_bar(parts: Sequence[tuple[str, int]], title: str) -> str:
    """Return one bar of parts side by side, in order; their colours repeat after `KINDS`."""
    total = sum(size for _, size in parts)
    if not total:
        return ""
    drawn, left = [], LEFT
    for i, (name, size) in enumerate(parts):
        width = (WIDTH - MARGIN - LEFT) * size / total
        drawn.append(
            f'<rect class="k{i % KINDS}" x="{n(left)}" y="4" width="{n(max(width - 1, 0.5))}" height="24">'
            f"<title>{safe(name)}: {count(size)}</title></rect>"
        )
        left += width
    return _drawing(title, 34, drawn)


def latency_lines(latency: Mapping[str, Latency | None], title: str) -> str:
    """Return, on a logarithmic axis, a line for each outcome from the median over p95 to p99; nothing of nothing."""
    known = {name: found for name, found in latency.items() if found is not None}
    ends = [max(end, 1e-6) for found in known.values() for end in (found.p50, found.p99)]
    if not ends:
        return ""
    first, last = math.floor(math.log10(min(ends))), math.ceil(math.log10(max(ends)))
    last = max(last, first + 1)
    right = WIDTH - 60

    def at(seconds: float) -> float:
        return LABELS + (right - LABELS) * (math.log10(max(seconds, 1e-6)) - first) / (last - first)

    parts: list[str] = []
    bottom = 10 + STEP * len(known)
    for power in range(first, last + 1):
        x = n(at(10.0**power))
        parts.append(f'<path class="grid" d="M{x} 6V{n(bottom)}"/>')
        parts.append(f'<text x="{x}" y="{n(bottom + 15)}" text-anchor="middle">{safe(_tick(10.0**power))}</text>')
    for line, (name, found) in enumerate(known.items()):
        y = 10 + STEP * line + STEP / 2
        kind = "k0" if name == "accepted" else "k1"
        parts.append(f'<text x="{n(LEFT)}" y="{n(y + 4)}">{safe(name)}</text>')
        parts.append(f'<path class="span {kind}" d="M{n(at(found.p50))} {n(y)}H{n(at(found.p99))}"/>')
        parts += [f'<circle class="{kind}" cx="{n(at(end))}" cy="{n(y)}" r="{n(r)}"/>'
                  for end, r in ((found.p50, 6), (found.p95, 3), (found.p99, 4))]  # fmt: skip
    return _drawing(title, bottom + 22, parts)


def _mark(x: float, label: float, bar: float, name: str) -> list[str]:
    anchor, text = ("end", x - 5) if x > HALF / 2 else ("start", x + 5)
    return [
        f'<path class="mark" d="M{n(x)} {n(label - 10)}V{n(bar + 20)}"/>',
        f'<text x="{n(text)}" y="{n(label)}" text-anchor="{anchor}">{safe(name)}</text>',
    ]


def _tick(seconds: float) -> str:
    return f"{seconds:g} s" if seconds >= 1 else milliseconds(seconds).replace(".0 ", " ").replace(".00 ", " ")


def _drawing(title: str, height: float, parts: Sequence[str], width: float = WIDTH) -> str:
    return (
        f'<svg viewBox="0 0 {n(width)} {n(height)}" role="img" aria-label="{safe(title)}">'
        f"<title>{safe(title)}</title>{''.join(parts)}</svg>"
    )
