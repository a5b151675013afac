"""The one style of all figures: type, colours, legends, axes, and how lines are told apart.

Colour is the schedule, line and marker are the sampler, so that a grey print loses nothing.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator, SymmetricalLogLocator

from harness.analysis.study import Study
from harness.report.wording import number, wrapped

Look = dict[str, Any]  # how a line is drawn, in matplotlib's keywords
Show = Callable[[float, Any], str]  # a number of an axis as text

MOST_LINES = 8  # in one panel; beyond that there are several
MOST_PANELS = 12
PAGE_WIDTH = 6.2  # inches; with this size of type still readable on a telephone
LETTER = 9 * 0.62 / 72, 9 * 1.35 / 72  # inches: how wide and high one of the small type is
INK, EDGE, FAINT = "#22252b", "#55585f", "#777b84"
STYLE: Any = {
    **sns.axes_style("ticks"), **sns.plotting_context("notebook", font_scale=0.95),
    "font.family": ["DejaVu Sans"],  # comes with matplotlib, so pages are the same everywhere
    "text.parse_math": False,  # a dollar sign in somebody's name is a dollar sign
    "svg.hashsalt": "harness",  # otherwise every build has other identifiers
    "svg.fonttype": "path", "figure.facecolor": "white", "figure.dpi": 100,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "axes.axisbelow": True, "axes.edgecolor": EDGE, "xtick.color": EDGE, "ytick.color": EDGE,
    "axes.labelcolor": INK, "text.color": INK, "grid.color": "#e6e8ec", "grid.linewidth": 0.8,
    "legend.frameon": False,
}  # fmt: skip
STYLE["axes.titlesize"] = STYLE["axes.labelsize"]
PALETTE = sns.color_palette("colorblind")
COLOURS = [PALETTE[i] for i in (0, 1, 2, 3, 4, 5, 7, 8, 9)]  # without its pale grey
DARKER = [tuple(0.55 * part for part in colour) for colour in COLOURS]  # should those not do
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "<", ">"]
DASHES: list[Any] = ["", (5, 2), (1, 1.3), (6, 2, 1, 2), (3, 1, 1, 1, 1, 1)]  # as in seaborn


@dataclass(frozen=True)
class Looks:
    """How each schedule is drawn, and each sampler or spacing."""

    colours: dict[str, Any]
    markers: dict[str, str]
    dashes: dict[str, Any]

    def of(self, schedule: str = "", other: str = "") -> Look:
        """The look of a line."""
        look: Look = {"color": self.colours[schedule]} if schedule else {}
        if other:
            dash = self.dashes[other]
            look |= {"marker": self.markers[other], "linestyle": (0, dash) if dash else "-"}
        return look

    def plot(self, kind: Callable[..., Any], axes: Axes, table: pd.DataFrame, **how: Any) -> None:
        """Draw the columns x and y by schedule, by a function of seaborn."""
        names = {"xlabel": axes.get_xlabel(), "ylabel": axes.get_ylabel()}
        by: Look = {"x": "x", "y": "y", "hue": "schedule", "palette": self.colours}
        kind(table, **by, legend=False, ax=axes, **how)
        axes.set(**names)

    def entries(self, schedules: Iterable[str], others: Iterable[str] = ()) -> dict[str, Look]:
        """The lines of a legend."""
        coloured = {name: self.of(name) for name in sorted({*schedules})}
        return coloured | {name: self.of(other=name) for name in sorted({*others})}


def looks(study: Study, others: Iterable[str] = ()) -> Looks:
    """The looks of the schedules and of these others, the same in every figure of a report."""
    cells = [one.cell for one in study.results]
    kinds = (
        {study.training_label(one.training) for one in study.trainings},
        {str(part) for cell in cells for part in (cell.training.schedule, cell.sample_schedule)},
        {study.labels(cell).schedule for cell in cells},
    )
    schedules = dict.fromkeys(name for kind in kinds for name in sorted(kind))
    marked = sorted({*others})
    return Looks(
        dict(zip(schedules, cycle([*COLOURS, *DARKER]), strict=False)),
        dict(zip(marked, cycle(MARKERS), strict=False)),
        dict(zip(marked, cycle(DASHES), strict=False)),
    )


def figure_of(height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, Any]:
    """A figure outside pyplot: no window, no global list of figures to forget one in."""
    figure = Figure(figsize=(PAGE_WIDTH, height), layout="constrained")
    return figure, figure.subplots(rows, columns)


def panels_of(names: Sequence[str], across: str, height: float) -> tuple[Figure, list[Axes]]:
    """A panel for each name, two abreast; for no name one panel of this height."""
    rows, columns = (-(-len(names) // 2), 2) if names else (1, 1)
    figure = Figure(figsize=(PAGE_WIDTH, 1 + 2.1 * rows if names else height), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
    for axes in panels[max(1, len(names)) :]:
        axes.remove()
    shown = panels[: max(1, len(names))]
    for axes, name in zip(shown, names, strict=False):
        axes.set_title(wrapped(name, 34))
    for axes in shown[-columns:]:
        axes.set_xlabel(wrapped(across, 34 if names else 68))
    return figure, shown


def explain(figure: Figure, entries: Mapping[str, Look], up: str = "") -> None:
    """Add a legend below the axes, where it hides nothing, and the name of what goes up in all
    panels, beside the middle of them."""
    plain: Look = {"color": INK, "markeredgecolor": "white"}
    handles = [Line2D([], [], label=name, **(plain | look)) for name, look in entries.items()]
    letters = [len(name) + 7 for name in entries]
    columns = len(handles) if sum(letters) <= 76 else max(1, min(5, 76 // max(letters)))
    rows = -(-len(handles) // columns)
    # A long legend takes nothing from the axes.
    high = figure.get_figheight() + 0.24 * max(0, rows - 3)
    figure.set_figheight(high)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, columnspacing=1.4)
    below = 0.55 + 0.23 * rows  # inches of the legend, and of the lowest axis with its name
    name = wrapped(up, int((high - below) / 0.085))
    figure.supylabel(name, y=(below + high) / 2 / high, fontsize=STYLE["axes.labelsize"])


def steps_axis(axes: Axes, steps: Iterable[int], most: int = 9) -> None:
    """A logarithmic axis with ticks at the numbers of steps that were tried, `most` of them or
    fewer, so that their labels do not touch."""
    values = sorted(set(steps))
    apart = (values[-1] / values[0]) ** (1 / most)
    shown = values[:1]
    for value in values[1:]:
        shown += [value] * (value >= shown[-1] * apart)
    axes.set_xscale("log")
    axes.xaxis.set(major_locator=FixedLocator(shown), minor_locator=NullLocator())
    axes.xaxis.set_major_formatter("{x:,.0f}")
    if len(values) == 1:
        axes.set_xlim(values[0] / 2, values[0] * 2)


def log_axis(axes: Axes, which: str, values: Iterable[float], show: Show | None = None) -> None:
    """A logarithmic axis with plain numbers at 1, 2 and 5 of each decade; at fewer where these
    values span many, at more where they span none."""
    positive = [value for value in values if np.isfinite(value) and value > 0]
    if positive:
        axes.set(**{f"{which}scale": "log"})
        _ticks(axes, which, LogLocator(subs=_subs(max(positive) / min(positive))), show)


def symmetric_axis(axes: Axes, which: str, values: Iterable[float], small: float) -> None:
    """Linear up to about a small value of interest, logarithmic beyond it on both sides."""
    # A power of ten between half and five times the value: it has a tick of its own.
    threshold = float(10 ** np.floor(np.log10(2 * small))) if small > 0 else 1.0
    values = list(values)
    decades = sum(np.log10(max(1.0, end / threshold)) for end in (-min(values), max(values)))
    # What is linear is so wide that the numbers at its ends do not touch the zero between them.
    set_scale, share = (axes.set_xscale, 0.26) if which == "x" else (axes.set_yscale, 0.16)
    set_scale("symlog", linthresh=threshold, linscale=max(0.6, share * decades))
    subs = _subs(max(map(abs, values)) / threshold) if which == "y" else (1.0,)
    locator = SymmetricalLogLocator(base=10, linthresh=threshold, subs=subs)
    locator.set_params(numticks=5 if which == "x" else 7)
    _ticks(axes, which, locator)


def saved(figure: Figure, kind: str) -> bytes:
    """The figure as `svg` or `png`, the same bytes every time."""
    file = io.BytesIO()
    with mpl.rc_context(STYLE):
        metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        # The height of a sheet of images follows from its width, so what is over is cut off.
        box = "tight" if is_raster(figure) else None
        figure.savefig(file, format=kind, dpi=160, metadata=metadata, bbox_inches=box)
    return file.getvalue()


def is_raster(figure: Figure) -> bool:
    """Whether the figure holds images, which a vector format only makes larger."""
    return any(axes.images for axes in figure.axes)


def _ticks(axes: Axes, which: str, locator: Any, show: Show | None = None) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set(major_locator=locator, minor_locator=NullLocator(), major_formatter=show or _plain)


def _subs(ratio: float) -> tuple[float, ...]:
    """The multiples of a power of ten that have ticks on an axis over this ratio of values."""
    if ratio < 8:
        return (1.0, 2.0, 3.0, 4.0, 6.0, 8.0)
    return (1.0, 2.0, 5.0) if ratio < 300 else (1.0,)


def _plain(value: float, _: Any) -> str:
    return number(round(value, 12), 1) if value else "0"
