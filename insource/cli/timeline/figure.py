"""What a timeline shows, before anything is drawn: panels of lines over the requests, and a band for each version.

It knows the result's fields and which of them belong together; neither pixels nor markup.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from insource.cli.output import money, percent

TRIED = ("shadow", "canary", "active")
OFF_SCALE = 6.0
"""The risk is drawn up to so many times the target: a few wild windows must not flatten all others."""
STEPS = (1.0, 2.0, 5.0, 10.0)

Point = tuple[float, float | None]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a panel: points (request, value), None where there is a gap.

    `kind` is "line", "dots", "step" (the value holds from its request on) or "dashed"; `colour` a name of the style.
    """

    name: str
    colour: str
    points: tuple[Point, ...]
    kind: str = "line"


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines that share an axis from 0 to `top`; `ticks` are its marks, each with its text. `said` is it in words."""

    title: str
    said: str
    top: float
    ticks: tuple[tuple[float, str], ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """Where a version stood, from one request to another."""

    start: int
    stop: int
    stage: str
    text: str


@dataclass(frozen=True, slots=True)
class Band:
    """One version's way, or the task's suspensions and doubts; `back`: the request at which it was rolled back."""

    name: str
    spans: tuple[Span, ...]
    back: int | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """All that is drawn over `requests` requests; `suspended` holds from where to where nothing was accepted."""

    title: str
    requests: int
    ticks: tuple[tuple[float, str], ...]
    bands: tuple[Band, ...]
    suspended: tuple[tuple[int, int], ...]
    panels: tuple[Panel, ...]

    @property
    def said(self) -> str:
        """The whole in words."""
        return ". ".join([self.title, *map(_way, self.bands), *(panel.said for panel in self.panels)])


def figure_of(result: Mapping[str, Any]) -> Figure:
    """Return what is to be drawn of the result of `backtest --lifecycle`."""
    total, windows = result["requests"], result["timeline"]
    bands = [_band(version) for version in result["versions"] if _tried(version)]
    suspended = _stretches(result["suspensions"], total)
    task = [Span(*each, "suspended", "suspended") for each in suspended]
    task += [Span(*each, "doubted", "doubted") for each in _stretches(result["doubts"], total)]
    if task:
        bands.insert(0, Band("task", tuple(sorted(task, key=lambda span: span.start))))
    panels = [_coverage(result, windows), _risk(result, windows), _calls(result, windows)]
    if result["cost"]["currency"] is not None:
        panels.append(_money(result, windows))
    return Figure(
        title=f"Lifecycle of {result['task']}: {total:,} requests",
        requests=total,
        ticks=tuple((at, f"{at:,.0f}") for at in ticks(total, 8)),
        bands=tuple(bands),
        suspended=suspended,
        panels=tuple(panels),
    )


def ticks(top: float, most: int = 5) -> tuple[float, ...]:
    """Return round numbers from 0 to at most `top`, at most `most` of them beyond 0."""
    if not top > 0.0:
        return (0.0,)
    power = 10.0 ** math.floor(math.log10(top / most))
    step = next(step * power for step in STEPS if top / (step * power) <= most)
    return tuple(number * step for number in range(int(top / step + 1e-9) + 1))


def _stretches(found: Sequence[Mapping[str, Any]], total: int) -> tuple[tuple[int, int], ...]:
    return tuple((each["from"], total if each["to"] is None else each["to"]) for each in found)


def _way(band: Band) -> str:
    """Return a band in words."""
    spans = (f"{span.stage}{f' {span.text}' if span.stage == 'canary' else ''} from {span.start:,} to {span.stop:,}"
             for span in band.spans)  # fmt: skip
    return f"{band.name}: {', '.join(spans)}{'' if band.back is None else ', then rolled back'}"


def _tried(version: Mapping[str, Any]) -> bool:
    return any(stage["stage"] in TRIED for stage in version["stages"])


def _band(version: Mapping[str, Any]) -> Band:
    spans, back = [], None
    for stage in version["stages"]:
        word = stage["stage"]
        if word in TRIED:
            text = f"{100 * stage['share']:g} %" if word == "canary" else word
            spans.append(Span(stage["from"], stage["to"], word, text))
        elif word == "retired" and spans and spans[-1].stage != "active":
            back = stage["from"]
    return Band(f"@{version['version']}", tuple(spans), back)


def _middles(windows: Sequence[Mapping[str, Any]], key: str) -> tuple[Point, ...]:
    return tuple(((window["from"] + window["to"]) / 2, window[key]) for window in windows)


def _coverage(result: Mapping[str, Any], windows: Sequence[Mapping[str, Any]]) -> Panel:
    return Panel(
        "Coverage",
        f"Coverage: {percent(result['coverage'])} of all requests accepted",
        1.0,
        tuple((share, percent(share, 0)) for share in (0.0, 0.5, 1.0)),
        (Line("accepted, by window", "blue", _middles(windows, "coverage"), "area"),),
    )


def _risk(result: Mapping[str, Any], windows: Sequence[Mapping[str, Any]]) -> Panel:
    target, total = result["target_risk"], result["requests"]
    so_far: list[Point] = []
    accepted = wrong = 0
    for window in windows:
        accepted, wrong = accepted + window["accepted"], wrong + window["wrong"]
        so_far.append((float(window["to"]), wrong / accepted if accepted else None))
    highest = max([window["risk"] or 0.0 for window in windows], default=0.0)
    top = min(1.0, max(2.0 * target, min(1.1 * highest, OFF_SCALE * target)))
    bounds = [(float(window["from"]), window["certified_risk"]) for window in windows]
    realised, upper = result["risk"]["realised"], result["risk"]["upper_bound"]
    return Panel(
        "Risk of accepted answers",
        f"Risk: {percent(realised)} of accepted answers differ from the reference, at most {percent(upper)} at "
        f"confidence {result['confidence_level']:g}; promised at most {percent(target)}",
        top,
        tuple((share, percent(share, 0 if top > 0.08 else 1)) for share in ticks(top, 4)),
        (
            Line("realised, by window", "grey", _middles(windows, "risk"), "dots"),
            Line("realised so far", "orange", tuple(so_far)),
            Line("certified bound of the active version", "blue", (*bounds, (float(total), bounds[-1][1])), "step"),
            Line("promise", "red", ((0.0, target), (float(total), target)), "dashed"),
        ),
    )


def _calls(result: Mapping[str, Any], windows: Sequence[Mapping[str, Any]]) -> Panel:
    total, calls = result["requests"], result["upstream_calls"]
    made = ((0.0, 0.0), *((float(window["to"]), float(window["upstream_calls"])) for window in windows))
    return Panel(
        "Upstream calls",
        f"Upstream calls: {calls:,} of {total:,} ({percent(calls / total)})",
        float(total),
        tuple((at, f"{at:,.0f}") for at in ticks(total, 4)),
        (
            Line("upstream alone", "grey", ((0.0, 0.0), (float(total), float(total))), "dashed"),
            Line("with insource", "blue", made, "area"),
        ),
    )


def _money(result: Mapping[str, Any], windows: Sequence[Mapping[str, Any]]) -> Panel:
    cost = result["cost"]
    currency, alone = cost["currency"], float(cost["upstream_only"])

    def summed(key: str) -> tuple[Point, ...]:
        return ((0.0, 0.0), *((float(window["to"]), float(window[key])) for window in windows))

    spent, without = Decimal(cost["insource"]), Decimal(cost["upstream_only"])
    return Panel(
        f"Money ({currency})",
        f"Money: {money(spent, currency)} instead of {money(without, currency)}",
        alone or 1.0,
        tuple((at, f"{at:g}") for at in ticks(alone or 1.0)),
        (
            Line("upstream alone", "grey", summed("cost_upstream_only"), "dashed"),
            Line("with insource", "blue", summed("cost"), "area"),
        ),
    )
