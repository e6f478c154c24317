"""A comparison as one self-contained HTML page: no script, nothing fetched, the figures in tables under the drawing.

It lays out what `compare` found; it computes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from insource.cli.comparison.drawing import draw
from insource.cli.comparison.figure import Chart, chart_of
from insource.cli.comparison.show import about, amount, change_told, chosen_of, complexity_rows, recommended, signed
from insource.cli.output import milliseconds, percent
from insource.governance.markup import document, heading, notes, paragraph, table, tiles
from insource.governance.style import STYLE

MORE = """
body{max-width:70rem}
figure.wide svg{max-width:none}
svg text.head{font-size:15px;font-weight:600}
svg text.small{font-size:12px;fill:var(--soft)}
svg text.bold{font-weight:700;fill:var(--ink)}
svg text.t-require{fill:var(--red)}svg text.t-upstream{fill:var(--orange)}
.plot{fill:var(--panel);stroke:var(--line)}
.way{stroke:var(--blue);stroke-width:1.5;fill:none;opacity:.55}
.bar{stroke:var(--soft);stroke-width:1;opacity:.7}
.lead{stroke:var(--soft);stroke-width:.7;opacity:.7}
.r-require{stroke:var(--red);stroke-dasharray:6 4}.r-upstream{stroke:var(--orange);stroke-dasharray:6 4}
.d-chosen{fill:var(--green);stroke:var(--ink);stroke-width:1.5}.d-front{fill:var(--blue)}
.d-other{fill:var(--panel);stroke:var(--grey);stroke-width:1.5}
.d-misses{fill:var(--panel);stroke:var(--red);stroke-width:2}
"""
READING = (
    "Accuracy is measured on the same test rows for all versions, which none has seen; the upright lines are exact "
    "binomial 95 % intervals. Two versions whose intervals overlap may still differ: they are compared row by row.",
    "The cost of a thousand requests holds cores, power, a month's share of one training and, where the upstream's "
    "prices are known, the requests that are escalated or audited.",
    "On the front: no other version is at least as good in accuracy, cost, median latency and the share of requests "
    "that leave. The blue line joins the best in the two dimensions of its panel alone.",
)


def render(result: Mapping[str, Any]) -> str:
    """Return the page for the result of `compare`."""
    chart = chart_of(result)
    return document(chart.title, STYLE + MORE, "".join(_body(result, chart)))


def _body(result: Mapping[str, Any], chart: Chart) -> Iterator[str]:
    yield f"<header>{heading(1, chart.title)}"
    yield paragraph(
        f"insource compare: {result['test_rows']:,} test rows, seed {result['seed']}, {result['seconds']:.0f} of "
        f"{result['time_budget']:.0f} s.", "soft"
    )  # fmt: skip
    yield f"</header><main>{paragraph(recommended(result))}{_summary(result)}"
    yield f'<figure class="wide">{draw(chart)}</figure>'
    yield heading(2, "The recommendation") + notes("", about(result))
    if result["changes"]:
        yield heading(2, "What would change it") + notes("", map(change_told, result["changes"]))
    yield heading(2, "How to read it") + notes("", READING)
    yield heading(2, "The versions") + _versions(result)
    if result["next_point"]:
        yield heading(2, "The price of the next point") + _steps(result)
    if result["not_tried"]:
        rows = ((each["name"], each["what"], each["why"]) for each in result["not_tried"])
        yield heading(2, "Not measured") + table("Dropped, left out or refused", ("Candidate", "What", "Why"), rows)
    yield heading(2, "What the task needs")
    yield table("Of its rows", ("", ""), complexity_rows(result["complexity"]))
    yield "</main>"


def _summary(result: Mapping[str, Any]) -> str:
    found = chosen_of(result)
    low, high = (percent(found["accuracy_interval"][end]) for end in ("low", "high"))
    alone = result["upstream"]["cost_per_thousand"]
    calibration = found["calibration"]
    return tiles([
        ("Take", found["name"], f"{result['task']}@{found['version']}"),
        ("Accuracy", percent(found["accuracy"]), f"{low} to {high}"),
        ("Accepts", percent(calibration["coverage"] if calibration else 0.0),
         f"certified; {percent(found['sent_up'])} leave"),
        ("A thousand requests", f"{amount(found['cost_per_thousand']['total'])} {result['prices']['currency']}",
         f"the upstream alone: {amount(alone)}"),
        ("An answer", milliseconds(found["latency_ms"]["p50"]), f"p99 {milliseconds(found['latency_ms']['p99'])}"),
        ("Size", f"{found['size_bytes'] / 1e6:.1f} MB", "with its encoder"),
    ])  # fmt: skip


def _versions(result: Mapping[str, Any]) -> str:
    def rows() -> Iterator[tuple[str, ...]]:
        for each in result["candidates"]:
            low, high = (100 * each["accuracy_interval"][end] for end in ("low", "high"))
            calibration = each["calibration"]
            yield (
                each["name"], f"@{each['version']}", percent(each["accuracy"]), f"{low:.1f} to {high:.1f}",
                percent(each["macro_f1"]), percent(calibration["coverage"] if calibration else 0.0),
                percent(calibration["risk_upper_bound"]) if calibration else "-",
                amount(each["cost_per_thousand"]["total"]), f"{each['latency_ms']['p50']:.2g}",
                f"{each['latency_ms']['p99']:.2g}", percent(each["sent_up"]), f"{each['size_bytes'] / 1e6:.1f}",
                f"{each['joules_per_thousand']:.2g}", f"{each['seconds']:.0f}",
                "; ".join([*(["on the front"] if each["on_front"] else []), *each["misses"]]),
            )  # fmt: skip

    columns = ("Candidate", "", "Accuracy", "95 %", "Macro F1", "Accepts", "Risk at most", "Cost of 1,000", "p50 ms",
               "p99 ms", "Leaves", "MB", "Joules of 1,000", "Made in s", "")  # fmt: skip
    return table("Measured on the same rows", columns, rows(), figures=tuple(range(2, 14)))


def _steps(result: Mapping[str, Any]) -> str:
    rows = (
        (f"{each['before']} to {each['after']}", f"{each['points']:.1f}", signed(each["money"]),
         f"{each['milliseconds']:+.2g}", f"{each['megabytes']:+.2g}", "within noise" if each["within_noise"] else "")
        for each in result["next_point"]
    )  # fmt: skip
    money = f"{result['prices']['currency']} for a million requests"
    columns = ("Along the front", "Points", money, "Milliseconds", "MB", "")
    return table("What one more point of accuracy costs", columns, rows, figures=(1, 2, 3, 4))
