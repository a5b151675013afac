"""Why: what is lost to few steps and what to the network, beside what theory predicts of it.

For Gaussian data the images of an exact denoiser are known in closed form. With the covariance of
the training images it predicts which share of the pixel standard deviation a sampler keeps. The
exact denoiser of the training images, where it was sampled, makes no error but the sampler's own.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from harness.analysis.configurations import Configuration, best
from harness.analysis.denoising import along_the_path
from harness.analysis.questions import Comparison, comparisons
from harness.analysis.reference import exact_value, mean_of
from harness.analysis.shortfall import share_of_the_difference, shortfalls
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

    How much of the difference more steps of the same networks take away; and whether the closed
    form, or the exact denoiser where it was sampled, ranks the schedules as they were measured.
    """
    made = [one for one in predicted_at_fewest_steps(study) if one.winner is not None]
    if not made:
        return None
    shown = made[0]
    shares = {one: share_of_the_difference(one, study) for one in made}
    share = shares[shown]
    words = (_of_the_steps(shown, share) if share else "") + _of_theory(study, made)
    rows = [
        (say.contest(one), say.place(one), (one.winner or one.first).schedule,
         f"{say.spanned(found, 100)} %" if (found := shares[one]) else "–",
         *map(" / ".join, zip(*(_side_by_side(study, each) for each in (one.first, one.second)),
                              strict=True)))
        for one in made
    ]  # fmt: skip
    return finding(
        "Why is one schedule better at few steps?", words,
        (key for one in made for key in one.keys), share or np.nan, n=shown.effect.n, rows=rows,
        columns=("comparison", "where", "better", f"gone with the most {study.unit}s",
                 *(f"{column}: first / second" for column in _columns(study))),
    )  # fmt: skip


def lost_at_few_steps(study: Study) -> Finding | None:
    """What do more steps mend, and what is left to the network?

    Of the distance to real images at few steps, what the same network does not have at the most
    steps is the steps' share; the rest is the network's.
    """
    found = shortfalls(study)
    if not found:
        return None
    fewest = min(one.few.steps for one in found)
    shown = min((one for one in found if one.few.steps == fewest), key=lambda one: one.few.rank)
    share = shown.share_of_steps
    words = f"Of the distance to real images of {say.described(shown.few)}, "
    words += f"{say.spanned(share, 100)} % is gone {say.at_steps([shown.many.steps], study.unit)}; "
    words += "the rest is the network's"
    if np.isfinite(shown.exact):
        alone = say.percent(shown.exact_lacks / shown.total)
        words += f". Discretisation alone makes {alone} of it: so far from real images is the "
        words += "exact denoiser, sampled alike"
    rows = [
        (say.described(one.few), say.number(one.total), f"{say.spanned(one.share_of_steps, 100)} %",
         *_side_by_side(study, one.few))
        for one in found
    ]  # fmt: skip
    return finding(
        f"What do more {study.unit}s mend, and what is left to the network?", words,
        (key for one in found for key in (*one.few.keys, *one.many.keys)), share, n=share.n,
        columns=("configuration", f"{study.metric.title} beyond real images",
                 f"gone with the most {study.unit}s", *_columns(study)), rows=rows,
    )  # fmt: skip


def _columns(study: Study) -> tuple[str, ...]:
    """Of the closed form, the exact denoiser and the denoising error side by side."""
    return (
        "spread kept by the closed form", "measured", f"exact denoiser's {study.metric.title}",
        "denoising error at its steps, of the best linear denoiser's",
    )  # fmt: skip


def _of_the_steps(made: Comparison, share: Interval) -> str:
    """How much of a difference is the steps', in a sentence."""
    winner = (made.winner or made.first).schedule
    [loser] = {made.first.schedule, made.second.schedule} - {winner}
    unit = made.first.unit
    begins = f"With {say.sampler_at(made.first)} {winner} is better than {loser}, and "
    if share.estimate >= 1:
        return f"{begins}no longer with the most {unit}s. "
    if share.estimate <= 0:
        return f"{begins}no less with the most {unit}s: that is the networks'. "
    told = f"{say.spanned(share, 100)} % of the difference"
    return f"{begins}{told} is gone with the most {unit}s; the rest is the networks'. "


def _of_theory(study: Study, made: list[Comparison]) -> str:
    """Whether the closed form ranks the schedules as they were measured, and how much of the
    difference the exact denoiser has."""
    shown, agreeing = made[0], sum(map(_agrees, made))
    first, second = shown.first, shown.second
    kept = f"{_share(_predicted(first.cells))} of the pixel standard deviation kept under "
    kept += f"{first.schedule}, {_share(_predicted(second.cells))} under {second.schedule}"
    if all(abs(_lost(one.first) - _lost(one.second)) < ALIKE for one in made):
        return f"The closed form does not explain it: {kept}"
    if not agreeing:
        return f"The closed form predicts the opposite: {kept}"
    order = "that order" if agreeing == len(made) else f"that in {agreeing} of {len(made)}"
    exact = exact_value(study, first) - exact_value(study, second)
    if np.isfinite(exact):
        share = say.percent(exact / (first.mean - second.mean))
        told = f"The closed form predicts {order}; the exact denoiser, sampled alike, has {share} "
        return f"{told}of the difference"
    return f"The closed form predicts {order}: {kept}"


def _side_by_side(study: Study, one: Configuration) -> tuple[str, ...]:
    """What the closed form keeps, what was measured, what the exact denoiser scores, and the error
    of the networks at the levels that the sampler visits."""
    along = along_the_path(study, one.cells)
    return (
        _share(_predicted(one.cells)), _share(_measured(one.cells)),
        say.number(exact_value(study, one)), say.percent(along),
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


def _measured(cells: Iterable[CellResult]) -> float:
    """The mean pixel standard deviation relative to real images; NaN where it was not measured."""
    known = [cell.pixel_spread for cell in cells if cell.pixel_spread]
    return float(np.mean([one.value for one in known])) if known else np.nan


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
