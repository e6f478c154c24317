"""What a comparison's drawing shows, before anything is drawn: accuracy against cost and against latency.

It knows the result's fields, scales and where a label has room; neither pixels nor markup.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from insource.cli.comparison.show import amount
from insource.cli.output import milliseconds, percent
from insource.cli.timeline.figure import ticks

Result = Mapping[str, Any]
Box = tuple[float, float, float, float]

LETTER, LINE = 0.0078, 0.075
"""How wide a letter and how high a line of a label is, as shares of a panel."""
GAP, ASIDE = 0.012, 0.7
"""How far a label stands from its dot; right of `ASIDE` it stands on the left."""
MARGIN = 0.06
STEPS = (0.5, -0.5, 1.3, -1.3, 2.2, -2.2, 3.1, -3.1, 4.0, -4.0)
"""Where a label may stand, in lines above its dot: beside the lines of the front first."""
FAR = 3.0
"""A line so many times beyond the last dot stands at the edge, with an arrow, and leaves the dots their room."""
NARROW = 4.0
"""Scales that span less than this factor have plain ticks."""


@dataclass(frozen=True, slots=True)
class Dot:
    """One version: `x` and `y` as shares of the panel from the lower left, `low` to `high` its interval.

    `kind` is "chosen", "front", "misses" or "other". The label begins, or with `left` ends, at `label`.
    """

    name: str
    said: str
    x: float
    y: float
    low: float
    high: float
    kind: str
    label: tuple[float, float] = (0.0, 0.0)
    left: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """A line across a panel at a share of it: what the task requires, or the upstream alone."""

    at: float
    text: str
    upright: bool
    kind: str


@dataclass(frozen=True, slots=True)
class Panel:
    """Accuracy against one thing on a logarithmic scale; `front` is the way of the best in these two, by steps."""

    title: str
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    dots: tuple[Dot, ...]
    front: tuple[tuple[float, float], ...]
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """The whole drawing, and it in words."""

    title: str
    said: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to shares of a panel; `log` of a scale whose values are all above 0."""

    first: float
    last: float
    log: bool

    @classmethod
    def of(cls, values: Sequence[float], *, log: bool) -> Scale:
        """Return a scale with some room around the values."""
        if log:
            low, high = math.log10(min(values)), math.log10(max(values))
            pad = MARGIN * max(high - low, 0.3)
            return cls(10 ** (low - pad), 10 ** (high + 3 * pad), True)
        pad = MARGIN * max(max(values) - min(values), 0.01)
        return cls(min(values) - pad, min(max(values) + pad, 1.0 + pad), False)

    def at(self, value: float) -> float:
        """Return a value's share, cut to the panel."""
        if self.log:
            span = math.log10(self.last / self.first)
            share = math.log10(max(value, 1e-300) / self.first) / span
        else:
            share = (value - self.first) / (self.last - self.first)
        return min(max(share, 0.0), 1.0)

    def marks(self) -> list[float]:
        """Return round values within the scale."""
        if not self.log or self.last / self.first < NARROW:
            step = (ticks(self.last - self.first, 6) or (0.0, 1.0))[1]
            start = math.ceil(self.first / step - 1e-9)
            return [step * number for number in range(start, math.floor(self.last / step + 1e-9) + 1)]
        powers = range(math.floor(math.log10(self.first)), math.ceil(math.log10(self.last)) + 1)
        many = len(powers) > 4
        found = (digit * 10.0**power for power in powers for digit in ((1,) if many else (1, 2, 5)))
        return [value for value in found if self.first <= value <= self.last]


def chart_of(result: Result) -> Chart:
    """Return what is to be drawn of the result of `compare`."""
    require, currency = result["require"], result["prices"]["currency"]
    alone = result["upstream"]["cost_per_thousand"]
    lines = [] if alone is None else [(float(alone), f"upstream alone {amount(alone)}", "upstream")]
    limit = require["latency_ms"]
    limits = [] if limit is None else [(limit, f"required: at most {limit:g} ms", "require")]
    known = "" if alone is not None else ", in the house"
    chosen = result["recommendation"]
    panels = (
        _panel(result, f"Accuracy against the cost of a thousand requests ({currency}{known})",
               lambda each: float(each["cost_per_thousand"]["total"]), lines, lambda value: amount(f"{value:.2g}")),
        _panel(result, f"Accuracy against the median answer, {result['concurrency']} at a time",
               lambda each: each["latency_ms"]["p50"], limits, milliseconds),
    )  # fmt: skip
    told = "; ".join(dot.said for dot in panels[0].dots)
    return Chart(
        f"{result['task']}: {len(result['candidates'])} versions compared",
        f"Recommended: {chosen['name']}, {chosen['why']}. {told}.",
        panels,
    )


def _panel(result: Result, title: str, value: Any, upright: Sequence[tuple[float, str, str]], shown: Any) -> Panel:
    candidates = result["candidates"]
    floor = result["require"]["accuracy"]
    values = [max(value(each), 1e-9) for each in candidates]
    across = Scale.of([*values, *(at for at, _, _ in upright if at <= FAR * max(values))], log=True)
    ends = [each["accuracy_interval"][end] for each in candidates for end in ("low", "high")]
    up = Scale.of([*ends, *([] if floor is None else [floor])], log=False)
    rules = [
        Rule(across.at(at), text if at < across.last else f"{text} \u2192", True, kind) for at, text, kind in upright
    ]
    if floor is not None:
        rules.append(Rule(up.at(floor), f"required: {percent(floor)}", False, "require"))
    return Panel(
        title,
        tuple((across.at(mark), shown(mark)) for mark in across.marks()),
        tuple((up.at(mark), percent(mark, 0 if up.last - up.first > 0.06 else 1)) for mark in up.marks()),
        tuple(placed([_dot(each, result, across.at(value(each)), up) for each in candidates])),
        tuple(_way([(value(each), each["accuracy"]) for each in candidates], across, up)),
        tuple(rules),
    )


def _dot(each: Result, result: Result, x: float, up: Scale) -> Dot:
    chosen = each["name"] == result["recommendation"]["name"]
    kind = "chosen" if chosen else "misses" if each["misses"] else "front" if each["on_front"] else "other"
    low, high = (each["accuracy_interval"][end] for end in ("low", "high"))
    said = (
        f"{each['name']}: accuracy {percent(each['accuracy'])}, {amount(each['cost_per_thousand']['total'])} "
        f"{result['prices']['currency']} for a thousand, {milliseconds(each['latency_ms']['p50'])}, "
        f"{percent(each['sent_up'])} leave, {each['size_bytes'] / 1e6:.1f} MB"
    )
    return Dot(each["name"], said, x, up.at(each["accuracy"]), up.at(low), up.at(high), kind)


def _way(points: Sequence[tuple[float, float]], across: Scale, up: Scale) -> Iterator[tuple[float, float]]:
    """Give the corners of the front in two dimensions, from the cheapest to the right edge."""
    best = -1.0
    for x, y in sorted(points, key=lambda point: (point[0], -point[1])):
        if y > best:
            if best >= 0:
                yield across.at(x), up.at(best)
            yield across.at(x), up.at(y)
            best = y
    yield 1.0, up.at(best)


def placed(dots: Sequence[Dot]) -> Iterator[Dot]:
    """Give the dots with their labels where these cover neither each other nor a dot, as near as there is room."""
    taken: list[Box] = [(dot.x - GAP / 2, dot.y - LINE / 3, dot.x + GAP / 2, dot.y + LINE / 3) for dot in dots]
    for dot in sorted(dots, key=lambda each: (each.kind != "chosen", -each.y)):
        left, width = dot.x > ASIDE, LETTER * len(dot.name)
        start = dot.x - GAP - width if left else dot.x + GAP
        for step in STEPS:
            y = dot.y + step * LINE
            box = (start, y - LINE / 2, start + width, y + LINE / 2)
            if 0.0 <= box[1] and box[3] <= 1.0 and not any(_meet(box, other) for other in taken):
                break
        taken.append(box)
        yield Dot(dot.name, dot.said, dot.x, dot.y, dot.low, dot.high, dot.kind,
                  (start + width if left else start, y), left)  # fmt: skip


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
