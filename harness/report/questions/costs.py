"""What steps buy, what they cost, and whether the cost was foretold."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pandas as pd

from harness.report.finding import Finding, asked, finding_over
from harness.report.phrases import is_known, moved, quantity, signed, unit_of
from harness.report.words import count, duration, estimate, listed, number, sentence
from harness.report.yardsticks import NEAR, floor_of, foretold, price

WORK = {"training": "training", "cell": "sampling and scoring"}
FEW_PIECES = 3  # with fewer, nothing can be said of forecasts


def more_steps(frame: pd.DataFrame) -> Finding | None:
    """What do more steps buy?"""
    contrasts = asked(frame, "steps")
    if not contrasts:
        return None
    parts = []
    for is_clear, run in groupby(contrasts, key=lambda contrast: bool(contrast.winner)):
        line = list(run)
        # What does not change is said once for all of a stretch.
        for stretch in [[each] for each in line] if is_clear else [line]:
            first, last = stretch[0], stretch[-1]
            span = f"from {first.second.steps:,} to {last.first.steps:,} {unit_of(frame)}s"
            change = moved(first.comparison, "falls", "rises")
            told = f" ({signed(first.comparison)})" if len(stretch) == 1 else ""
            parts.append(
                f"{change} {span}" if is_clear else f"does not clearly change {span}{told}"
            )
    fewest, most, floor = contrasts[0].second, contrasts[-1].first, floor_of(frame)
    words = f"With {fewest.schedule} and {fewest.sampler}, {quantity(frame)} {listed(parts)}"
    left = [point.mean - (floor if is_known(floor) else 0) for point in (fewest, most)]
    if fewest.lower_is_better and min(left) > 0:
        each = (left[0] / left[1]) ** (1 / np.log2(most.steps / fewest.steps))
        what = "its distance to real images" if is_known(floor) else "it"
        words += f"; on average a doubling divides {what} by {number(each)}"
    return finding_over(f"What do more {unit_of(frame)}s buy?", words, contrasts, contrasts[-1])


def price_of_an_evaluation(frame: pd.DataFrame) -> Finding | None:
    """What does a step cost in seconds?"""
    line = price(frame)
    if line is None:
        return None
    unit, name = (1e-3, "ms") if line.each < 1 else (1.0, "s")
    low, high = line.each - line.reach, line.each + line.reach
    each = estimate(line.each / unit, low / unit, high / unit)
    where = f" on {line.machine}" if line.machine else ""
    start = f"{number(line.fixed / unit, 2)} {name} plus " if line.fixed > 0 else ""
    words = (
        f"An image costs {start}{each} {name} per network evaluation{where} (a line through "
        f"{count(len(line.keys), 'cell')}, none further from it than "
        f"{number(100 * line.departure, 2)} %)"
    )
    if not line.holds:
        words += ", too rough a line to foresee other step counts by"
    if line.left_out:
        words += f"; {count(line.left_out, 'cell')} timed on other machines left out"
    return Finding(
        "What does a step cost?", sentence(words), line.keys, line.each, low, high,
        "measured" if line.holds else "inconclusive", len(line.keys),
        "" if line.holds else "timing more cells, or the same again on a quiet machine",
    )  # fmt: skip


def forecast_against_actual(frame: pd.DataFrame) -> Finding | None:
    """Did the work cost what was foretold?

    Of the trainings and cells that were done here after a forecast; sampling and features, not the
    arithmetic of the metrics.
    """
    told = foretold(frame)
    if not told:
        return None
    every = np.concatenate([*told.values()])
    forecast, took = every.sum(0)
    within = np.abs(every[:, 1] / every[:, 0] - 1) <= NEAR
    parts = listed(
        f"{WORK[name]} {duration(numbers[:, 1].sum())} for {duration(numbers[:, 0].sum())}"
        for name, numbers in told.items()
    )
    words = (
        f"The work took {duration(took)} where {duration(forecast)} were foretold, "
        f"{_more_or_less(took / forecast)} ({parts}); {number(100 * within.mean(), 2)} % of the "
        f"{count(len(every), 'piece')} came within {number(100 * NEAR, 2)} %"
    )
    is_little = len(every) < FEW_PIECES
    return Finding(
        "Did it cost what was foretold?", sentence(words), sorted(frame["key"]),
        took / forecast - 1, verdict="inconclusive" if is_little else "measured", n=len(every),
        would_decide="a run of the whole grid on this machine" if is_little else "",
    )  # fmt: skip


def _more_or_less(ratio: float) -> str:
    if abs(ratio - 1) < 0.005:
        return "as foretold"
    return f"{number(100 * abs(ratio - 1), 2)} % {'more' if ratio > 1 else 'less'}"
