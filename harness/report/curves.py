"""Figures of curves: what the schedules do, how their steps are spent, and how training went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator

from harness.report.axes import log_axis
from harness.report.style import (
    DASHES,
    MARKERS,
    MOST_LINES,
    MOST_PANELS,
    colours,
    figure_of,
    legend,
    name_up,
    panels_of,
)
from harness.report.table import Results, column_of, labels, numbers, training_labels

USUAL_STEPS = 20  # few enough to see each of them
CUT = 15  # of the log SNR: one at its end is infinite


@dataclass(frozen=True)
class Path:
    """The noise levels that one spacing takes one schedule through."""

    schedule: str
    spacing: str
    steps: int
    log_snr: pd.Series[float]


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
        right.plot(t, _log_snr(curve), color=colour)
    left.set(xlabel="time t", ylabel="rate", ylim=(-0.02, 1.03), xlim=(0, 1))
    right.set(xlabel="time t", ylabel="log SNR", xlim=(0, 1))
    right.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    entries = {label: {"color": colour_of[label]} for label in sorted(results.schedules)}
    legend(figure, entries | {"signal α": {}, "noise σ": {"linestyle": DASHES[1]}})
    return figure


def snr_by_step(results: Results) -> Figure | None:
    """The signal-to-noise ratio at each step: where a spacing spends its steps.

    One line for each schedule sampled under (colour) and each spacing (line and marker), a mark at
    each step from pure noise to the image, all with the same number of steps. Where a line is flat
    steps are close together. The logarithm is cut at 15 where it is infinite.
    """
    paths = _paths(results)
    if not paths:
        return None
    steps = paths[0].steps
    schedules = list(dict.fromkeys(path.schedule for path in paths))
    spacings = sorted({path.spacing for path in paths})
    is_split = len(paths) > MOST_LINES and len(schedules) > 1 < len(spacings)
    names = schedules[:MOST_PANELS] if is_split else []
    figure, panels = panels_of(names, f"step (of {steps:,})", 4.2)
    colour_of = colours(results, schedules)
    look_of = {
        spacing: {"marker": MARKERS[i % len(MARKERS)], "linestyle": DASHES[i % len(DASHES)]}
        for i, spacing in enumerate(spacings)
    }
    for axes, name in zip(panels, names or [""], strict=True):
        for path in paths:
            if name in ("", path.schedule):
                look = {"color": colour_of[path.schedule]} | look_of[path.spacing]
                axes.plot(path.log_snr, markersize=4, markeredgewidth=0, linewidth=1.3, **look)
        axes.set_ylim(-CUT - 1, CUT + 1)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_locator(MultipleLocator(5))
    # A panel for each schedule has its name above.
    entries = {} if is_split else {name: {"color": colour_of[name]} for name in schedules}
    name_up(figure, "log SNR", legend(figure, entries | look_of))
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


def _log_snr(curve: pd.DataFrame) -> pd.Series[float]:
    """The column, cut; `numbers` would take an infinite one for missing."""
    log_snr = pd.to_numeric(curve["log_snr"], errors="coerce").astype(float)
    return log_snr.clip(-CUT, CUT).reset_index(drop=True)


def _paths(results: Results) -> list[Path]:
    """One for each schedule and spacing, all of the number of steps that most of them have, and of
    several such numbers the nearest to the usual one."""
    cells = results.cells
    under = labels(cells, "sample_schedule")
    under = under.where(under != "", labels(cells, "schedule"))
    steps = numbers(cells, "steps").fillna(0).astype(int)
    keys, spacings = column_of(cells, "key"), labels(cells, "spacing")
    chosen: dict[tuple[int, str, str], str] = {}
    for way in sorted(zip(steps, under, spacings, keys, strict=True)):
        if way[-1] in results.paths and len(results.paths[way[-1]]):
            chosen.setdefault(way[:-1], way[-1])
    if not chosen:
        return []
    counts = [of for of, _, _ in chosen]
    best = min(set(counts), key=lambda n: (-counts.count(n), abs(n - USUAL_STEPS), n))
    return [
        Path(schedule, spacing, of, _log_snr(results.paths[key]))
        for (of, schedule, spacing), key in chosen.items()
        if of == best
    ]


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
