"""Quality by what it costs, and whether that cost was predicted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.analysis import costs
from harness.analysis.costs import Placed, placed_by
from harness.analysis.study import Study
from harness.report.figures import quality, style
from harness.report.wording import wrapped

PANEL = 2.3  # inches from the top of a panel to that of the next
MOST_ENTRIES = 12  # of the legend, beside those of the lines
FORECAST_BAND = 0.15  # of a forecast: as close as it need be
FRONT: style.Look = {"color": style.INK, "linewidth": 1.1}
ACTUAL: dict[str, style.Look] = {
    "training": {"color": style.INK, "marker": "s", "linestyle": "", "markersize": 7},
    "cell": {"color": style.INK, "marker": "o", "linestyle": "", "markersize": 5},
}


@dataclass(frozen=True)
class Panel:
    """The configurations placed by one kind of cost."""

    across: str
    placed: list[Placed]
    show: style.Show | None = None

    @property
    def front(self) -> list[Placed]:
        return costs.pareto_front(self.placed)


def quality_by_cost(study: Study) -> Figure | None:
    """The best quality at each cost.

    A panel for each cost that was measured. Faint are all configurations, in full colour the
    Pareto-optimal ones (none is better at the same cost or less), with their numbers of steps. The
    line is the best quality at each cost. Colour is the schedule, the marker the sampler.
    [baseline] The grey line is the real-data baseline: what held-out real images score.
    [optimal] Of many schedules and samplers the legend names the Pareto-optimal ones.
    """
    seconds = quality.costs_placed(study, costs.seconds_of(study), "milliseconds per image")
    panels = [
        Panel("network evaluations per image", placed_by(study, lambda one: one.cost.nfe)),
        Panel(*seconds, quality.milliseconds),
        Panel(*quality.costs_placed(study, costs.joules_of(study), "joules per image")),
    ]
    panels = [panel for panel in panels if panel.placed]
    if not panels:
        return None
    look = quality.sampler_looks(study)
    figure, grid = style.figure_of(1.2 + PANEL * len(panels), len(panels))
    for axes, panel in zip(np.ravel(grid), panels, strict=True):
        _draw_panel(axes, study, panel, look)
    entries, is_part = _entries(panels, look)
    real = quality.real_images(study)
    figure.drawn = {
        name: True for name, there in (("baseline", real), ("optimal", is_part)) if there
    }
    entries |= {"best at this cost": FRONT} | real
    style.explain(figure, entries, quality.quality_name(study))
    return figure


def forecast_and_actual_seconds(study: Study) -> Figure | None:
    """Forecast and actual seconds.

    A mark for each piece of work that was computed for this report; those on the diagonal took as
    long as was predicted, those above it longer. The band is 15 % to either side.
    """
    kinds = costs.forecast_and_actual(study)
    if not kinds:
        return None
    seconds = np.concatenate([both.ravel() for both in kinds.values()])
    ends = np.array([0.7 * seconds.min(), 1.4 * seconds.max()])
    figure, axes = style.figure_of(4.6)
    band: style.Look = {"color": style.INK, "alpha": 0.12, "linewidth": 0}
    axes.fill_between(ends, (1 - FORECAST_BAND) * ends, (1 + FORECAST_BAND) * ends, **band)
    axes.plot(ends, ends, color=style.INK, linewidth=1)
    edge: style.Look = {"markeredgecolor": "white", "markeredgewidth": 0.6, "alpha": 0.85}
    for name, both in kinds.items():
        axes.plot(*both.T, **ACTUAL[name], **edge)
    style.log_axis(axes, "x", seconds)
    style.log_axis(axes, "y", seconds)
    axes.set(xlim=ends, ylim=ends, xlabel="forecast, seconds", ylabel="actual, seconds")
    entries = {name: ACTUAL[name] for name in kinds} | {"as forecast": {"linewidth": 1}}
    style.explain(figure, entries | {"within 15 %": {"linewidth": 8, "alpha": 0.15}})
    return figure


def _entries(panels: list[Panel], look: style.Looks) -> tuple[dict[str, style.Look], bool]:
    """The colours of schedules and the markers of samplers; where there are many, of the
    Pareto-optimal ones, and whether that is so."""
    everything = [one for panel in panels for _, one in panel.placed]
    optimal = [one for panel in panels for _, one in panel.front]
    for shown in (everything, optimal):
        schedules, samplers = {one.schedule for one in shown}, {one.sampler for one in shown}
        if len(schedules) + len(samplers) <= MOST_ENTRIES:
            break
    # A patch of colour has no marker that another entry has, too.
    patches = {name: {**own, "linewidth": 7} for name, own in look.entries(schedules).items()}
    marks = {name: {**own, "linestyle": ""} for name, own in look.entries((), samplers).items()}
    return patches | marks, shown is optimal


def _draw_panel(axes: Axes, study: Study, panel: Panel, look: style.Looks) -> None:
    front, along = panel.front, [cost for cost, _ in panel.placed]
    faint = {"s": 25, "alpha": 0.35, "linewidth": 0}
    for placed, how in ((panel.placed, faint), (front, {"s": 49, "zorder": 4})):
        table = quality.table_of(placed)
        look.plot(sns.scatterplot, axes, table, style="sampler", markers=look.markers, **how)
    axes.set_xlabel(wrapped(panel.across, 68))
    style.log_axis(axes, "x", along, panel.show)
    axes.set_xlim(min(along) / 1.3, max(along) * 1.3)
    quality.quality_axis(axes, study, [one for _, one in panel.placed], room=0.15)
    # What the dearest point of the front reaches can be had at any higher cost.
    reached = [(cost, one.mean) for cost, one in front]
    reached.append((axes.get_xlim()[1], reached[-1][1]))
    axes.step(*zip(*reached, strict=True), where="post", zorder=0.95, **FRONT)
    quality.number_steps(axes, front, look, PANEL - 0.7)
