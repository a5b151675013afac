"""Networks sampled under other schedules than they were trained under."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy.stats import rankdata

from harness.analysis.configurations import best
from harness.analysis.study import Study
from harness.report.figures.style import INK, figure_of
from harness.report.wording import count, number, wrapped

MOST_MATRICES = 4


def trained_by_sampled(study: Study) -> Figure | None:
    """Trained under one schedule, sampled under another.

    A row for each schedule trained under, a column for each sampled under, a panel for each number
    of steps (four at most), all with the sampler of the best configuration. The darker, the better;
    outlined are matched schedules.
    """
    everything = study.configurations()
    if all(one.is_matched for one in everything) or all(one.is_exact for one in everything):
        return None
    sampler = best(everything).sampler
    shown = [one for one in everything if one.sampler == sampler]
    rows = [(one.trained, one.sampled, one.steps, one.as_measured) for one in shown]
    table = pd.DataFrame(rows, columns=["trained", "sampled", "steps", "value"])
    counts = sorted(set(table["steps"]))
    places = np.linspace(0, len(counts) - 1, min(len(counts), MOST_MATRICES))
    counts = [counts[round(place)] for place in places.tolist()]
    down, across = sorted(set(table["trained"])), sorted(set(table["sampled"]))
    lines = max(wrapped(name).count("\n") + 1 for name in down + across)
    abreast = 2 if lines == 1 and len(across) < 4 and len(counts) > 1 else 1
    high = -(-len(counts) // abreast)
    height = 1.2 + 0.2 * lines + max(0.45, 0.2 * lines) * len(down)
    figure, grid = figure_of(height * high, high, abreast)
    panels = list(np.ravel(grid))
    for axes, steps in zip(panels, counts, strict=False):
        here = table[table["steps"] == steps].pivot_table("value", "trained", "sampled")
        _draw_matrix(axes, here.reindex(index=down, columns=across), study.metric.lower_is_better)
        axes.set_title(f"{sampler}, {count(steps, study.unit)}")
    matched = {one.trained: one.sampled for one in shown if one.is_matched}
    for trained, sampled in matched.items():
        corner = across.index(sampled), down.index(trained)
        for axes in panels:
            axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=INK, linewidth=2))
    for axes in panels[len(counts) :]:
        axes.remove()
    return figure


def _draw_matrix(axes: Axes, values: pd.DataFrame, lower_is_better: bool) -> None:
    # By rank: values that differ by powers of ten would all but the worst be of one colour.
    ranks = rankdata(-values if lower_is_better else values, axis=None, nan_policy="omit")
    sns.heatmap(
        ranks.reshape(values.shape), ax=axes, cbar=False,
        cmap="crest", annot=values.map(number), fmt="", linewidths=2, linecolor="white",
        yticklabels=[*map(wrapped, values.index)], xticklabels=[*map(wrapped, values.columns)],
    )  # fmt: skip
    axes.set(xlabel="sampled under", ylabel="trained under")
    axes.grid(visible=False)
    axes.tick_params(length=0, labelrotation=0)
