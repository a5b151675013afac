"""Why: what the closed form for Gaussian data predicts, beside what was measured.

For Gaussian data the images of an exact denoiser are known in closed form. With the covariance of
the training images it predicts which share of the pixel standard deviation a sampler keeps.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from harness.analysis.comparisons import Comparison, asked
from harness.analysis.configurations import Configuration, best
from harness.analysis.reference import mean_of
from harness.analysis.statistics import Interval
from harness.analysis.study import Study
from harness.report import wording as say
from harness.report.findings.finding import Finding, finding
from harness.work.results import CellResult

FULL = 0.99  # of the signal: a schedule that ends above this loses nothing that shows
ALIKE = 0.01  # of the pixel standard deviation: a smaller difference explains nothing


def pixel_spread_lost(study: Study) -> Finding | None:
    """Do images lose pixel standard deviation however many steps are taken?

    They do under a schedule whose signal never reaches 1: the last estimate is of an image that is
    still mixed with noise.
    """
    alike = _with_most_steps(study)
    shown: dict[str, list[CellResult]] = {}
    for one in alike:
        shown.setdefault(one.schedule, []).extend(cell for cell in one.cells if cell.pixel_spread)
    rates = {name: [*map(_last_signal, cells)] for name, cells in shown.items()}
    lost = {name: [rate for rate in those if rate < FULL] for name, those in rates.items()}
    signal = {name: float(np.mean(those)) for name, those in lost.items() if those}
    if not signal:
        return None
    schedule = min(signal, key=lambda name: (signal[name], name))
    losing = [cell for cell in shown[schedule] if _last_signal(cell) < FULL]
    measured, first = _mean_spread(losing), next(one for one in alike if losing[0] in one.cells)
    words = (
        f"Under {schedule} the signal rate never exceeds {say.number(_last_signal(losing[0]))}, so "
        "images never reach the pixel standard deviation of real ones: with "
        f"{say.sampler_at(first)} it is {say.spanned(measured, 100)} % of theirs"
    )
    if np.isfinite(share := _predicted(losing)):
        words += f", and the closed form for Gaussian data predicts {_share(share)}"
    others = []
    for name in sorted(shown.keys() - {schedule}):
        kept, predicted = _mean_spread(shown[name]).estimate, _predicted(shown[name])
        others.append(f"{_share(kept)} under {name} ({_share(predicted)} predicted)")
    words += f"; it is {say.listed(others)}" if others else ""
    return finding(
        "Is pixel standard deviation lost for good?", words,
        (cell.cell.key for cells in shown.values() for cell in cells),
        Interval(measured.estimate - 1, measured.low - 1, measured.high - 1, measured.n),
        n=len({cell.cell.training.seed for cell in losing}),
        needs="" if measured.high < 1 else "more images per cell",
    )  # fmt: skip


def why_at_few_steps(study: Study) -> Finding | None:
    """Why is one schedule better at few steps?

    Theory ranks schedules by the pixel standard deviation that the sampler keeps at so many steps;
    the measured ranking agrees or does not.
    """
    made = next(iter(asked(study, "schedule")), None)
    if made is None:
        return None
    first, second = made.first, made.second
    predicted = [_predicted(one.cells) for one in (first, second)]
    if not all(map(np.isfinite, predicted)):
        return None
    measured = say.listed(_share(_mean_spread(one.cells).estimate) for one in (first, second))
    words = (
        f"For Gaussian data with the covariance of the training images, the closed form predicts "
        f"that {say.sampler_at(first)} keeps {_share(predicted[0])} of the pixel standard "
        f"deviation under {first.schedule} and {_share(predicted[1])} under {second.schedule} "
        f"(measured: {measured}); "
    )
    return finding(
        "Why is one schedule better at few steps?", words + _agreement(study, made, predicted),
        made.keys, predicted[0] - predicted[1], n=made.difference.n, needs=made.would_decide,
    )  # fmt: skip


def _with_most_steps(study: Study) -> list[Configuration]:
    """Of matched schedules those with the most steps, by DDIM where it was used."""
    matched = [one for one in study.configurations() if one.is_matched]
    known = [one for one in matched if any(cell.pixel_spread for cell in one.cells)]
    if not known:
        return []
    kind = "ddim" if "ddim" in {one.kind for one in known} else best(known).kind
    steps = max(one.steps for one in known if one.kind == kind)
    return [one for one in known if (one.kind, one.steps) == (kind, steps)]


def _agreement(study: Study, made: Comparison, predicted: list[float]) -> str:
    numbers = f"{study.named(study.metric)} is {say.versus(made)}"
    if made.winner is None:
        return f"{numbers}: the difference is not significant, so the prediction cannot be tested"
    lost = [abs(1 - share) for share in predicted]
    loser = made.second if made.winner is made.first else made.first
    if abs(lost[0] - lost[1]) < ALIKE:
        return (
            f"{numbers}, so pixel standard deviation does not explain why {made.winner.schedule} "
            f"is better than {loser.schedule}"
        )
    expected = made.first if lost[0] < lost[1] else made.second
    if expected is made.winner:
        return f"{numbers}: prediction and measurement agree on {expected.schedule}"
    return (
        f"yet {numbers}, better for {made.winner.schedule}: prediction and measurement disagree, "
        "and pixel standard deviation is not what decides"
    )


def _last_signal(cell: CellResult) -> float:
    return float(cell.path.last_abar**0.5)


def _mean_spread(cells: Iterable[CellResult]) -> Interval:
    """The mean pixel standard deviation relative to real images, on the models at hand."""
    known = [cell.pixel_spread for cell in cells if cell.pixel_spread]
    return mean_of((one.value, one.standard_error) for one in known)


def _predicted(cells: Iterable[CellResult]) -> float:
    """What the closed form predicts of it; NaN where there is none."""
    known = [each.predicted for cell in cells if (each := cell.pixel_spread)]
    shares = [share for share in known if share is not None]
    return float(np.mean(shares)) if shares else np.nan


def _share(value: float) -> str:
    return say.percent(value, 3)
