"""Curves: what the schedules do, how a spacing spends its steps, and how training went."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator

from harness.analysis.denoising import levels
from harness.analysis.study import Study
from harness.report.figures import style
from harness.work.results import PATH_CURVE, SCHEDULE_CURVE, Artifacts, TrainingResult

USUAL_STEPS = 20  # few enough to see each of them
VISIBLE = 0.012  # of the height of a panel: what leaves a thick line
CUT = 15  # of the log SNR: one at its end is infinite


def schedule_curves(study: Study) -> Figure | None:
    """What the schedules do: signal and noise rate, and the log signal-to-noise ratio.

    Time runs from 0 (image) to 1 (noise). Left the signal rate (solid) and the noise rate
    (dashed); right the logarithm of their squared ratio, cut at 15 where it is infinite.
    """
    tables = _schedules(study)
    if not tables:
        return None
    figure, (left, right) = style.figure_of(3.3, columns=2)
    look, noise = style.looks(study), (0, style.DASHES[1])
    for name, table in tables.items():
        colour = look.colours[name]
        left.plot(table["t"], table["alpha"], color=colour)
        left.plot(table["t"], table["sigma"], color=colour, linestyle=noise)
        right.plot(table["t"], table["log_snr"].clip(-CUT, CUT), color=colour)
    left.set(xlabel="time t", ylabel="rate", ylim=(-0.02, 1.03), xlim=(0, 1))
    right.set(xlabel="time t", ylabel="log SNR", xlim=(0, 1))
    right.yaxis.set_major_locator(MultipleLocator(5))
    rates: dict[str, style.Look] = {"signal α": {}, "noise σ": {"linestyle": noise}}
    style.explain(figure, look.entries(tables) | rates)
    return figure


def snr_by_step(study: Study) -> Figure | None:
    """The signal-to-noise ratio at each step: where a spacing spends its steps.

    A line for each schedule sampled under, a mark at each step from pure noise to the image, all
    with the same number of steps. Where a line is flat steps are close together. The logarithm is
    cut at 15 where it is infinite.
    [spacings] Dash and marker are the spacing.
    [panels] Each schedule has a panel.
    [left] The first {left} have one.
    """
    table = _log_snr_paths(study)
    if table.empty:
        return None
    schedules, spacings = sorted(set(table["schedule"])), sorted(set(table["spacing"]))
    lines = len(table[["schedule", "spacing"]].drop_duplicates())
    is_split = lines > style.MOST_LINES and len(schedules) > 1 < len(spacings)
    look = style.looks(study, spacings)
    names = schedules[: style.MOST_PANELS] if is_split else []
    figure, panels, _ = style.panels_of(names, f"step (of {table['x'].max():,})", 4.2)
    ends = []
    for axes, name in zip(panels, names or [""], strict=True):
        here = table[table["schedule"] == name] if name else table
        for pair, line in here.groupby(["schedule", "spacing"]):
            schedule, spacing = map(str, pair)
            how = look.of(schedule, spacing)
            axes.plot(line["x"], line["y"], markersize=4, markeredgewidth=0, linewidth=1.3, **how)
            text, how = (
                (f"{schedule}, {spacing}", how)
                if len(spacings) > 1
                else (schedule, look.of(schedule))
            )
            ends.append(style.Label.of(text, line, how))
        axes.set_ylim(-CUT - 1, CUT + 1)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_locator(MultipleLocator(5))
    has = {"spacings": len(spacings) > 1, "panels": is_split, "left": len(schedules) > len(names)}
    figure.drawn = {each: len(names) for each, there in has.items() if there and (is_split or
                    each == "spacings")}  # fmt: skip
    entries: dict[str, style.Look] = {}
    if not is_split and style.fits([one.text for one in ends], 3.4):
        style.label_ends(figure, panels[0], ends, 3.4)
    else:  # a panel for each schedule has its name above
        entries = look.entries([] if is_split else schedules, spacings)
    style.explain(figure, entries, "log SNR")
    return figure


def losses(study: Study) -> Figure | None:
    """Training loss by step.

    Smoothed over a fiftieth of the training. Losses of different schedules are averages over
    different amounts of noise: they show whether a training has settled, not which schedule is
    better.
    [seeds] Thin lines are the training seeds, thick ones their mean.
    [alike] Lines are means over the training seeds, which differ by less than their width.
    """

    def smoothed(one: TrainingResult) -> dict[float, float]:
        curve = pd.Series({point.step: point.loss for point in one.loss_curve}, dtype=float)
        return dict(curve.rolling(max(1, len(curve) // 50), min_periods=1).mean())

    drawn = _by_seed(study, "training step", smoothed)
    if drawn is None:
        return None
    figure, axes, table = drawn
    # The first steps fall by orders of magnitude and would flatten all the rest.
    settled = table[table.groupby("training").cumcount() >= table["points"] // 20]["y"]
    if 0 < settled.min() < settled.max():
        style.log_axis(axes, "y", settled)
        axes.set_ylim(0.9 * settled.min(), 1.1 * settled.max())
    axes.set_xlim(0, table["x"].max())
    _name_ends(figure, axes, study, table)
    return figure


def loss_by_time(study: Study) -> Figure | None:
    """Training loss by time, at the end of the training.

    The mean over the last tenth of the training in bins of time, from nearly clean images (0) to
    nearly pure noise (1).
    [seeds] Thin lines are the training seeds, thick ones their mean.
    [alike] Lines are means over the training seeds, which differ by less than their width.
    """

    if levels(study) is not None:
        return None  # whose figure says the same in one unit for all schedules

    def by_time(one: TrainingResult) -> dict[float, float]:
        return {(each.t_low + each.t_high) / 2: each.loss for each in one.loss_by_time}

    drawn = _by_seed(study, "time t", by_time)
    if drawn is None:
        return None
    figure, axes, table = drawn
    axes.set_xlim(0, 1)
    _name_ends(figure, axes, study, table)
    return figure


def _by_seed(
    study: Study, across: str, curve_of: Callable[[TrainingResult], dict[float, float]]
) -> tuple[style.Drawing, Axes, pd.DataFrame] | None:
    """Every training as a thin line, the mean over the seeds of a schedule as a thick one; and the
    table that is drawn. Trainings that differ in the decay of their average alone have one loss."""
    rows = []
    for one in {replace(one.training, ema=0.0): one for one in study.trainings}.values():
        label, curve = study.loss_label(one.training), curve_of(one)
        rows += [(x, y, label, one.training.key, len(curve)) for x, y in curve.items()]
    table = pd.DataFrame(rows, columns=["x", "y", "schedule", "training", "points"]).dropna()
    if table.empty:
        return None
    figure, axes = style.figure_of(3.8)
    look = style.looks(study)
    seed = {"units": "training", "estimator": None, "alpha": 0.45, "linewidth": 0.8}
    for how in (seed, {"errorbar": None, "linewidth": 2}):
        look.plot(sns.lineplot, axes, table, **how)
    axes.set(xlabel=across, ylabel=_loss_name(study))
    style.log_axis(axes, "y", table["y"])
    return figure, axes, table


def _name_ends(figure: style.Drawing, axes: Axes, study: Study, table: pd.DataFrame) -> None:
    """The schedules beside their lines, or in a legend where they are too many; and whether a
    training seed can be seen beside the mean."""
    look = style.looks(study)
    if table["training"].nunique() > table["schedule"].nunique():
        low, high = axes.get_ylim()
        shown = table[table["y"].between(low, high) & (table["y"] > 0)]
        mean = table.groupby(["schedule", "x"])["y"].transform("mean")[shown.index]
        off = np.abs(np.log(shown["y"] / mean)).max() / np.log(high / low)
        figure.drawn = {"seeds" if off > VISIBLE else "alike": True}
    means = table.groupby(["schedule", "x"])["y"].mean().reset_index()
    ends = [style.Label.of(str(name), line, look.of(str(name)))
            for name, line in means.groupby("schedule")]  # fmt: skip
    if style.fits([one.text for one in ends], 3.1):
        style.label_ends(figure, axes, ends, 3.1)
    else:
        style.explain(figure, look.entries(table["schedule"]))


def _schedules(study: Study) -> dict[str, pd.DataFrame]:
    """The curves of each schedule once, by its name."""
    kept = kept_by_schedule(study, SCHEDULE_CURVE)
    tables = {name: artifacts.table(SCHEDULE_CURVE) for name, artifacts in kept.items()}
    return {name: table for name, table in tables.items() if table is not None}


def kept_by_schedule(study: Study, file: str, by_scale: bool = False) -> dict[str, Artifacts]:
    """The artifacts that have this file of a schedule, by its name: of those trained under, and of
    those that were only sampled under, which cells keep. `by_scale` tells those of pixels in other
    units apart, where there are several."""
    found = [(one.training.schedule, one.training, one.artifacts) for one in study.trainings]
    found += [(one.cell.sample_schedule, one.cell.training, one.artifacts) for one in study.results]
    found = [each for each in found if file in each[2].checksums]
    has_scales = by_scale and len({training.scale for _, training, _ in found}) > 1
    kept: dict[str, Artifacts] = {}
    for schedule, training, artifacts in found:
        scale = f", scale {training.scale}" if has_scales else ""
        kept.setdefault(f"{schedule}{scale}", artifacts)
    return dict(sorted(kept.items()))


def _log_snr_paths(study: Study) -> pd.DataFrame:
    """The log SNR after each step, for each schedule and spacing: x, y, schedule, spacing. All of
    the number of steps that most of them have, and of several such numbers the nearest to the usual
    one."""
    found: dict[tuple[int, str, str], pd.Series[float]] = {}
    for one in study.results:
        place = one.cell.steps, str(one.cell.sample_schedule), str(one.cell.spacing)
        if place not in found and (table := one.artifacts.table(PATH_CURVE)) is not None:
            found[place] = table["log_snr"].clip(-CUT, CUT)
    counts = [steps for steps, _, _ in found]
    if not counts:
        return pd.DataFrame()
    chosen = min(set(counts), key=lambda n: (-counts.count(n), abs(n - USUAL_STEPS), n))
    rows = []
    for (steps, schedule, spacing), path in found.items():
        rows += [(x, y, schedule, spacing) for x, y in enumerate(path) if steps == chosen]
    return pd.DataFrame(rows, columns=["x", "y", "schedule", "spacing"])


def _loss_name(study: Study) -> str:
    """What the loss is: `mean squared error of the noise`, where all trainings mean the same."""
    trainings = [one.training for one in study.trainings]
    meant = {(one.target, one.loss, str(one.weighting)) for one in trainings}
    target, loss, weighting = next(iter(meant))
    if len(meant) > 1 or weighting != "simple":
        return "training loss"
    return f"mean {'absolute' if loss == 'mae' else 'squared'} error of the {target}"
