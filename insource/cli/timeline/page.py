"""The timeline as one self-contained HTML page: no script, nothing fetched, the figures in tables under the drawing.

It lays out what `backtest --lifecycle` found; it computes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from insource.cli.output import money, percent
from insource.cli.timeline.drawing import draw
from insource.cli.timeline.figure import Figure, figure_of
from insource.governance.markup import document, heading, notes, paragraph, table, tiles
from insource.governance.style import STYLE

COLOURS = ("blue", "orange", "red", "grey")
MORE = """
body{max-width:70rem}
figure.wide svg{max-width:none}
svg text.head{font-size:15px;font-weight:600}
svg text.small{font-size:12px;fill:var(--soft)}
svg text.on{font-size:12px;fill:#fff;stroke:none;font-weight:600}
.plot{fill:var(--panel);stroke:var(--line)}
.off{fill:var(--red);opacity:.14}
.shadow{fill:#6b7681}.canary{fill:#9a6a00}.active{fill:#1b6e4b}.suspended{fill:#a3201d}.doubted{fill:#6a4c9c}
.shadow,.canary,.active,.suspended,.doubted{stroke:var(--panel)}
.back{stroke:var(--red);stroke-width:2.5;fill:none}
""" + "\n".join(
    f".s-{colour}{{stroke:var(--{colour});stroke-width:2;fill:none}}.f-{colour}{{fill:var(--{colour})}}"
    f".a-{colour}{{fill:var(--{colour});opacity:.15}}"
    for colour in COLOURS
)
READING = (
    "A band for each version that was tried: shadow (it answers audited requests aside), canary (it decides that share "
    "of the requests), active. Versions that were never tried have no band.",
    "A red ground: the task was suspended, nothing was accepted, everything went upstream. Doubted: something drifted "
    "under the active version, and all requests were audited until it was known whether that does harm.",
    "Risk, dots: the share of accepted answers in a window of requests that differ from the reference; a triangle at "
    "the top lies beyond the scale. Windows with few accepted answers scatter widely; the line is the share so far.",
    "The certified bound is that of the version which is active at the end of a window: at most this share of its "
    "accepted answers differs from the reference, as long as traffic stays as it was. It says nothing after a drift.",
)


def render(result: Mapping[str, Any]) -> str:
    """Return the page for the result of `backtest --lifecycle`."""
    figure = figure_of(result)
    return document(figure.title, STYLE + MORE, "".join(_body(result, figure)))


def _body(result: Mapping[str, Any], figure: Figure) -> Iterator[str]:
    yield f"<header>{heading(1, figure.title)}"
    yield paragraph(
        f"A log replayed through the whole lifecycle with insource backtest --lifecycle: family {result['family']}, "
        f"seed {result['seed']}, first version after {result['warmup']:,} requests.", "soft"
    )  # fmt: skip
    yield "</header><main>"
    yield _summary(result)
    yield f'<figure class="wide">{draw(figure)}</figure>'
    yield heading(2, "How to read it") + notes("", READING)
    yield heading(2, "Versions") + _versions(result)
    yield heading(2, "What happened") + _events(result)
    yield heading(2, "The windows in figures") + _windows(result)
    yield "</main>"


def _summary(result: Mapping[str, Any]) -> str:
    risk, cost, total = result["risk"], result["cost"], result["requests"]
    told = [
        ("Coverage", percent(result["coverage"]), f"{result['accepted']:,} of {total:,} requests accepted"),
        ("Risk", percent(risk["realised"]), f"at most {percent(risk['upper_bound'])}; promise "
         f"{percent(result['target_risk'])}: {'held' if risk['held'] else 'NOT held'}"),
        ("Upstream calls", f"{result['upstream_calls']:,}", f"{percent(result['upstream_calls'] / total)} of requests"),
        ("Suspensions", f"{len(result['suspensions'])}", f"versions rolled back: {len(result['rollbacks'])}"),
    ]  # fmt: skip
    if cost["currency"] is not None:
        spent, alone = Decimal(cost["insource"]), Decimal(cost["upstream_only"])
        told.insert(3, ("Money saved", money(alone - spent, cost["currency"]), f"of {money(alone, cost['currency'])}"))
    return tiles(told)


def _versions(result: Mapping[str, Any]) -> str:
    rows = (
        (f"@{each['version']}", each["family"], f"{each['at']:,}", f"{each['evidence']:,}",
         percent(each["certified_coverage"]), percent(each["certified_risk"]), f"{each['accepted']:,}",
         f"{each['wrong']:,}", way(each))
        for each in result["versions"]
    )  # fmt: skip
    columns = ("Version", "Family", "Trained at", "Evidence", "Certified coverage", "Risk at most", "Accepted", "Wrong",
               "Stages, and from which request on")  # fmt: skip
    return table("Every version that was trained", columns, rows, figures=(2, 3, 4, 5, 6, 7))


def _events(result: Mapping[str, Any]) -> str:
    rows = ((f"{each['at']:,}", told(each), each["why"]) for each in result["events"])
    return table("In the order of the log", ("Before request", "What", "Why"), rows)


def _windows(result: Mapping[str, Any]) -> str:
    rows = (
        (f"{each['from']:,} to {each['to']:,}", percent(each["coverage"]), f"{each['accepted']:,}",
         f"{each['wrong']:,}", percent(each["risk"]) if each["risk"] is not None else None,
         f"@{each['active']}" if each["active"] else None,
         f"{each['upstream_calls']:,}", each["cost"])
        for each in result["timeline"]
    )  # fmt: skip
    columns = ("Requests", "Coverage", "Accepted", "Wrong", "Risk", "Active", "Upstream calls so far", "Money so far")
    return table("What the drawing shows", columns, rows, figures=(1, 2, 3, 4, 6, 7))


def told(event: Mapping[str, Any]) -> str:
    """Return what happened in a few words: "@2 canary at 5 %", "@3 rolled back", "suspended"."""
    what, name = event["what"], f"@{event['version']} " if event["version"] is not None else ""
    if what == "canary":
        return f"{name}canary at {100 * event['share']:g} %"
    if what == "retired":
        return f"{name}{'retired' if event['before'] == 'active' else 'rolled back'}"
    return f"{name}{what}"


def way(version: Mapping[str, Any]) -> str:
    """Return a version's stages in one line: "shadow 600, canary 1 % 850, active 1,400"."""
    stages = version["stages"]
    parts = []
    for number, stage in enumerate(stages):
        word = stage["stage"]
        if word == "retired" and stages[number - 1]["stage"] != "active":
            word = "rolled back"
        parts.append(f"{word}{' %g %%' % (100 * stage['share']) if word == 'canary' else ''} {stage['from']:,}")
    return ", ".join(parts[1:]) or "never tried"
