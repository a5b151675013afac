"""What images cost, and whether the cost was predicted."""

from __future__ import annotations

import numpy as np

from harness.analysis.costs import forecast_and_actual, price
from harness.analysis.reference import NEAR
from harness.analysis.statistics import Interval
from harness.analysis.study import Study
from harness.report import wording as say
from harness.report.findings.finding import Finding, finding

WORK = {"training": "training", "cell": "sampling and scoring"}
FEW_PIECES = 3  # with fewer, nothing can be said of forecasts


def price_of_an_evaluation(study: Study) -> Finding | None:
    """What does a step cost in seconds?"""
    line = price(study)
    if line is None or not line.holds:
        return None
    unit, name = (1e-3, "ms") if line.each < 1 else (1.0, "s")
    each = Interval(line.each, line.each - line.reach, line.each + line.reach, len(line.keys))
    start = f"{say.number(line.fixed / unit, 2)} {name} plus " if line.fixed > 0 else ""
    words = f"An image costs {start}{say.spanned(each, 1 / unit)} {name} per network evaluation"
    rows = [("machine", line.machine), ("cells on the line", f"{each.n:,}"),
            ("furthest from it", say.percent(line.departure)),
            ("cells timed on other machines", f"{line.left_out:,}")]  # fmt: skip
    return finding(
        "What does a step cost?", words, line.keys, each, n=each.n,
        columns=("what", "value"), rows=rows,
    )  # fmt: skip


def forecast_against_actual(study: Study) -> Finding | None:
    """Did the work take as long as predicted?

    Of the trainings and cells that were done here after a forecast; sampling and features, not the
    arithmetic of the metrics.
    """
    both = forecast_and_actual(study)
    every = np.concatenate([*both.values()]) if both else np.empty((0, 2))
    if len(every) < FEW_PIECES:
        return None
    forecast, took = every.sum(0)
    words = f"The work took {say.time_of(took)} instead of the predicted {say.time_of(forecast)}, "
    rows = [
        (WORK[name], say.time_of(seconds[:, 0].sum()), say.time_of(seconds[:, 1].sum()),
         f"{(np.abs(seconds[:, 1] / seconds[:, 0] - 1) <= NEAR).sum():,} of {len(seconds):,}")
        for name, seconds in both.items()
    ]  # fmt: skip
    return finding(
        "Did the work take as long as predicted?", words + _more_or_less(took / forecast),
        (one.cell.key for one in study.cells), took / forecast - 1, n=len(every), rows=rows,
        columns=("work", "predicted", "took", f"pieces within {say.percent(NEAR)}"),
    )  # fmt: skip


def _more_or_less(ratio: float) -> str:
    if abs(ratio - 1) < 0.005:
        return "as predicted"
    if not 0.5 < ratio < 2:
        return f"{say.number(max(ratio, 1 / ratio), 2)} times as {'long' if ratio > 1 else 'fast'}"
    return f"{say.percent(abs(ratio - 1))} {'more' if ratio > 1 else 'less'}"
