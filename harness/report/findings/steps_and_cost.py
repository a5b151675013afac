"""What steps buy, what they cost, and whether the cost was predicted."""

from __future__ import annotations

from itertools import groupby

import numpy as np

from harness.analysis.comparisons import Comparison, asked
from harness.analysis.costs import forecast_and_actual, price
from harness.analysis.reference import NEAR
from harness.analysis.statistics import Interval
from harness.analysis.study import Study
from harness.report import wording as say
from harness.report.findings.finding import Finding, finding, finding_over

WORK = {"training": "training", "cell": "sampling and scoring"}
FEW_PIECES = 3  # with fewer, nothing can be said of forecasts


def more_steps(study: Study) -> Finding | None:
    """What do more steps buy?"""
    made, unit = asked(study, "steps"), study.unit
    if not made:
        return None
    parts = []
    for is_clear, run in groupby(made, key=lambda one: one.winner is not None):
        line = list(run)
        # What does not change is said once for all of a stretch.
        for stretch in [[one] for one in line] if is_clear else [line]:
            parts.append(_change(stretch, unit))
    start = made[0].second
    words = f"With {start.schedule} and {say.sampler_of(start)}, {study.named(study.metric)} "
    words += say.listed(parts) + _each_doubling(study, made)
    return finding_over(f"What do more {unit}s buy?", words, made, made[-1])


def price_of_an_evaluation(study: Study) -> Finding | None:
    """What does a step cost in seconds?"""
    line = price(study)
    if line is None:
        return None
    unit, name = (1e-3, "ms") if line.each < 1 else (1.0, "s")
    each = Interval(line.each, line.each - line.reach, line.each + line.reach, len(line.keys))
    start = f"{say.number(line.fixed / unit, 2)} {name} plus " if line.fixed > 0 else ""
    words = (
        f"An image costs {start}{say.spanned(each, 1 / unit)} {name} per network evaluation on "
        f"{line.machine} (a line through {say.count(each.n, 'cell')}, none further from it than "
        f"{say.percent(line.departure)})"
    )
    if not line.holds:
        words += ", too rough a line to predict other step counts"
    if line.left_out:
        words += f"; {say.count(line.left_out, 'cell')} timed on other machines left out"
    return finding(
        "What does a step cost?", words, line.keys, each, n=each.n,
        needs="" if line.holds else "timing more cells, or the same again on a quiet machine",
    )  # fmt: skip


def forecast_against_actual(study: Study) -> Finding | None:
    """Did the work take as long as predicted?

    Of the trainings and cells that were done here after a forecast; sampling and features, not the
    arithmetic of the metrics.
    """
    both = forecast_and_actual(study)
    if not both:
        return None
    every = np.concatenate([*both.values()])
    forecast, took = every.sum(0)
    within = np.abs(every[:, 1] / every[:, 0] - 1) <= NEAR
    parts = say.listed(
        f"{WORK[name]} {say.time_of(seconds[:, 1].sum())} for {say.time_of(seconds[:, 0].sum())}"
        for name, seconds in both.items()
    )
    share = say.percent(within.mean()) if within.any() else "none"
    words = (
        f"The work took {say.time_of(took)} where {say.time_of(forecast)} were predicted, "
        f"{_more_or_less(took / forecast)} ({parts}); {share} of the "
        f"{say.count(len(every), 'piece')} came within {say.percent(NEAR)}"
    )
    is_little = len(every) < FEW_PIECES
    return finding(
        "Did the work take as long as predicted?", words, (one.cell.key for one in study.cells),
        took / forecast - 1, n=len(every),
        needs="a run of the whole grid on this machine" if is_little else "",
    )  # fmt: skip


def _change(stretch: list[Comparison], unit: str) -> str:
    """What one significant comparison, or several others in a row, say of more steps."""
    first = stretch[0]
    if not first.winner and len(stretch) > 1:  # nothing was asked of the two ends
        spans = (f"from {one.second.steps:,} to {one.first.steps:,}" for one in stretch)
        return f"changes significantly neither {' nor '.join(spans)} {unit}s"
    span = f"from {first.second.steps:,} to {first.first.steps:,} {unit}s"
    if first.winner:
        return f"{say.change_of(first.difference, 'falls', 'rises')} {span}"
    return f"does not change significantly {span} ({say.signed(first.difference)})"


def _each_doubling(study: Study, made: list[Comparison]) -> str:
    """By what a doubling divides the distance to real images, on average."""
    fewest, most, baseline = made[0].second, made[-1].first, study.baseline()
    left = [one.mean - (baseline if np.isfinite(baseline) else 0) for one in (fewest, most)]
    if not (fewest.lower_is_better and min(left) > 0):
        return ""
    factor = (left[0] / left[1]) ** (1 / np.log2(most.steps / fewest.steps))
    what = "its distance to the real-data baseline" if np.isfinite(baseline) else "it"
    doubling = f"; on average each doubling of {study.unit}s"
    if 1.75 < factor < 2.25:
        return f"{doubling} about halves {what} (divides it by {say.number(factor)})"
    return f"{doubling} divides {what} by {say.number(factor)}"


def _more_or_less(ratio: float) -> str:
    if abs(ratio - 1) < 0.005:
        return "as predicted"
    if not 0.5 < ratio < 2:
        return f"{say.number(max(ratio, 1 / ratio), 2)} times as {'long' if ratio > 1 else 'fast'}"
    return f"{say.percent(abs(ratio - 1))} {'more' if ratio > 1 else 'less'}"
