"""The one style of all figures: type, colours, labels, axes, and how lines are told apart.

Colour is the schedule, line and marker are the sampler. Colours differ in lightness as well as in
hue, so that neither a grey print nor colour-blindness takes them away.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator, SymmetricalLogLocator
from scipy.optimize import isotonic_regression

from harness.analysis.study import Study
from harness.report.wording import number, wrapped

Look = dict[str, Any]  # how a line is drawn, in matplotlib's keywords
Show = Callable[[float, Any], str]  # a number of an axis as text

MOST_LINES = 6  # in one panel; beyond that there are several
MOST_PANELS = 12
PAGE_WIDTH = 6.2  # inches; with this size of type still readable on a telephone
SAVED_DPI, SHOWN_DPI = 160, 110  # pixels to an inch, of a file and of a notebook's page
SMALL = 9  # points: the smallest type
LETTER = SMALL * 0.62 / 72, SMALL * 1.35 / 72  # inches: how wide and high one of them is
LONGEST_LABEL = 20  # letters of a line of a label beside a panel
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
# As far apart in hue and lightness as eight can be, to normal sight and to the three kinds of
# colour-blindness; the first are the farthest apart in grey.
COLOURS = ["#3658b3", "#d98801", "#eb205f", "#4f1c51", "#1197a8", "#743322", "#ba491d", "#6b00eb"]
PALER = [tuple(1 - 0.55 * (1 - part) for part in to_rgb(one)) for one in COLOURS]  # if they are few
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "<", ">"]
DASHES: list[Any] = ["", (5, 2), (1, 1.3), (6, 2, 1, 2), (3, 1, 1, 1, 1, 1)]  # as in seaborn


class ShownFigure(Figure):
    """A figure that a notebook shows as the page does, whether or not pyplot is in use."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        png = saved(self, "png")
        return png, {"width": int.from_bytes(png[16:20]) * SHOWN_DPI // SAVED_DPI}


class Drawing(ShownFigure):
    """A figure that knows what is drawn in it. Lines of its function's docstring that begin with
    `[bands]` belong to its caption where `drawn` has that name; `{bands}` there is its value."""

    drawn: dict[str, object]


@dataclass(frozen=True)
class Label:
    """What stands beside the end of a line."""

    text: str
    x: float
    y: float
    look: Look

    @classmethod
    def of(cls, text: str, line: pd.DataFrame, look: Look) -> Label:
        """Of a line by its columns x and y."""
        return cls(text, float(line["x"].iloc[-1]), float(line["y"].iloc[-1]), look)


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
        {study.loss_label(one.training) for one in study.trainings},
    )
    schedules = dict.fromkeys(name for kind in kinds for name in sorted(kind))
    marked = sorted({*others})
    return Looks(
        dict(zip(schedules, cycle([*COLOURS, *PALER]), strict=False)),
        dict(zip(marked, cycle(MARKERS), strict=False)),
        dict(zip(marked, cycle(DASHES), strict=False)),
    )


def drawing(height: float) -> Drawing:
    """An empty figure outside pyplot: no window, no global list of figures to forget one in."""
    figure = Drawing(figsize=(PAGE_WIDTH, height), layout="constrained")
    figure.drawn = {}
    return figure


def figure_of(height: float, rows: int = 1, columns: int = 1) -> tuple[Drawing, Any]:
    figure = drawing(height)
    return figure, figure.subplots(rows, columns)


def panels_of(
    names: Sequence[str], across: str, height: float, below: float = 0
) -> tuple[Drawing, list[Axes], list[Axes]]:
    """A panel for each name, two abreast; for no name one panel of this height. One more across
    the page under them where it is given a height."""
    rows, columns = (-(-len(names) // 2), 2) if names else (1, 1)
    high = 1 + max(2.1 * rows, 2.6) if names else height
    figure = drawing(high + below)
    shares = [(high - 0.5) / rows] * rows + [below] * (below > 0)
    grid = figure.add_gridspec(len(shares), columns, height_ratios=shares)
    panels: list[Axes] = []
    for place, name in enumerate(names or [""]):
        row, column = divmod(place, columns)
        axes = figure.add_subplot(grid[row, column], sharey=panels[0] if panels else None)
        axes.tick_params(labelleft=column == 0)
        axes.set_title(wrapped(name, 34))
        panels.append(axes)
    for axes in panels[-columns:]:
        axes.set_xlabel(wrapped(across, 34 if names else 68))
    return figure, panels, [figure.add_subplot(grid[-1, :])] if below else []


def explain(figure: Drawing, entries: Mapping[str, Look], up: str = "", below: float = 0) -> None:
    """Add a legend below the axes, where it hides nothing, and the name of what goes up in all
    panels, beside the middle of them; `below` is how high what stands under them is."""
    plain: Look = {"color": INK, "markeredgecolor": "white"}
    handles = [Line2D([], [], label=name, **(plain | look)) for name, look in entries.items()]
    letters = [len(name) + 7 for name in entries]
    columns = len(handles) if sum(letters) <= 76 else max(1, min(5, 76 // max(letters)))
    rows = -(-len(handles) // columns) if handles else 0
    # A long legend takes nothing from the axes.
    high = figure.get_figheight() + 0.24 * max(0, rows - 3)
    figure.set_figheight(high)
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=columns, columnspacing=1.4)
    below += 0.55 + 0.23 * rows  # inches of the legend, and of the lowest axis with its name
    name = wrapped(up, int((high - below) / 0.085))
    figure.supylabel(name, y=(below + high) / 2 / high, fontsize=STYLE["axes.labelsize"])


def fits(labels: Sequence[str], inches: float) -> bool:
    """Whether these can stand below each other beside a panel of this height."""
    lines = [wrapped(text, LONGEST_LABEL).split("\n") for text in labels]
    short = all(len(each) < 3 and len(max(each, key=len)) <= LONGEST_LABEL for each in lines)
    return short and 1.1 * LETTER[1] * sum(map(len, lines)) <= inches


def label_ends(figure: Figure, axes: Axes, labels: Sequence[Label], inches: float) -> None:
    """Write these to the right of a panel of about this height, each at the end of its line, or as
    near to it as the others leave room; a thin line leads to one that had to move. A line that has
    a marker shows it before its name."""
    low, high = axes.get_ylim()  # brings the limits up to date, which the next line reads
    scale = axes.get_xlim() and axes.transScale + axes.transLimits
    inside = [replace(one, y=min(max(one.y, low), high)) for one in labels]
    places = [(*scale.transform((one.x, one.y)), one) for one in inside]
    places.sort(key=lambda place: place[1])
    texts = [wrapped(one.text, LONGEST_LABEL) for _, _, one in places]
    for (x, y, one), text, up in zip(
        places, texts, _apart([y for _, y, _ in places], texts, inches), strict=True
    ):
        marker, colour = one.look.get("marker", ""), one.look.get("color", INK)
        # Of the figure, not the axes: no data, and not cut off at their edge.
        key: Look = {"transform": axes.transAxes, "color": colour}
        if abs(up - y) * inches > 0.04 or x < 0.9:
            figure.add_artist(Line2D([x, 1.02], [y, up], linewidth=0.6, alpha=0.8, **key))
        if marker:
            shape: Look = {"marker": marker, "markersize": 6, "markeredgecolor": "white"}
            figure.add_artist(Line2D([1.035], [up], **shape, **key))
        axes.annotate(
            text, (1.055 if marker else 1.025, up), xycoords="axes fraction", va="center",
            fontsize=SMALL, color=readable(colour), linespacing=1.05, annotation_clip=False,
        )  # fmt: skip


def _apart(places: Sequence[float], texts: Sequence[str], inches: float) -> list[float]:
    """Places from bottom to top, moved as little as these texts need to stand apart."""
    heights = np.array([1.1 * LETTER[1] * (text.count("\n") + 1) for text in texts]) / inches
    offsets = np.cumsum(heights) - heights / 2
    moved = isotonic_regression(np.array(places) - offsets).x + offsets
    return list(moved)


def readable(colour: Any) -> Any:
    """A colour dark enough for small type on white, 4.5 to 1."""
    rgb = np.array(to_rgb(colour))
    while luminance(rgb) > 0.183:
        rgb = 0.95 * rgb
    return tuple(rgb.tolist())


def luminance(colour: Any) -> float:
    """Relative, as WCAG defines it: 0 is black and 1 is white."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


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


def symmetric_axis(axes: Axes, values: Iterable[float], small: float) -> None:
    """A vertical axis that is linear up to about a small value of interest, and logarithmic beyond
    it on both sides."""
    # A power of ten between half and five times the value: it has a tick of its own.
    threshold = float(10 ** np.floor(np.log10(2 * small))) if small > 0 else 1.0
    values = list(values)
    decades = sum(np.log10(max(1.0, end / threshold)) for end in (-min(values), max(values)))
    # What is linear is so high that the numbers at its ends do not touch the zero between them.
    axes.set_yscale("symlog", linthresh=threshold, linscale=max(0.5, 0.15 * decades))
    subs = _subs(max(map(abs, values)) / threshold)
    locator = SymmetricalLogLocator(base=10, linthresh=threshold, subs=subs)
    locator.set_params(numticks=7)
    _ticks(axes, "y", locator)


def saved(figure: Figure, kind: str) -> bytes:
    """The figure as `svg` or `png`, the same bytes every time."""
    file = io.BytesIO()
    with mpl.rc_context(STYLE):
        metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        # The height of a sheet of images follows from its width, so what is over is cut off.
        box = "tight" if is_raster(figure) else None
        figure.savefig(file, format=kind, dpi=SAVED_DPI, metadata=metadata, bbox_inches=box)
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
