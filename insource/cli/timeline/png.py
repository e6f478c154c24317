"""The timeline as a PNG, drawn by matplotlib, which the extra `plots` brings.

It knows a figure and matplotlib's axes; the same figure as the page's drawing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from insource.cli.timeline.figure import Figure, Line, Panel
from insource.errors import MissingExtra

INK, SOFT, GRID, GROUND = "#17212b", "#55616d", "#d3dae1", "#f5f7f9"
COLOURS = {"blue": "#1f5fa8", "orange": "#b8560f", "red": "#a3201d", "grey": "#78838e"}
STAGES = {"shadow": "#6b7681", "canary": "#9a6a00", "active": "#1b6e4b", "doubted": "#6a4c9c",
          "suspended": "#a3201d"}  # fmt: skip
DPI = 150
LETTER = 0.0075
"""How wide a letter of a span's text is, as a share of the width."""


def check() -> None:
    """Raise MissingExtra where matplotlib is not installed."""
    _matplotlib()


def write(figure: Figure, path: Path) -> None:
    """Draw the figure into a file; raises MissingExtra, OSError."""
    _matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    rows = max(len(figure.bands), 1)
    heights = [0.28 * rows + 0.2, *([1.45] * len(figure.panels))]
    drawn = Canvas(figsize=(11.0, sum(heights) + 0.62 * len(heights) + 0.5), facecolor="white",
                   layout=ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.1))  # fmt: skip
    FigureCanvasAgg(drawn)
    drawn.suptitle(figure.title, x=0.01, ha="left", fontsize=13, fontweight="bold", color=INK)
    axes = drawn.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    for axis in axes:
        _frame(axis, figure)
    _bands(axes[0], figure)
    for axis, panel in zip(axes[1:], figure.panels, strict=True):
        _panel(axis, panel)
    axes[-1].set_xlabel("requests", color=SOFT, fontsize=9)
    drawn.savefig(path, format="png", dpi=DPI, metadata={"Software": "insource", "Description": figure.said})


def _frame(axis: Any, figure: Figure) -> None:
    axis.set_facecolor(GROUND)
    axis.set_xlim(0, figure.requests)
    axis.set_xticks([at for at, _ in figure.ticks], [text for _, text in figure.ticks])
    axis.tick_params(colors=SOFT, labelsize=8, length=0, labelbottom=True)
    axis.grid(color=GRID, linewidth=0.7)
    axis.set_axisbelow(True)
    for spine in axis.spines.values():
        spine.set_color(GRID)
    for start, stop in figure.suspended:
        axis.axvspan(start, max(stop, start + figure.requests / 600), color=COLOURS["red"], alpha=0.16, linewidth=0)


def _bands(axis: Any, figure: Figure) -> None:
    axis.set_title("Versions", loc="left", fontsize=10, fontweight="bold", color=INK)
    for stage, colour in STAGES.items():
        axis.barh(0, 0, color=colour, label=stage)
    _legend(axis)
    axis.set_yticks(range(len(figure.bands)), [band.name for band in figure.bands])
    axis.set_ylim(max(len(figure.bands), 1) - 0.5, -0.5)
    axis.grid(axis="y", visible=False)
    for row, band in enumerate(figure.bands):
        for span in band.spans:
            axis.barh(row, span.stop - span.start, left=span.start, height=0.72, color=STAGES[span.stage],
                      edgecolor="white", linewidth=0.5)  # fmt: skip
            if span.stop - span.start > LETTER * (len(span.text) + 1) * figure.requests:
                axis.text(span.start + 0.004 * figure.requests, row, span.text, color="white", fontsize=7.5,
                          fontweight="bold", va="center_baseline")  # fmt: skip
        if band.back is not None:
            axis.plot(band.back + 0.008 * figure.requests, row, "x", color=COLOURS["red"], markersize=7, mew=2)
            axis.text(band.back + 0.018 * figure.requests, row, "rolled back", color=SOFT, fontsize=7.5,
                      va="center_baseline")  # fmt: skip


def _panel(axis: Any, panel: Panel) -> None:
    axis.set_title(panel.title, loc="left", fontsize=10, fontweight="bold", color=INK)
    axis.set_ylim(0, panel.top)
    axis.set_yticks([at for at, _ in panel.ticks], [text for _, text in panel.ticks])
    for line in panel.lines:
        _line(axis, panel, line)
    _legend(axis)


def _legend(axis: Any) -> None:
    handles, names = axis.get_legend_handles_labels()
    axis.legend(handles, names, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(names), fontsize=8,
                frameon=False, labelcolor=SOFT, borderaxespad=0.1, columnspacing=1.4, handlelength=2.2)  # fmt: skip


def _line(axis: Any, panel: Panel, line: Line) -> None:
    colour = COLOURS[line.colour]
    places = [at for at, _ in line.points]
    values = [float("nan") if value is None else value for _, value in line.points]
    if line.kind == "dots":
        inside = [value if value <= panel.top else float("nan") for value in values]
        axis.plot(places, inside, "o", color=colour, markersize=3.5, label=line.name, clip_on=False)
        beyond = [at for at, value in zip(places, values, strict=True) if value > panel.top]
        axis.plot(beyond, [0.96 * panel.top] * len(beyond), "^", color=colour, markersize=5)
    elif line.kind == "step":
        axis.step(places, values, where="post", color=colour, linewidth=1.6, label=line.name)
    else:
        dash = (0, (5, 3)) if line.kind == "dashed" else "-"
        axis.plot(places, values, color=colour, linewidth=1.6, linestyle=dash, label=line.name)
        if line.kind == "area":
            axis.fill_between(places, values, color=colour, alpha=0.15, linewidth=0)


def _matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingExtra(
            "A timeline in PNG is drawn by matplotlib, which is not installed; it was expected beside insource. "
            "Run: pip install 'insource[plots]'. A timeline in HTML needs nothing more."
        ) from error
