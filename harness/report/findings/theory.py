"""Why: what the closed form for Gaussian data predicts, beside what was measured.

For Gaussian data the images of an exact denoiser are known in closed form. With the covariance of
the training images it predicts which share of the pixel standard deviation a sampler keeps.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from harness.analysis.configurations import Configuration, best
from harness.analysis.questions import Comparison, comparisons
from harness.analysis.reference import mean_of
from harness.analysis.statistics import Interval
from harness.analysis.study import Study
from harness.report import wording as say
from harness.report.findings.finding import Finding, finding
from harness.work.results import CellResult

FULL = 0.99  # of the signal: a schedule that ends above this loses nothing that shows
ALIKE = 0.01  # of the pixel standard deviation: a smaller difference explains nothing
SHARES = ("predicted", "measured")


def pixel_spread_lost(study: Study) -> Finding | None:
    """Do images lose pixel standard deviation however many steps are taken?

    They do under a schedule whose signal never reaches 1: the last estimate is of an image that is
    still mixed with noise.
    """
    alike = _with_most_steps(study)
    shown: dict[str, list[CellResult]] = {}
    for one in alike:
        shown.setdefault(one.schedule, []).extend(cell for cell in one.cells if cell.pixel_spread)
    signal = {name: float(np.mean([*map(_last_signal, cells)])) for name, cells in shown.items()
              if any(_last_signal(cell) < FULL for cell in cells)}  # fmt: skip
    if not signal:
        return None
    schedule = min(signal, key=lambda name: (signal[name], name))
    cells = shown[schedule]
    measured, predicted = _mean_spread(cells), _predicted(cells)
    first = next(one for one in alike if cells[0] in one.cells)
    words = (
        f"The signal rate ends at {say.number(signal[schedule], 2)} under {schedule}. With "
        f"{say.sampler_at(first)} its images keep {say.spanned(measured, 100)} % of the pixel "
        "standard deviation of real ones"
    )
    words += f", where {_share(predicted)} are predicted" if np.isfinite(predicted) else ""
    rows = [(name, _share(_predicted(those)), _share(_mean_spread(those).estimate))
            for name, those in sorted(shown.items())]  # fmt: skip
    return finding(
        "Is pixel standard deviation lost for good?", words,
        (cell.cell.key for those in shown.values() for cell in those),
        Interval(measured.estimate - 1, measured.low - 1, measured.high - 1, measured.n),
        n=len({cell.cell.training.seed for cell in cells}),
        needs="" if measured.high < 1 else "more images per cell",
        columns=("schedule", *SHARES), rows=rows,
    )  # fmt: skip


def why_at_few_steps(study: Study) -> Finding | None:
    """Why is one schedule better at few steps?

    Theory ranks schedules by the pixel standard deviation that the sampler keeps at so few steps;
    the measured ranking agrees or does not.
    """
    made = [one for one in predicted_at_fewest_steps(study) if one.winner is not None]
    if not made:
        return None
    shown, agreeing = made[0], sum(map(_agrees, made))
    first, second = shown.first, shown.second
    shares = [_predicted(one.cells) for one in (first, second)]
    words = (
        f"The closed form predicts that {say.sampler_at(first)} keeps {_share(shares[0])} of the "
        f"pixel standard deviation under {first.schedule} and {_share(shares[1])} under "
        f"{second.schedule}. "
    )
    if all(abs(_lost(one.first) - _lost(one.second)) < ALIKE for one in made):
        words += "It does not explain which schedule is better"
    elif len(made) == 1:
        words += f"{'As' if agreeing else 'Against what'} it predicts, "
        words += f"{(shown.winner or first).schedule} is better"
    else:
        words += f"It names the better schedule in {agreeing} of {len(made)} comparisons"
    rows = [
        (say.contest(one), say.place(one), *(_share(_predicted(each.cells)) for each in both),
         *(_share(_mean_spread(each.cells).estimate) for each in both),
         (one.winner or one.first).schedule)
        for one in made for both in [(one.first, one.second)]
    ]  # fmt: skip
    columns = tuple(f"{which}, {what}" for what in SHARES for which in ("first", "second"))
    return finding(
        "Why is one schedule better at few steps?", words,
        (key for one in made for key in one.keys), shares[0] - shares[1], n=shown.effect.n,
        columns=("comparison", "where", *columns, "better"), rows=rows,
    )  # fmt: skip


def predicted_at_fewest_steps(study: Study) -> list[Comparison]:
    """The comparisons of schedules at the fewest steps of which something is predicted."""
    made = [
        one
        for one in comparisons(study, "schedule")
        if all(np.isfinite(_predicted(each.cells)) for each in (one.first, one.second))
    ]
    return [one for one in made if one.steps == made[0].steps]


def _with_most_steps(study: Study) -> list[Configuration]:
    """Of matched schedules those with the most steps, by DDIM where it was used."""
    matched = [one for one in study.configurations() if one.is_matched]
    known = [one for one in matched if any(cell.pixel_spread for cell in one.cells)]
    if not known:
        return []
    kind = "ddim" if "ddim" in {one.kind for one in known} else best(known).kind
    steps = max(one.steps for one in known if one.kind == kind)
    return [one for one in known if (one.kind, one.steps) == (kind, steps)]


def _agrees(made: Comparison) -> bool:
    """Whether the schedule that is to lose less is the better one, and loses visibly less."""
    ahead, behind = (made.first, made.second)[:: 1 if made.winner is made.first else -1]
    return _lost(behind) - _lost(ahead) >= ALIKE


def _lost(one: Configuration) -> float:
    return abs(1 - _predicted(one.cells))


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
