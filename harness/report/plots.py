"""The figures of a report: one function each, from results to a matplotlib figure.

A figure function takes the results of one comparable group and returns a figure, or None where
there is nothing to show. The first line of its docstring is the caption and the alternative text,
the rest says how to read it. To add one, write the function and name it in BUILT_IN; another
package uses the entry point `harness.plots`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image

from harness.registry import Registry
from harness.report.axes import log_axis, steps_axis, symmetric_axis
from harness.report.phrases import is_known, unit_of
from harness.report.points import Contrast, Point, best, family, points
from harness.report.style import (
    COLOURS,
    DASHES,
    FAINT,
    INK,
    REAL,
    STYLE,
    WIDTH,
    Looks,
    colours,
    figure_of,
    legend,
    looks,
)
from harness.report.table import Results, column_of, labels, numbers, tidy, training_labels
from harness.report.words import count, estimate, number, wrapped
from harness.report.yardsticks import floor_of

MOST_LINES = 8  # in one panel; beyond that each sampler has its own
MOST_PANELS = 12
MOST_MATRICES = 4
LONGEST_NAME = 36  # letters beside a row
MOST_ROWS = 24  # beyond this a figure is wallpaper; table and findings have the rest


def quality_by_steps(results: Results) -> Figure | None:
    """Quality by number of steps.

    One line for each schedule (colour) and sampler (line and marker), on logarithmic axes (the
    upright one is linear near zero where values reach it). The bands are 95 % intervals over
    training seeds, or over sampling alone where there is one seed. The grey line is what real
    held-out images reach. Where there are many lines, each sampler has a panel.
    Small crosses, where there are some, are the exact denoiser's: the sampler's own error.
    """
    frame = _frame(results)
    if frame is None:
        return None
    placed = [(float(point.steps), point) for point in points(frame)]
    figure, panels = _quality(results, frame, placed)
    for axes in panels:
        steps_axis(axes, [point.steps for _, point in placed], 9 if len(panels) == 1 else 4)
    for axes in panels[-2:]:
        axes.set_xlabel(f"{unit_of(frame)}s")
    return figure


def train_by_sample(results: Results) -> Figure | None:
    """Trained under one schedule, sampled under another.

    A row for each schedule trained under, a column for each sampled under, a panel for each number
    of steps (four at most), all with the sampler that has the best cell. The darker, the better;
    outlined is a network sampled under the schedule it was trained under.
    """
    frame = _frame(results)
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


def quality_by_seconds(results: Results) -> Figure | None:
    """Quality by seconds per image.

    The same cells as by steps, against the measured time of the sampler for one image, on one
    machine only. The numbers are steps, at the markers that nothing beats in the same time.
    """
    frame = _frame(results)
    if frame is None:
        return None
    frame = frame[frame["seconds"] > 0]
    if frame.empty:
        return None
    machine = str(frame["machine"].value_counts().sort_index().idxmax())
    frame = frame[frame["machine"] == machine]
    seconds = frame.groupby("key")["seconds"].median()
    placed = [
        (float(np.median([seconds[key] for key in point.keys])), point) for point in points(frame)
    ]
    figure, panels = _quality(results, frame, placed)
    for axes in panels:
        log_axis(axes, "x", seconds.tolist(), lambda value, _: number(1e3 * value, 1))
    if len(panels) == 1:
        colour = looks(results, (point for _, point in placed))
        for x, point in _front(placed):
            panels[0].annotate(
                f"{point.steps:,}", (x, point.mean), (-4, -5), textcoords="offset points",
                ha="right", va="top", fontsize=9, color=colour.of(point)["color"],
            )  # fmt: skip
    where = f" on {machine}" if machine and len(panels) == 1 else ""
    for axes in panels[-2:]:
        axes.set_xlabel(f"milliseconds per image{where}")
    return figure


def comparisons(results: Results) -> Figure | None:
    """The main comparisons, with their verdicts.

    Each row is one difference with its 95 % interval; a filled marker is a verdict that survives
    Holm's correction over all rows, an open one is inconclusive. Left of the line the first of the
    two is lower. The axis is linear near zero and logarithmic beyond.
    Of many comparisons the first 24 are drawn.
    """
    frame = _frame(results)
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
    names = [_contrast_name(contrast) for contrast in shown]
    lines = max(name.count("\n") for name in names) + 1
    figure, axes = figure_of(1.2 + (0.17 + 0.12 * lines) * len(shown))
    for row, contrast in enumerate(shown):
        _row(axes, row, contrast)
    ends = [
        bound
        for contrast in shown
        for bound in (
            contrast.comparison.low,
            contrast.comparison.high,
            contrast.comparison.difference,
        )
        if np.isfinite(bound)
    ]
    reaches = [(c.comparison.high - c.comparison.low) / 2 for c in shown]
    reaches = [reach for reach in reaches if np.isfinite(reach) and reach > 0]
    typical = float(np.median(reaches)) if reaches else max(map(abs, ends))
    symmetric_axis(axes, "x", ends, 2 * typical)
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_yticks(range(len(shown)), names, fontsize=9 if lines == 1 else 8)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"difference in {frame['quantity'].iloc[0]}")
    return figure


def schedule_curves(results: Results) -> Figure | None:
    """What the schedules do: signal and noise rate, and the log signal-to-noise ratio.

    Time runs from 0 (image) to 1 (noise). Left the signal rate (solid) and the noise rate
    (dashed); right the logarithm of their squared ratio, cut at 15 where it is infinite.
    """
    if not results.schedules:
        return None
    figure, (left, right) = figure_of(3.3, columns=2)
    colour_of = colours(results)
    for label, curve in sorted(results.schedules.items()):
        t, colour = numbers(curve, "t"), colour_of[label]
        left.plot(t, numbers(curve, "alpha"), color=colour)
        left.plot(t, numbers(curve, "sigma"), color=colour, linestyle=DASHES[1])
        right.plot(t, numbers(curve, "log_snr").clip(-15, 15), color=colour)
    left.set(xlabel="time t", ylabel="rate", ylim=(-0.02, 1.03), xlim=(0, 1))
    right.set(xlabel="time t", ylabel="log SNR", xlim=(0, 1))
    right.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    entries = {label: {"color": colour_of[label]} for label in sorted(results.schedules)}
    legend(figure, entries | {"signal α": {}, "noise σ": {"linestyle": DASHES[1]}})
    return figure


def losses(results: Results) -> Figure | None:
    """Training loss by step.

    Thin lines are the training seeds, thick ones their mean, both smoothed over a fiftieth of the
    training. Losses of different schedules are averages over different amounts of noise: they show
    whether a training has settled, not which schedule is better.
    """
    lines = {
        label: [_smoothed(curve) for curve in curves]
        for label, curves in _by_schedule(results, results.losses).items()
    }
    if not lines:
        return None
    figure, axes = figure_of(4.0)
    _draw_seeds(axes, lines, colours(results))
    # The first steps fall by orders of magnitude and would flatten all the rest.
    settled = [line.iloc[len(line) // 20 :] for group in lines.values() for line in group]
    low, high = min(line.min() for line in settled), max(line.max() for line in settled)
    if 0 < low < high:
        log_axis(axes, "y", [low, high])
        axes.set_ylim(0.9 * low, 1.1 * high)
    axes.set(xlabel="training step", ylabel=_loss_name(results))
    axes.set_xlim(left=0)
    legend(figure, {label: {"color": colours(results)[label]} for label in lines})
    return figure


def loss_by_time(results: Results) -> Figure | None:
    """Training loss by time, at the end of the training.

    The mean over the last tenth of the training in bins of time, from nearly clean images (0) to
    nearly pure noise (1); thin lines are the training seeds.
    """
    lines = {
        label: [
            pd.Series(
                numbers(curve, "loss").to_numpy(),
                index=((numbers(curve, "t_low") + numbers(curve, "t_high")) / 2).to_numpy(),
            )
            for curve in curves
        ]
        for label, curves in _by_schedule(results, results.time_losses).items()
    }
    if not lines:
        return None
    figure, axes = figure_of(4.0)
    _draw_seeds(axes, lines, colours(results))
    axes.set(xlabel="time t", ylabel=_loss_name(results), xlim=(0, 1))
    legend(figure, {label: {"color": colours(results)[label]} for label in lines})
    return figure


def samples(results: Results) -> Figure | None:
    """Samples: a row for each schedule and sampler, a column for each number of steps.

    The first images of each cell, from the first training seed and not chosen. Down a column every
    row starts from the same noise. Small images are enlarged without smoothing.
    """
    frame = _frame(results)
    if frame is None or not results.sheets:
        return None
    frame = frame[frame["key"].isin(list(results.sheets))]
    if frame.empty:
        return None
    first = frame.sort_values(["seed", "sampling_seed", "key"]).drop_duplicates(
        ["schedule", "sampler", "steps"]
    )
    rows = sorted(set(zip(first["schedule"], first["sampler"], strict=True)))[:MOST_ROWS]
    columns = sorted(set(first["steps"]))
    tiles = max(1, min(4, 16 // len(columns)))
    chosen: Iterable[Any] = first.itertuples()
    strips = {
        (rows.index((row.schedule, row.sampler)), columns.index(row.steps)): _strip(
            results.sheets[row.key], tiles
        )
        for row in chosen
        if (row.schedule, row.sampler) in rows
    }
    high, wide = (max(strip.shape[axis] for strip in strips.values()) for axis in (0, 1))
    gap = max(2, high // 8)
    down, along = high + gap, wide + gap
    canvas = np.full((len(rows) * down - gap, len(columns) * along - gap, 3), 255, np.uint8)
    for (i, j), strip in strips.items():
        canvas[i * down : i * down + len(strip), j * along : j * along + strip.shape[1]] = strip
    figure, axes = figure_of(0.86 * WIDTH * canvas.shape[0] / canvas.shape[1] + 0.55)
    axes.imshow(canvas, interpolation="nearest", aspect="equal")
    axes.set_xticks(
        [j * along + wide / 2 - 0.5 for j in range(len(columns))], [f"{n:,}" for n in columns]
    )
    axes.set_yticks(
        [i * down + high / 2 - 0.5 for i in range(len(rows))],
        [wrapped(", ".join(row), LONGEST_NAME) for row in rows],
        fontsize=9,
    )
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel(f"{unit_of(frame)}s")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def drawn(name: str, results: Results) -> Figure | None:
    """The figure of this name in the one style, or None where it has nothing to show."""
    with mpl.rc_context(STYLE):
        return PLOTS[name](results)


def _frame(results: Results) -> pd.DataFrame | None:
    measures = results.present()
    frame = tidy(results, measures[0]) if measures else pd.DataFrame()
    return None if frame.empty else frame


def _quality(
    results: Results, frame: pd.DataFrame, placed: Sequence[tuple[float, Point]]
) -> tuple[Figure, list[Axes]]:
    """Lines of quality over what the points are placed by: one panel, or one for each sampler."""
    everything = [point for _, point in placed]
    look = looks(results, everything)
    lines: dict[tuple[str, str], list[tuple[float, Point]]] = {}
    for x, point in placed:
        lines.setdefault((point.sampler, point.schedule), []).append((x, point))
    is_split = len(lines) > MOST_LINES and len(look.samplers) > 1
    names = list(look.samplers)[:MOST_PANELS] if is_split else [""]
    rows = -(-len(names) // 2)
    figure, grid = figure_of(1 + 2.5 * rows if is_split else 4.6, rows, 2 if is_split else 1)
    panels = list(np.ravel(grid))
    for axes, name in zip(panels, names, strict=False):
        axes.set_title(name, fontsize=STYLE["axes.labelsize"])
        for (sampler, _), line in lines.items():
            if name in ("", sampler):
                _draw(axes, line, look)
                _draw_exact(axes, frame, line, look)
        _quality_axis(axes, frame, everything)
    for axes in panels[len(names) :]:
        axes.remove()
    direction = "lower" if everything[0].lower_is_better else "higher"
    quality = f"{frame['quantity'].iloc[0]}, {direction} is better"
    figure.supylabel(quality, fontsize=STYLE["axes.labelsize"])
    entries = look.schedules | ({} if is_split else look.samplers)
    if frame["exact_value"].notna().any():
        entries |= {"exact denoiser": {"marker": "x", "linestyle": "", "markeredgecolor": INK}}
    legend(figure, entries | ({"real images": REAL} if is_known(floor_of(frame)) else {}))
    return figure, panels[: len(names)]


def _draw(axes: Axes, line: list[tuple[float, Point]], look: Looks) -> None:
    """One line with its intervals, as a band and as bars so that crossing bands can be read."""
    across, style = [x for x, _ in line], look.of(line[0][1])
    spans = [point.interval() for _, point in line]
    means = [span.estimate for span in spans]
    low = [span.low if is_known(span.low) else span.estimate for span in spans]
    high = [span.high if is_known(span.high) else span.estimate for span in spans]
    axes.plot(across, means, markersize=6, markeredgecolor="white", zorder=3, **style)
    axes.fill_between(across, low, high, color=style["color"], alpha=0.16, linewidth=0)
    axes.vlines(across, low, high, color=style["color"], linewidth=1, alpha=0.7)


def _draw_exact(
    axes: Axes, frame: pd.DataFrame, line: list[tuple[float, Point]], look: Looks
) -> None:
    """What the exact denoiser reaches in the way of each point, as a cross."""
    for x, point in line:
        exact = frame.loc[frame["key"].isin(point.keys), "exact_value"].mean()
        if is_known(exact):
            axes.plot(x, exact, marker="x", markersize=6, color=look.of(point)["color"], zorder=3)


def _quality_axis(axes: Axes, frame: pd.DataFrame, everything: list[Point]) -> None:
    values, floor = [point.mean for point in everything], floor_of(frame)
    values += frame["exact_value"].dropna().tolist()
    positive = [value for value in values if value > 0]
    if is_known(floor):
        axes.axhline(floor, zorder=1, **REAL)
        values = [*values, floor]
    if min(values) > 0:
        log_axis(axes, "y", values)
    else:
        symmetric_axis(axes, "y", values, min(positive, default=1.0))
    # All panels show the same range, so that they can be read against each other.
    low, high = min(values), max(values)
    axes.set_ylim(low / 1.3 if low > 0 else 1.25 * low - 0.02 * high, 1.3 * high)


def _row(axes: Axes, row: int, contrast: Contrast) -> None:
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


def _contrast_name(contrast: Contrast) -> str:
    """`cosine − linear (ddim, 10 steps)`, on several lines where that is long."""
    first, second = contrast.first, contrast.second
    steps = count(first.steps, first.unit)
    if contrast.question == "schedule":
        pair, where = (first.schedule, second.schedule), first.sampler
    else:
        pair, where = (first.sampler, second.sampler), first.schedule
    name = f"{' − '.join(pair)} ({where}, {steps})".replace(" sampled as ", " as ")
    return wrapped(name, LONGEST_NAME)


def _front(placed: list[tuple[float, Point]]) -> list[tuple[float, Point]]:
    """Those that nothing beats in quality at about the same time (a tenth more) or less."""
    front: list[tuple[float, Point]] = []
    for seconds, point in sorted(placed, key=lambda item: item[0]):
        rivals = [other.rank for time, other in placed if time <= 1.1 * seconds]
        if point.rank <= min(rivals):
            front.append((seconds, point))
    return front


def _by_schedule(
    results: Results, curves: Mapping[str, pd.DataFrame]
) -> dict[str, list[pd.DataFrame]]:
    """The curves of the trainings, by the label of their schedule."""
    trainings = results.trainings
    groups: dict[str, list[pd.DataFrame]] = {}
    for label, key in sorted(
        zip(training_labels(trainings), column_of(trainings, "key"), strict=True)
    ):
        if key in curves and len(curves[key]):
            groups.setdefault(label, []).append(curves[key])
    return groups


def _draw_seeds(
    axes: Axes, lines: Mapping[str, list[pd.Series[float]]], colour_of: Mapping[str, Any]
) -> None:
    """Every training seed as a thin line, their mean as a thick one."""
    for label, group in lines.items():
        for line in group:
            axes.plot(line.index, line, color=colour_of[label], alpha=0.35, linewidth=0.8)
        mean = pd.concat(group, axis=1).mean(axis=1)
        axes.plot(mean.index, mean, color=colour_of[label], linewidth=2)
    log_axis(axes, "y", [value for group in lines.values() for line in group for value in line])


def _smoothed(curve: pd.DataFrame) -> pd.Series[float]:
    series = pd.Series(numbers(curve, "loss").to_numpy(), index=numbers(curve, "step").to_numpy())
    return series.rolling(max(1, len(series) // 50), min_periods=1).mean()


def _loss_name(results: Results) -> str:
    """What the loss is: `mean squared error of the noise`, where all trainings mean the same."""
    trainings = results.trainings
    targets, losses = {*column_of(trainings, "target")}, {*column_of(trainings, "loss_function")}
    weightings = {*labels(trainings, "weighting")} - {"", "simple"}
    kind = {"mae": "absolute"}.get("".join(losses), "squared")
    of = "".join(targets) if len(targets) == 1 else "target"
    is_one = len(losses) == len(targets) == 1 and not weightings
    return f"mean {kind} error of the {of}" if is_one else "training loss"


def _some(items: list[int], most: int) -> list[int]:
    """At most so many of them, evenly from the first to the last."""
    if len(items) <= most:
        return items
    return [items[round(place)] for place in np.linspace(0, len(items) - 1, most)]


def _strip(sheet: bytes, tiles: int) -> NDArray[np.uint8]:
    """The first tiles of a sheet side by side; the sheet has eight to a row."""
    with Image.open(io.BytesIO(sheet)) as image:
        pixels = np.asarray(image.convert("RGB"))
    side = pixels.shape[1] // 8
    return pixels[:side, : tiles * side]


# In the order of the page; the registry itself is in the order of names.
BUILT_IN: dict[str, Callable[[Results], Figure | None]] = {
    "quality_by_steps": quality_by_steps,
    "samples": samples,
    "train_by_sample": train_by_sample,
    "quality_by_seconds": quality_by_seconds,
    "comparisons": comparisons,
    "schedule_curves": schedule_curves,
    "losses": losses,
    "loss_by_time": loss_by_time,
}

PLOTS = Registry("plot", BUILT_IN)
