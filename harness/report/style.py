"""The one style of all figures: type, colours, and how a line is told from the next.

Colour is the schedule, line and marker are the sampler, so that a grey print loses nothing.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.report.points import Point
from harness.report.table import Results, training_labels
from harness.report.words import wrapped

MOST_LINES = 8  # in one panel; beyond that there are several
MOST_PANELS = 12
WIDTH = 6.2  # inches; with this size of type still readable on a telephone
LETTER = 9 * 0.62 / 72, 9 * 1.35 / 72  # inches: how wide and high one of the small type is
INK, FAINT = "#22252b", "#777b84"
STYLE = {
    **sns.axes_style("ticks"),
    **sns.plotting_context("notebook", font_scale=0.95),
    "font.family": ["DejaVu Sans"],  # comes with matplotlib, so pages are the same everywhere
    "text.parse_math": False,  # a dollar sign in somebody's name is a dollar sign
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#55585f",
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e8ec",
    "grid.linewidth": 0.8,
    "xtick.color": "#55585f",
    "ytick.color": "#55585f",
    "text.color": INK,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "figure.dpi": 100,
    "svg.hashsalt": "harness",  # otherwise every build has other identifiers
    "svg.fonttype": "path",
}
PALETTE = sns.color_palette("colorblind")
COLOURS = [PALETTE[i] for i in (0, 1, 2, 3, 4, 5, 7, 8, 9)]  # without its pale grey
DARKER = [tuple(0.55 * part for part in colour) for colour in COLOURS]  # should those not do
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "<", ">"]
DASHES: list[Any] = ["-", (0, (5, 2)), (0, (1, 1.3)), (0, (6, 2, 1, 2)), (0, (3, 1, 1, 1, 1, 1))]
REAL: dict[str, Any] = {"color": "#3a3d44", "linewidth": 1.2, "alpha": 0.6}  # real images


@dataclass(frozen=True)
class Looks:
    """How each schedule and each sampler is drawn."""

    schedules: dict[str, dict[str, Any]]
    samplers: dict[str, dict[str, Any]]

    def of(self, point: Point) -> dict[str, Any]:
        return self.schedules[point.schedule] | self.samplers[point.sampler]


def looks(results: Results, everything: Iterable[Point]) -> Looks:
    """The looks of these points, with the colours they have in all figures of the report."""
    everything = list(everything)
    schedules = sorted({point.schedule for point in everything})
    samplers = sorted({point.sampler for point in everything})
    colour = colours(results, schedules)
    return Looks(
        {schedule: {"color": colour[schedule]} for schedule in schedules},
        {
            sampler: {"marker": MARKERS[i % len(MARKERS)], "linestyle": DASHES[i % len(DASHES)]}
            for i, sampler in enumerate(samplers)
        },
    )


def colours(results: Results, others: Iterable[str] = ()) -> dict[str, Any]:
    """A colour for each schedule, the same in every figure of a report."""
    trained = sorted(set(training_labels(results.trainings)))
    names = dict.fromkeys([*trained, *sorted(results.schedules), *sorted(others)])
    shades = [*COLOURS, *DARKER]
    return {name: shades[i % len(shades)] for i, name in enumerate(names)}


def figure_of(height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, Any]:
    """A figure outside pyplot: no window, no global list of figures to forget one in."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots(rows, columns)


def panels_of(names: Sequence[str], across: str, height: float) -> tuple[Figure, list[Axes]]:
    """A panel for each name, two abreast; for no name one panel of this height."""
    rows, columns = (-(-len(names) // 2), 2) if names else (1, 1)
    figure, grid = figure_of(1 + 2.3 * rows if names else height, rows, columns)
    panels = list(np.ravel(grid))
    shown = panels[: len(names) or 1]
    for axes, name in zip(panels, names, strict=False):
        axes.set_title(wrapped(name, 34), fontsize=STYLE["axes.labelsize"])
    for axes in panels[len(shown) :]:
        axes.remove()
    for axes in shown[columns * (rows - 1) :]:
        axes.set_xlabel(across)
    return figure, shown


def legend(figure: Figure, entries: dict[str, dict[str, Any]]) -> float:
    """What is drawn how, below the axes, where it hides nothing; the inches that it takes."""
    handles = [
        Line2D([], [], label=name, **{"color": INK, "markeredgecolor": "white"} | look)
        for name, look in entries.items()
    ]
    letters = [len(name) + 7 for name in entries]
    columns = len(handles) if sum(letters) <= 76 else max(1, min(5, 76 // max(letters)))
    rows = -(-len(handles) // columns)
    figure.set_figheight(figure.get_figheight() + 0.24 * max(0, rows - 3))  # not from the axes
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, columnspacing=1.4)
    return 0.15 + 0.23 * rows


def name_up(figure: Figure, name: str, below: float) -> None:
    """What goes up in all panels of a figure, beside the middle of them; `below` are the inches
    that the legend takes."""
    below += 0.4  # of the lowest axis, its numbers and name
    high = figure.get_figheight()
    room = int((high - below) / 0.085)  # letters
    size = STYLE["axes.labelsize"]
    figure.supylabel(wrapped(name, room), y=(below + high) / 2 / high, fontsize=size)


def saved(figure: Figure, kind: str) -> bytes:
    """The figure as `svg` or `png`, the same bytes every time."""
    file = io.BytesIO()
    with mpl.rc_context(STYLE):
        metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        # The height of a sheet of pictures follows from its width, so what is over is cut off.
        box = "tight" if is_raster(figure) else None
        figure.savefig(file, format=kind, dpi=160, metadata=metadata, bbox_inches=box)
    return file.getvalue()


def is_raster(figure: Figure) -> bool:
    """Whether the figure holds pictures, which a vector format only makes larger."""
    return any(axes.images for axes in figure.axes)
