"""Quality in a figure: what it is called, its axis, and its lines over steps or over a cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.report.axes import log_axis, symmetric_axis
from harness.report.phrases import is_known
from harness.report.points import Point, best_of_each, points
from harness.report.style import (
    COLOURS,
    INK,
    LETTER,
    MOST_LINES,
    MOST_PANELS,
    REAL,
    Looks,
    legend,
    looks,
    name_up,
    panels_of,
)
from harness.report.table import Results, tidy
from harness.report.yardsticks import floor_of

Placed = tuple[float, Point]


def frame_of(results: Results) -> pd.DataFrame | None:
    """The cells under the measure that decides, or None where nothing was measured."""
    measures = results.present()
    frame = tidy(results, measures[0]) if measures else pd.DataFrame()
    return None if frame.empty else frame


def placed_by(frame: pd.DataFrame, cost: pd.Series[float]) -> list[Placed]:
    """The points of the cells that have this cost, each at the median over its cells."""
    paid = frame[cost > 0]
    cost_of = dict(zip(frame["key"], cost, strict=True))
    return [
        (float(np.median([cost_of[key] for key in point.keys])), point) for point in points(paid)
    ]


def quality_lines(
    results: Results, frame: pd.DataFrame, placed: Sequence[Placed], across: str
) -> tuple[Figure, list[Axes]]:
    """Lines of quality over what the points are placed by: one panel, or one for each sampler."""
    placed = _told_apart(placed)
    everything = [point for _, point in placed]
    look = looks(results, everything)
    lines: dict[tuple[str, str], list[Placed]] = {}
    for x, point in placed:
        lines.setdefault((point.sampler, point.schedule), []).append((x, point))
    is_split = len(lines) > MOST_LINES and len(look.samplers) > 1
    names = _best(everything, lambda point: point.sampler, MOST_PANELS) if is_split else []
    figure, panels = panels_of(names, across, 4.6)
    for axes, name in zip(panels, names or [""], strict=True):
        for (sampler, _), line in lines.items():
            if name in ("", sampler):
                _draw(axes, line, look)
                _draw_exact(axes, frame, line, look)
        quality_axis(axes, frame, everything)
    entries = look.schedules | ({} if is_split else look.samplers)
    if frame["exact_value"].notna().any():
        entries |= {"exact denoiser": {"marker": "x", "linestyle": "", "markeredgecolor": INK}}
    below = legend(figure, entries | real_images(frame))
    name_up(figure, name_of(frame, everything), below)
    return figure, panels


def name_of(frame: pd.DataFrame, everything: Sequence[Point]) -> str:
    """What is measured, and which way is better."""
    direction = "lower" if everything[0].lower_is_better else "higher"
    return f"{frame['quantity'].iloc[0]}, {direction} is better"


def real_images(frame: pd.DataFrame) -> dict[str, dict[str, object]]:
    """The entry of the legend for the line of the floor, where there is one."""
    return {"real images": REAL} if is_known(floor_of(frame)) else {}


NEAR_ZERO = 0.1  # of the smallest value


def quality_axis(axes: Axes, frame: pd.DataFrame, everything: Sequence[Point]) -> None:
    values, floor = [point.mean for point in everything], floor_of(frame)
    values += frame["exact_value"].dropna().tolist()
    positive = [value for value in values if value > 0]
    if is_known(floor):
        axes.axhline(floor, zorder=1, **REAL)
        values = [*values, floor]
    # Decades between a floor near zero and all else would hold nothing but paper.
    if min(values) > 0 and min(values) > NEAR_ZERO * min(positive):
        log_axis(axes, "y", values)
    else:
        symmetric_axis(axes, "y", values, min(positive, default=1.0))
        values = [*values, 0.0]
    # All panels show the same range, so that they can be read against each other.
    low, high = min(values), max(values)
    axes.set_ylim(low / 1.3 if low > 0 else 1.25 * low - 0.02 * high, 1.3 * high)


def number_steps(axes: Axes, front: Sequence[Placed], look: Looks, inches: float) -> None:
    """The steps beside these points of a front, on the side where no point can be; `inches` is how
    high the panel is. Of labels that would touch, that of the better point stays."""
    axes.get_xlim(), axes.get_ylim()  # brings the limits up to date, which the next line reads
    place_of = axes.transScale + axes.transLimits
    taken: list[tuple[float, float, int]] = []
    for x, point in reversed(front):
        along, up = place_of.transform((x, point.mean)) * (5.2, inches)
        text = f"{point.steps:,}"
        if any(
            abs(along - other) < LETTER[0] * max(len(text), letters) + 0.03
            and abs(up - level) < LETTER[1]
            for other, level, letters in taken
        ):
            continue
        taken.append((along, up, len(text)))
        is_lower_better = point.lower_is_better
        axes.annotate(
            text, (x, point.mean), (-4, -5 if is_lower_better else 5), textcoords="offset points",
            ha="right", va="top" if is_lower_better else "bottom", fontsize=9,
            color=look.of(point)["color"],
        )  # fmt: skip


def _told_apart(placed: Sequence[Placed]) -> Sequence[Placed]:
    """Those of no more schedules than there are colours. What a network does under a schedule that
    it was not trained under has a figure of its own, so it goes first."""
    if len({point.schedule for _, point in placed}) <= len(COLOURS):
        return placed
    at_home = [item for item in placed if item[1].is_home] or placed
    kept = _best([point for _, point in at_home], lambda point: point.schedule, len(COLOURS))
    return [item for item in at_home if item[1].schedule in kept]


def _best(everything: Sequence[Point], name: Callable[[Point], str], most: int) -> list[str]:
    """So many names at most, those of the best points, in their order."""
    return sorted(name(point) for point in best_of_each(everything, name)[:most])


def _draw(axes: Axes, line: list[Placed], look: Looks) -> None:
    """One line with its intervals, as a band and as bars so that crossing bands can be read."""
    across, style = [x for x, _ in line], look.of(line[0][1])
    spans = [point.interval() for _, point in line]
    means = [span.estimate for span in spans]
    low = [span.low if is_known(span.low) else span.estimate for span in spans]
    high = [span.high if is_known(span.high) else span.estimate for span in spans]
    axes.plot(across, means, markersize=6, markeredgecolor="white", zorder=3, **style)
    axes.fill_between(across, low, high, color=style["color"], alpha=0.16, linewidth=0)
    axes.vlines(across, low, high, color=style["color"], linewidth=1, alpha=0.7)


def _draw_exact(axes: Axes, frame: pd.DataFrame, line: list[Placed], look: Looks) -> None:
    """What the exact denoiser reaches in the way of each point, as a cross."""
    if frame["exact_value"].isna().all():
        return
    exact_of = dict(zip(frame["key"], frame["exact_value"], strict=True))
    crosses = [(x, _mean([exact_of[key] for key in point.keys])) for x, point in line]
    known = [(x, exact) for x, exact in crosses if is_known(exact)]
    if known:
        axes.plot(
            *zip(*known, strict=True), marker="x", markersize=6, linestyle="", zorder=3,
            color=look.of(line[0][1])["color"],
        )  # fmt: skip


def _mean(values: Sequence[float]) -> float:
    """Of those that are known."""
    known = [value for value in values if is_known(value)]
    return float(np.mean(known)) if known else np.nan
