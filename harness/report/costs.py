"""Figures of cost: which ways nothing beats at their price, and whether the price was foreseen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.report.axes import Show, log_axis
from harness.report.points import Point, on_one_machine
from harness.report.quality import (
    Placed,
    frame_of,
    name_of,
    number_steps,
    placed_by,
    quality_axis,
    real_images,
)
from harness.report.style import COLOURS, INK, MARKERS, Looks, figure_of, legend, looks, name_up
from harness.report.table import Results
from harness.report.words import number, wrapped
from harness.report.yardsticks import NEAR, foretold, front

PANEL = 2.3  # inches from the top of a panel to that of the next
ACROSS = 68  # letters below an axis
MOST_ENTRIES = 12  # of the legend, beside those of the lines
FRONT: dict[str, Any] = {"color": INK, "linewidth": 1.1}
ACTUAL = {
    "training": {"color": COLOURS[1], "marker": MARKERS[1], "linestyle": "", "markersize": 7},
    "cell": {"color": COLOURS[0], "marker": MARKERS[0], "linestyle": "", "markersize": 5},
}


@dataclass(frozen=True)
class Panel:
    """The points placed by one kind of cost."""

    across: str
    placed: list[Placed]
    show: Show | None = None


def milliseconds(value: float, _: Any = None) -> str:
    return number(1e3 * value, 1)


def pareto_front(results: Results) -> Figure | None:
    """The best quality that can be had for the price.

    A panel for each price that was measured: network evaluations, and on one machine the time and
    the energy of an image. Faint are all ways, in full colour those that nothing beats at the same
    price or less, with their numbers of steps. The line is the best quality at each price. Where
    schedules and samplers are many, the legend names those in full colour.
    """
    frame = frame_of(results)
    if frame is None:
        return None
    panels = [panel for panel in _prices(frame) if panel.placed]
    if not panels:
        return None
    everything = [point for panel in panels for _, point in panel.placed]
    look = looks(results, everything)
    figure, grid = figure_of(1.2 + PANEL * len(panels), len(panels))
    for axes, panel in zip(np.ravel(grid), panels, strict=True):
        _draw_panel(axes, frame, panel, look)
    lines = {"best for the price": FRONT} | real_images(frame)
    below = legend(figure, _entries(panels, look) | lines)
    name_up(figure, name_of(frame, everything), below)
    return figure


def forecast(results: Results) -> Figure | None:
    """Forecast against actual seconds.

    A mark for each training and each cell that was computed for this report; those on the diagonal
    took as long as was foreseen, those above it longer. The band is 15 % to either side.
    """
    frame = frame_of(results)
    kinds = foretold(frame) if frame is not None else {}
    if not kinds:
        return None
    seconds = np.concatenate([both.ravel() for both in kinds.values()])
    ends = np.array([0.7 * seconds.min(), 1.4 * seconds.max()])
    figure, axes = figure_of(4.6)
    axes.fill_between(
        ends, (1 - NEAR) * ends, (1 + NEAR) * ends, color=INK, alpha=0.12, linewidth=0
    )
    axes.plot(ends, ends, color=INK, linewidth=1)
    for name, both in kinds.items():
        axes.plot(
            *both.T, markeredgecolor="white", markeredgewidth=0.6,
            alpha=0.85, **ACTUAL[name],
        )  # fmt: skip
    for which in ("x", "y"):
        log_axis(axes, which, seconds)
    axes.set(xlim=ends, ylim=ends, xlabel="forecast, seconds", ylabel="actual, seconds")
    lines: dict[str, dict[str, Any]] = {
        "as forecast": {"linewidth": 1},
        "within 15 %": {"linewidth": 8, "alpha": 0.15},
    }
    legend(figure, {name: ACTUAL[name] for name in kinds} | lines)
    return figure


def _prices(frame: pd.DataFrame) -> list[Panel]:
    nfe = Panel("network evaluations per image", placed_by(frame, frame["nfe"]))
    return [
        nfe,
        _on_one_machine(frame, frame["seconds"], "milliseconds per image", milliseconds),
        _on_one_machine(frame, frame["joules"], "joules per image"),
    ]


def _on_one_machine(
    frame: pd.DataFrame, cost: pd.Series[float], unit: str, show: Show | None = None
) -> Panel:
    machine, here = on_one_machine(frame, cost)
    across = wrapped(f"{unit} on {machine}" if machine else unit, ACROSS)
    return Panel(across, placed_by(here, cost[here.index]), show)


def _entries(panels: list[Panel], look: Looks) -> dict[str, dict[str, Any]]:
    """The marks of schedules and samplers; where there are many, of those on a front."""
    entries = {name: own | {"marker": "o"} for name, own in look.schedules.items()} | look.samplers
    if len(entries) > MOST_ENTRIES:
        best = [point for panel in panels for _, point in front(panel.placed)]
        named = {name for point in best for name in (point.schedule, point.sampler)}
        entries = {name: own for name, own in entries.items() if name in named}
    return {name: own | {"linestyle": ""} for name, own in entries.items()}


def _draw_panel(axes: Axes, frame: pd.DataFrame, panel: Panel, look: Looks) -> None:
    best = front(panel.placed)
    everything = [point for _, point in panel.placed]
    costs = [cost for cost, _ in panel.placed]
    for cost, point in panel.placed:
        _mark(axes, cost, point, look, markersize=5, alpha=0.35, markeredgewidth=0)
    for cost, point in best:
        _mark(axes, cost, point, look, markersize=7, markeredgecolor="white", zorder=4)
    log_axis(axes, "x", costs, panel.show)
    axes.set_xlim(min(costs) / 1.3, max(costs) * 1.3)
    quality_axis(axes, frame, everything)
    # What the dearest point of the front reaches can be had for any higher price.
    ends = [*best, (axes.get_xlim()[1], best[-1][1])]
    axes.step(
        [cost for cost, _ in ends], [point.mean for _, point in ends], where="post", zorder=2,
        **FRONT,
    )  # fmt: skip
    number_steps(axes, best, look, PANEL - 0.7)
    axes.set_xlabel(panel.across)


def _mark(axes: Axes, cost: float, point: Point, look: Looks, **how: Any) -> None:
    axes.plot(cost, point.mean, **(look.of(point) | {"linestyle": ""} | how))
