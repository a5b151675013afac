"""Quality by the number of steps and by the seconds that an image takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.analysis.configurations import Configuration, best_of_each
from harness.analysis.costs import Costs, Placed, pareto_front, seconds_of
from harness.analysis.reference import exact_value
from harness.analysis.study import Study
from harness.report.figures import style
from harness.report.wording import number

REAL: style.Look = {"color": "#3a3d44", "linewidth": 1.2, "alpha": 0.6}  # real images
NEAR_ZERO = 0.1  # of the smallest value


def quality_by_steps(study: Study) -> Figure | None:
    """Quality by number of steps.

    One line for each schedule (colour) and sampler (line and marker), on logarithmic axes; the
    vertical one is linear near zero where values reach it. Bands are 95 % intervals over training
    seeds, or of the sampling error alone where there is one seed. The grey line is the real-data
    baseline: what as many held-out images score. Where there are many lines, each sampler has a
    panel. Of more than nine schedules the best nine are drawn, with matched schedules only. Small
    crosses, where there are some, are the exact denoiser's: the sampler's own error.
    """
    placed = [(float(one.steps), one) for one in study.configurations()]
    if not placed:
        return None
    figure, panels = _quality_lines(study, placed, f"{study.unit}s")
    for axes in panels:
        style.steps_axis(axes, [one.steps for _, one in placed], 9 if len(panels) == 1 else 4)
    return figure


def quality_by_seconds(study: Study) -> Figure | None:
    """Quality by seconds per image.

    The same cells as by steps, against the measured time of the sampler for one image, on one
    machine only. In a figure of one panel the numbers are steps, at the Pareto-optimal
    configurations: none is better in the same time or less.
    """
    across, placed = costs_placed(study, seconds_of(study), "milliseconds per image")
    if not placed:
        return None
    figure, panels = _quality_lines(study, placed, across)
    for axes in panels:
        style.log_axis(axes, "x", [cost for cost, _ in placed], milliseconds)
    if len(panels) == 1:
        number_steps(panels[0], pareto_front(placed), sampler_looks(study), 3.4)
    return figure


def milliseconds(seconds: float, _: object = None) -> str:
    return number(1e3 * seconds, 1)


def costs_placed(study: Study, costs: Costs, unit: str) -> tuple[str, list[Placed]]:
    """`joules per image on AMD EPYC, 2 cores`, and the configurations by that cost."""
    placed = [(costs.of[one.keys], one) for one in study.configurations() if one.keys in costs.of]
    return f"{unit} on {costs.machine}" if costs.machine else unit, placed


def sampler_looks(study: Study) -> style.Looks:
    """How the schedules and the samplers are drawn."""
    return style.looks(study, [one.sampler for one in study.configurations()])


def quality_name(study: Study) -> str:
    """`KID, lower is better`."""
    direction = "lower" if study.metric.lower_is_better else "higher"
    return f"{study.named(study.metric)}, {direction} is better"


def real_images(study: Study) -> dict[str, style.Look]:
    """The legend's entry for the real-data baseline, where it was measured."""
    return {"real images": REAL} if np.isfinite(study.baseline()) else {}


def table_of(placed: Iterable[Placed]) -> pd.DataFrame:
    """A row for each configuration."""
    rows = [(x, one.mean, one.schedule, one.sampler) for x, one in placed]
    return pd.DataFrame(rows, columns=["x", "y", "schedule", "sampler"])


def quality_axis(
    axes: Axes,
    study: Study,
    shown: Iterable[Configuration],
    others: Iterable[float] = (),
    room: float = 0.07,
) -> None:
    """The vertical axis, for these configurations and other values, with the baseline; `room` is
    what is left above and below them."""
    shown, baseline = list(shown), study.baseline()
    values = [*(one.mean for one in shown), *others]
    positive = [value for value in values if value > 0]
    if np.isfinite(baseline):
        axes.axhline(baseline, zorder=0.9, **REAL)
        values.append(baseline)
    # Decades between a baseline near zero and all else would hold nothing but paper.
    if min(values) > NEAR_ZERO * min(positive, default=np.inf):
        style.log_axis(axes, "y", values)
    else:
        # What is smaller than every error differs from zero by nothing that was measured.
        reaches = [one.interval.high - one.interval.estimate for one in shown]
        error = min((reach for reach in reaches if reach > 0), default=0.0)
        style.symmetric_axis(axes, "y", values, max(min(positive, default=0.0), error))
        values.append(0.0)
    # All panels show the same range, so that they can be read against each other.
    scale = axes.yaxis.get_transform()
    low, high = scale.transform(np.array([min(values), max(values)]))
    more = room * (high - low) or 0.1
    axes.set_ylim(*scale.inverted().transform(np.array([low - more, high + more])))


def number_steps(axes: Axes, front: Sequence[Placed], look: style.Looks, inches: float) -> None:
    """The steps beside these points of a Pareto front, on the side where no point can be; `inches`
    is how high the panel is. Of labels that would touch, that of the better point stays."""
    axes.get_xlim(), axes.get_ylim()  # brings the limits up to date, which the next line reads
    place_of = axes.transScale + axes.transLimits
    taken: list[tuple[float, float, int]] = []
    for x, one in reversed(front):
        along, up = place_of.transform((x, one.mean)) * (5.2, inches)
        text, lower = f"{one.steps:,}", one.lower_is_better
        if any(
            abs(along - other) < style.LETTER[0] * max(len(text), letters) + 0.03
            and abs(up - level) < style.LETTER[1]
            for other, level, letters in taken
        ):
            continue
        taken.append((along, up, len(text)))
        axes.annotate(
            text, (x, one.mean), (-4, -5 if lower else 5), textcoords="offset points", ha="right",
            va="top" if lower else "bottom", fontsize=9, color=look.colours[one.schedule],
        )  # fmt: skip


def _quality_lines(
    study: Study, placed: Sequence[Placed], across: str
) -> tuple[Figure, list[Axes]]:
    """Lines of quality over what the configurations are placed by: on one panel, or on one for each
    sampler."""
    placed = _distinguishable(placed)
    shown = [one for _, one in placed]
    samplers = {one.sampler for one in shown}
    is_split = len({one.label for one in shown}) > style.MOST_LINES and len(samplers) > 1
    leaders = best_of_each(shown, lambda one: one.sampler)[: style.MOST_PANELS]
    names = sorted(one.sampler for one in leaders) if is_split else []
    look, table = sampler_looks(study), table_of(placed)
    table["low"] = [one.interval.low for one in shown]
    table["high"] = [one.interval.high for one in shown]
    table["exact"] = [exact_value(study, one) for one in shown]
    table = table.fillna({"low": table["y"], "high": table["y"]})
    figure, panels = style.panels_of(names, across, 4.6)
    for axes, name in zip(panels, names or [""], strict=True):
        here = table[table["sampler"] == name] if name else table
        for _, line in here.groupby(["schedule", "sampler"]):
            _draw_line(axes, line, look.of(line["schedule"].iloc[0], line["sampler"].iloc[0]))
        quality_axis(axes, study, shown, table["exact"].dropna())
    entries = look.entries(table["schedule"], () if is_split else samplers)
    if table["exact"].notna().any():
        entries["exact denoiser"] = {"marker": "x", "linestyle": "", "markeredgecolor": style.INK}
    style.explain(figure, entries | real_images(study), quality_name(study))
    return figure, panels


def _draw_line(axes: Axes, line: pd.DataFrame, look: style.Look) -> None:
    """One line with its intervals, as a band and as bars so that crossing bands can be read."""
    x, colour = line["x"], look["color"]
    axes.plot(x, line["y"], markersize=6, markeredgecolor="white", zorder=3, **look)
    axes.fill_between(x, line["low"], line["high"], color=colour, alpha=0.16, linewidth=0)
    axes.vlines(x, line["low"], line["high"], color=colour, linewidth=1, alpha=0.7)
    axes.plot(x, line["exact"], "x", markersize=6, color=colour, zorder=3)


def _distinguishable(placed: Sequence[Placed]) -> Sequence[Placed]:
    """Those of no more schedules than there are colours. Mismatched schedules have a figure of
    their own, so they go first."""
    if len({one.schedule for _, one in placed}) <= len(style.COLOURS):
        return placed
    matched = [item for item in placed if item[1].is_matched] or placed
    leaders = best_of_each((one for _, one in matched), lambda one: one.schedule)
    kept = {one.schedule for one in leaders[: len(style.COLOURS)]}
    return [item for item in matched if item[1].schedule in kept]
