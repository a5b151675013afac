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
from harness.analysis.shortfall import Shortfall, share_of_the_difference, shortfalls
from harness.analysis.statistics import Interval
from harness.analysis.study import Study
from harness.report import wording as say
from harness.report.findings.finding import Finding, finding
from harness.work.results import CellResult

FULL = 0.99  # of the signal: a schedule that ends above this loses nothing that shows
ALIKE = 0.01  # of the pixel standard deviation: a smaller difference explains nothing
VAGUE = 1.0  # of a distance: the width of an interval that says nothing of a share of it
SHARES = ("pixel std. deviation, predicted", "pixel std. deviation, measured")


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
    kept = f"{say.spanned(measured, 100)} % of the pixel standard deviation of real ones"
    theory = _share(predicted) if np.isfinite(predicted) else ""
    if measured.low > 1:
        words = f"No: with {say.sampler_at(first)} images under {schedule} have {kept}"
        other = next((name for name in sorted(shown) if name != schedule), "")
        if other and (beside := _mean_spread(shown[other])).low > 1:
            words += f" and under {other} {say.spanned(beside, 100)} %"
        if theory:
            words += f", where theory predicts {theory} under {schedule}: the closed form does not "
            words += "describe these networks"
    else:
        words = f"The signal rate ends at {say.number(signal[schedule], 2)} under {schedule}. With "
        words += f"{say.sampler_at(first)} its images keep {kept}"
        words += f", where {theory} are predicted" if theory else ""
    rows = [(name, _share(_predicted(those)), f"{say.spanned(_mean_spread(those), 100)} %")
            for name, those in sorted(shown.items())]  # fmt: skip
    return finding(
        "Is pixel standard deviation lost for good?", words,
        (cell.cell.key for those in shown.values() for cell in those),
        Interval(measured.estimate - 1, measured.low - 1, measured.high - 1, measured.n),
        n=len({cell.cell.training.seed for cell in cells}),
        needs="more images per cell" if measured.low <= 1 <= measured.high else "",
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
        columns=("comparison", "where", "better", f"removed by the most {study.unit}s",
                 *(f"{column}: first / second" for column in _columns(study))),
    )  # fmt: skip


def lost_at_few_steps(study: Study) -> Finding | None:
    """What do more steps mend, and what is left to the network?

    Of the distance to real images at few steps, what the same network does not have at the most
    steps is the steps' share. What the exact denoiser does not have either is the network's.
    """
    found = shortfalls(study)
    if not found:
        return None
    fewest = min(one.few.steps for one in found)
    shown = min((one for one in found if one.few.steps == fewest), key=lambda one: one.few.rank)
    share = shown.share_of_steps
    is_open = _is_vague(share) or share.low <= 0 <= share.high
    words = _of_more_steps(shown, is_open)
    if np.isfinite(shown.exact):
        words += f". {_of_discretisation(shown.exact_lacks / shown.total)}"
    most = {one.many.steps for one in found}
    least = say.at_steps([*most], study.unit) if len(most) == 1 else f"at the most {study.unit}s"
    rows = [
        (say.described(one.few), say.number(one.total), f"{say.spanned(one.share_of_steps, 100)} %",
         *_side_by_side(study, one.few))
        for one in found
    ]  # fmt: skip
    return finding(
        f"What do more {study.unit}s mend, and what is left to the network?", words,
        (key for one in found for key in (*one.few.keys, *one.many.keys)), share, n=share.n,
        needs=f"more {'images per cell' if share.n == 1 else 'training seeds'}" if is_open else "",
        columns=("configuration", f"{study.metric.title} beyond real images",
                 f"of that, gone {least}", *_columns(study)), rows=rows,
    )  # fmt: skip


def _columns(study: Study) -> tuple[str, ...]:
    """Of the closed form, the exact denoiser and the denoising error side by side."""
    return (
        *SHARES, f"exact denoiser's {study.metric.title}",
        "denoising error at the sampled noise levels, of the best affine (Wiener) denoiser's",
    )  # fmt: skip


def _is_vague(share: Interval) -> bool:
    return not share.high - share.low <= VAGUE


def _of_more_steps(shown: Shortfall, is_open: bool) -> str:
    """How much of a distance to real images more steps remove, in a sentence."""
    share, unit = shown.share_of_steps, shown.few.unit
    there = say.at_steps([shown.many.steps], unit)
    distance = f"the distance to real images of {say.described(shown.few)}"
    if is_open:
        return f"How much of {distance} more {unit}s remove is open: {say.spanned(share, 100)} %"
    if share.high < 0:
        added = Interval(-share.estimate, -share.high, -share.low, share.n)
        return f"More {unit}s do not help: {there} {distance} is {say.spanned(added, 100)} % larger"
    words = f"{there.capitalize()} {say.spanned(share, 100)} % of {distance} is gone"
    left = 1 - share.estimate
    return f"{words}; {say.percent(left) if left > 0 else 'nothing significant'} remains"


def _of_discretisation(alone: float) -> str:
    """What the exact denoiser, sampled alike, has of a distance."""
    if alone <= 0:
        return "The exact denoiser, sampled alike, has none of this distance"
    if alone > 1:
        return "The exact denoiser, sampled alike, is even farther from real images"
    told = f"Discretisation alone makes {say.percent(alone)} of it: so far from real images is the "
    return f"{told}exact denoiser, sampled alike; the rest is the network's"


def _of_the_steps(made: Comparison, share: Interval) -> str:
    """How much of a difference more steps remove, in a sentence."""
    winner = (made.winner or made.first).schedule
    [loser] = {made.first.schedule, made.second.schedule} - {winner}
    unit = made.first.unit
    begins = f"With {say.sampler_at(made.first)} {winner} is better than {loser}"
    if _is_vague(share):
        return f"{begins}; how much of that more {unit}s remove is open. "
    if share.estimate >= 1:
        return f"{begins}, and no longer with the most {unit}s. "
    if share.estimate <= 0:
        return f"{begins}, and no less with the most {unit}s. "
    told = f"{say.spanned(share, 100)} % of the difference"
    return f"{begins}, and {told} is gone with the most {unit}s. "


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
        told = _of_the_exact(exact / (first.mean - second.mean))
        return f"The closed form predicts {order}; the exact denoiser, sampled alike, {told}"
    return f"The closed form predicts {order}: {kept}"


def _of_the_exact(share: float) -> str:
    """What the exact denoiser has of a difference of schedules."""
    if share < 0:
        return "has the opposite order"
    return f"has {'more than all' if share > 1 else say.percent(share)} of the difference"


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
