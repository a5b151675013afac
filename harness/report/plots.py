"""The figures of a report: one function each, from results to a matplotlib figure.

A figure function takes the results of one comparable group and returns a figure, or None where
there is nothing to show. The first line of its docstring is the caption and the alternative text,
the rest says how to read it. To add one, write the function and name it in BUILT_IN; another
package uses the entry point `harness.plots`.
"""

from __future__ import annotations

from collections.abc import Callable

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from harness.registry import Registry
from harness.report.axes import log_axis, steps_axis
from harness.report.costs import forecast, milliseconds, pareto_front
from harness.report.curves import loss_by_time, losses, schedule_curves, snr_by_step
from harness.report.differences import comparisons
from harness.report.phrases import unit_of
from harness.report.pictures import best_samples, film, nearest_images, samples
from harness.report.points import best, on_one_machine, points
from harness.report.quality import (
    frame_of,
    number_steps,
    placed_by,
    quality_lines,
)
from harness.report.style import INK, STYLE, figure_of, looks
from harness.report.table import Results
from harness.report.words import count, number, wrapped
from harness.report.yardsticks import front

MOST_MATRICES = 4


def quality_by_steps(results: Results) -> Figure | None:
    """Quality by number of steps.

    One line for each schedule (colour) and sampler (line and marker), on logarithmic axes (the
    upright one is linear near zero where values reach it). The bands are 95 % intervals over
    training seeds, or over sampling alone where there is one seed. The grey line is what real
    held-out images reach. Where there are many lines, each sampler has a panel. Of more than nine
    schedules the best nine are drawn, of networks that are sampled as they were trained.
    Small crosses, where there are some, are the exact denoiser's: the sampler's own error.
    """
    frame = frame_of(results)
    if frame is None:
        return None
    placed = [(float(point.steps), point) for point in points(frame)]
    figure, panels = quality_lines(results, frame, placed, f"{unit_of(frame)}s")
    for axes in panels:
        steps_axis(axes, [point.steps for _, point in placed], 9 if len(panels) == 1 else 4)
    return figure


def quality_by_seconds(results: Results) -> Figure | None:
    """Quality by seconds per image.

    The same cells as by steps, against the measured time of the sampler for one image, on one
    machine only. The numbers are steps, at the markers that nothing beats in the same time or less.
    """
    frame = frame_of(results)
    if frame is None:
        return None
    machine, frame = on_one_machine(frame, frame["seconds"])
    if frame.empty:
        return None
    placed = placed_by(frame, frame["seconds"])
    across = "milliseconds per image"
    figure, panels = quality_lines(results, frame, placed, across)
    for axes in panels:
        log_axis(axes, "x", [seconds for seconds, _ in placed], milliseconds)
    if len(panels) == 1:
        look = looks(results, (point for _, point in placed))
        number_steps(panels[0], front(placed), look, 3.4)
        panels[0].set_xlabel(wrapped(f"{across} on {machine}" if machine else across, 68))
    return figure


def train_by_sample(results: Results) -> Figure | None:
    """Trained under one schedule, sampled under another.

    A row for each schedule trained under, a column for each sampled under, a panel for each number
    of steps (four at most), all with the sampler that has the best cell. The darker, the better;
    outlined is a network sampled under the schedule it was trained under.
    """
    frame = frame_of(results)
    if frame is None or frame["is_home"].all() or frame["is_exact"].all():
        return None
    shown = frame[frame["sampler"] == best(points(frame)).sampler]
    counts = _some(sorted(set(shown["steps"])), MOST_MATRICES)
    down, across = sorted(set(shown["trained"])), sorted(set(shown["sampled"]))
    names = [[wrapped(name) for name in side] for side in (down, across)]
    lines = max(name.count("\n") + 1 for side in names for name in side)
    abreast = 2 if lines == 1 and len(across) < 4 and len(counts) > 1 else 1
    rows = -(-len(counts) // abreast)
    height = 1.2 + 0.2 * lines + max(0.45, 0.2 * lines) * len(down)
    figure, grid = figure_of(height * rows, rows, abreast)
    panels = list(np.ravel(grid))
    home = shown[shown["is_home"]].groupby("trained")["sampled"].first()
    for axes, steps in zip(panels, counts, strict=False):
        table = shown[shown["steps"] == steps].pivot_table("value", "trained", "sampled")
        table = table.reindex(index=down, columns=across)
        # By rank: values that differ by powers of ten would all but the worst be of one colour.
        ranks = pd.Series(table.to_numpy().ravel())
        order = ranks.rank(ascending=not shown["lower_is_better"].iloc[0]).to_numpy()
        sns.heatmap(
            order.reshape(table.shape), ax=axes, cbar=False, cmap="crest", annot=table.map(number),
            fmt="", linewidths=2, linecolor="white", yticklabels=names[0], xticklabels=names[1],
        )  # fmt: skip
        for trained, sampled in home.items():
            corner = across.index(str(sampled)), down.index(str(trained))
            axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=INK, linewidth=2))
        axes.set(xlabel="sampled under", ylabel="trained under")
        axes.grid(visible=False)
        title = f"{shown['sampler'].iloc[0]}, {count(steps, unit_of(frame))}"
        axes.set_title(title, fontsize=STYLE["axes.labelsize"])
        axes.tick_params(length=0, labelrotation=0)
    for axes in panels[len(counts) :]:
        axes.remove()
    return figure


def drawn(name: str, results: Results) -> Figure | None:
    """The figure of this name in the one style, or None where it has nothing to show."""
    with mpl.rc_context(STYLE):
        return PLOTS[name](results)


def _some(items: list[int], most: int) -> list[int]:
    """At most so many of them, evenly from the first to the last."""
    if len(items) <= most:
        return items
    return [items[round(place)] for place in np.linspace(0, len(items) - 1, most)]


# In the order of the page; the registry itself is in the order of names.
BUILT_IN: dict[str, Callable[[Results], Figure | None]] = {
    "quality_by_steps": quality_by_steps,
    "samples": samples,
    "best_samples": best_samples,
    "film": film,
    "train_by_sample": train_by_sample,
    "quality_by_seconds": quality_by_seconds,
    "pareto_front": pareto_front,
    "comparisons": comparisons,
    "schedule_curves": schedule_curves,
    "snr_by_step": snr_by_step,
    "losses": losses,
    "loss_by_time": loss_by_time,
    "nearest_images": nearest_images,
    "forecast": forecast,
}

PLOTS = Registry("plot", BUILT_IN)
