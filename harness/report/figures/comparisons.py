"""The figure of the comparisons: a row for each difference, with its interval and its verdict."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.analysis.comparisons import Comparison, asked
from harness.analysis.configurations import best
from harness.analysis.study import Study
from harness.report.figures.style import COLOURS, FAINT, INK, figure_of, symmetric_axis
from harness.report.wording import count, estimate, wrapped

MOST_COMPARISONS = 24  # beyond this a figure is wallpaper; table and findings have the rest
LONGEST_LINE = 36  # letters beside a row


def main_comparisons(study: Study) -> Figure | None:
    """The main comparisons, with their verdicts.

    Each row is one difference with its 95 % interval; a filled marker is a verdict that survives
    Holm's correction over all comparisons of the report, an open one is inconclusive. Left of the
    line the first of the two is lower. The axis is linear near zero and logarithmic beyond. Of many
    comparisons the first 24 are drawn.
    """
    both = [*asked(study, "schedule"), *asked(study, "sampler")]
    shown = [one for one in both if math.isfinite(one.difference.value)]
    if not shown:
        return None
    leader = best(study.configurations()).schedule
    # Schedules first, then samplers with the best schedule, then the rest; within each by steps.
    shown.sort(key=lambda one: (one.question != "schedule", one.first.schedule != leader))
    shown = shown[:MOST_COMPARISONS]
    names = [_name(one) for one in shown]
    lines = max(name.count("\n") for name in names) + 1
    figure, axes = figure_of(1.2 + (0.17 + 0.1 * lines) * len(shown))
    for row, one in enumerate(shown):
        _draw_row(axes, row, one)
    _difference_axis(axes, shown)
    axes.set_yticks(range(len(shown)), names, fontsize=9 if lines == 1 else 8)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"difference in {study.named(study.metric)}")
    return figure


def _difference_axis(axes: Axes, shown: list[Comparison]) -> None:
    """Linear up to about the reach of a typical interval, so that a settled sign is seen."""
    spans = [(d.low, d.value, d.high) for d in (one.difference for one in shown)]
    ends = [end for span in spans for end in span if math.isfinite(end)]
    reaches = [reach for low, _, high in spans if (reach := (high - low) / 2) > 0]
    typical = float(np.median(reaches)) if reaches else max(map(abs, ends))
    symmetric_axis(axes, "x", ends, 2 * typical)
    axes.axvline(0, color=INK, linewidth=1)


def _draw_row(axes: Axes, row: int, one: Comparison) -> None:
    difference, is_schedule = one.difference, one.question == "schedule"
    colour = COLOURS[0] if is_schedule else COLOURS[1]
    if math.isfinite(difference.low):
        axes.hlines(row, difference.low, difference.high, color=colour, linewidth=1.8)
    axes.plot(
        difference.value, row, marker="s" if is_schedule else "o", color=colour, markersize=7,
        markeredgewidth=1.6, markerfacecolor=colour if one.winner else "white",
    )  # fmt: skip
    text = estimate(difference.value, difference.low, difference.high)
    axes.annotate(
        text, (1.01, row), xycoords=("axes fraction", "data"), va="center", fontsize=8,
        color=INK if one.winner else FAINT,
    )  # fmt: skip


def _name(one: Comparison) -> str:
    """`cosine − linear (ddim, 10 steps)`; where that is long, what they share on a new line."""
    first, second = one.first, one.second
    steps = count(first.steps, first.unit).replace(" ", "\N{NO-BREAK SPACE}")
    if one.question == "schedule":
        pair, where = (first.schedule, second.schedule), first.sampler
    else:
        pair, where = (first.sampler, second.sampler), first.schedule
    names = [name.replace(" sampled as ", " as ") for name in (*pair, f"({where}, {steps})")]
    between = " − " if len(names[0] + names[1]) + 3 <= LONGEST_LINE else " −\n"
    lines = f"{names[0]}{between}{names[1]}\n{names[2]}".split("\n")
    if len(" ".join(lines)) <= LONGEST_LINE:
        return " ".join(lines)
    return "\n".join(wrapped(line, LONGEST_LINE) for line in lines)
