"""A comparison as a PNG, drawn by matplotlib, which the extra `plots` brings: the same chart as the page's drawing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from insource.cli.comparison.figure import Chart, Dot, Panel
from insource.cli.timeline.png import COLOURS, DPI, GRID, GROUND, INK, SOFT

GREEN = "#1b6e4b"
FILL = {"chosen": GREEN, "front": COLOURS["blue"], "other": GROUND, "misses": GROUND}
EDGE = {"chosen": INK, "front": COLOURS["blue"], "other": COLOURS["grey"], "misses": COLOURS["red"]}
NAMES = {"chosen": "recommended", "front": "on the front", "other": "dominated", "misses": "misses what is required"}
RULES = {"require": COLOURS["red"], "upstream": COLOURS["orange"]}


def write(chart: Chart, path: Path) -> None:
    """Draw the chart into a file; raises OSError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    drawn = Canvas(figsize=(11.0, 3.9 * len(chart.panels) + 0.4), facecolor="white",
                   layout=ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.1))  # fmt: skip
    FigureCanvasAgg(drawn)
    drawn.suptitle(chart.title, x=0.01, ha="left", fontsize=13, fontweight="bold", color=INK)
    axes = drawn.subplots(len(chart.panels), 1, squeeze=False)[:, 0]
    for axis, panel in zip(axes, chart.panels, strict=True):
        _panel(axis, panel)
    drawn.savefig(path, format="png", dpi=DPI, metadata={"Software": "insource", "Description": chart.said})


def _panel(axis: Any, panel: Panel) -> None:
    axis.set_title(panel.title, loc="left", fontsize=10, fontweight="bold", color=INK)
    axis.set_facecolor(GROUND)
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)
    axis.set_xticks([at for at, _ in panel.x_ticks], [text for _, text in panel.x_ticks])
    axis.set_yticks([at for at, _ in panel.y_ticks], [text for _, text in panel.y_ticks])
    axis.tick_params(colors=SOFT, labelsize=8, length=0)
    axis.grid(color=GRID, linewidth=0.7)
    axis.set_axisbelow(True)
    for spine in axis.spines.values():
        spine.set_color(GRID)
    axis.plot(*zip(*panel.front, strict=True), color=COLOURS["blue"], linewidth=1.2, alpha=0.55)
    for rule in panel.rules:
        colour = RULES[rule.kind]
        (axis.axvline if rule.upright else axis.axhline)(rule.at, color=colour, linewidth=1.1, linestyle=(0, (5, 3)))
        place = (rule.at + (-0.006 if rule.at > 0.5 else 0.006), 0.03) if rule.upright else (0.994, rule.at - 0.05)
        side = "left" if rule.upright and rule.at <= 0.5 else "right"
        axis.text(*place, rule.text, color=colour, fontsize=8, ha=side)
    for dot in panel.dots:
        _dot(axis, dot)
    kinds = [kind for kind in NAMES if any(dot.kind == kind for dot in panel.dots)]
    for kind in kinds:
        axis.plot([], [], "o", markerfacecolor=FILL[kind], markeredgecolor=EDGE[kind], label=NAMES[kind])
    axis.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(kinds), fontsize=8, frameon=False,
                labelcolor=SOFT, borderaxespad=0.1, columnspacing=1.2, handletextpad=0.3)  # fmt: skip


def _dot(axis: Any, dot: Dot) -> None:
    chosen = dot.kind == "chosen"
    axis.plot([dot.x, dot.x], [dot.low, dot.high], color=SOFT, linewidth=0.8, alpha=0.7)
    if abs(dot.label[1] - dot.y) > 0.04:
        axis.plot([dot.x, dot.label[0]], [dot.y, dot.label[1]], color=SOFT, linewidth=0.5, alpha=0.7)
    axis.plot(dot.x, dot.y, "o", markersize=8.5 if chosen else 6.5, markerfacecolor=FILL[dot.kind],
              markeredgecolor=EDGE[dot.kind], markeredgewidth=1.4)  # fmt: skip
    axis.text(*dot.label, dot.name, fontsize=8, color=INK if chosen else SOFT, va="center_baseline",
              ha="right" if dot.left else "left", fontweight="bold" if chosen else "normal")  # fmt: skip
