"""The figure of the comparisons: a row for each difference, with its interval and its verdict."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.report.axes import symmetric_axis
from harness.report.family import Contrast, family
from harness.report.phrases import is_known
from harness.report.points import best, points
from harness.report.quality import frame_of
from harness.report.style import COLOURS, FAINT, INK, figure_of
from harness.report.table import Results
from harness.report.words import count, estimate, wrapped

MOST_ROWS = 24  # beyond this a figure is wallpaper; table and findings have the rest
LONGEST_LINE = 36  # letters beside a row


def comparisons(results: Results) -> Figure | None:
    """The main comparisons, with their verdicts.

    Each row is one difference with its 95 % interval; a filled marker is a verdict that survives
    Holm's correction over all rows, an open one is inconclusive. Left of the line the first of the
    two is lower. The axis is linear near zero and logarithmic beyond.
    Of many comparisons the first 24 are drawn.
    """
    frame = frame_of(results)
    if frame is None:
        return None
    shown = [c for c in family(frame) if c.question in ("schedule", "sampler")]
    shown = [c for c in shown if is_known(c.comparison.difference)]
    if not shown:
        return None
    leader = best(points(frame)).schedule
    # Schedules first, then samplers with the best schedule, then the rest; within each by steps.
    shown = sorted(shown, key=lambda c: (c.question != "schedule", c.first.schedule != leader))
    shown = shown[:MOST_ROWS]
    names = [_name(contrast) for contrast in shown]
    lines = max(name.count("\n") for name in names) + 1
    figure, axes = figure_of(1.2 + (0.17 + 0.1 * lines) * len(shown))
    for row, contrast in enumerate(shown):
        _draw_row(axes, row, contrast)
    _difference_axis(axes, shown)
    axes.set_yticks(range(len(shown)), names, fontsize=9 if lines == 1 else 8)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"difference in {frame['quantity'].iloc[0]}")
    return figure


def _difference_axis(axes: Axes, shown: list[Contrast]) -> None:
    """Linear up to about the reach of a typical interval, so that a settled sign is seen."""
    judged = [contrast.comparison for contrast in shown]
    ends = [end for c in judged for end in (c.low, c.high, c.difference) if np.isfinite(end)]
    reaches = [(c.high - c.low) / 2 for c in judged]
    reaches = [reach for reach in reaches if np.isfinite(reach) and reach > 0]
    typical = float(np.median(reaches)) if reaches else max(map(abs, ends))
    symmetric_axis(axes, "x", ends, 2 * typical)
    axes.axvline(0, color=INK, linewidth=1)


def _draw_row(axes: Axes, row: int, contrast: Contrast) -> None:
    comparison = contrast.comparison
    colour = COLOURS[0] if contrast.question == "schedule" else COLOURS[1]
    if np.isfinite(comparison.low):
        axes.hlines(row, comparison.low, comparison.high, color=colour, linewidth=1.8)
    axes.plot(
        comparison.difference, row, marker="s" if contrast.question == "schedule" else "o",
        color=colour, markersize=7, markeredgewidth=1.6,
        markerfacecolor=colour if contrast.winner else "white",
    )  # fmt: skip
    text = estimate(comparison.difference, comparison.low, comparison.high)
    axes.annotate(
        text, (1.01, row), xycoords=("axes fraction", "data"), va="center", fontsize=8,
        color=INK if contrast.winner else FAINT,
    )  # fmt: skip


def _name(contrast: Contrast) -> str:
    """`cosine − linear (ddim, 10 steps)`; where that is long, what they share on a new line."""
    first, second = contrast.first, contrast.second
    steps = count(first.steps, first.unit).replace(" ", "\N{NO-BREAK SPACE}")
    if contrast.question == "schedule":
        pair, where = (first.schedule, second.schedule), first.sampler
    else:
        pair, where = (first.sampler, second.sampler), first.schedule
    parts = [" − ".join(pair), f"({where}, {steps})"]
    parts = [part.replace(" sampled as ", " as ") for part in parts]
    if len(" ".join(parts)) <= LONGEST_LINE:
        return " ".join(parts)
    return "\n".join(wrapped(part, LONGEST_LINE) for part in parts)
