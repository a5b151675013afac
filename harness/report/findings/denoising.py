"""What the networks learned at each amount of noise: their denoising error by log SNR."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.analysis.decisions import ONE_SEED
from harness.analysis.denoising import Learned, Levels, levels, visited
from harness.analysis.reference import normal_interval
from harness.analysis.statistics import Interval, mean_interval
from harness.analysis.study import Study
from harness.report import wording as say
from harness.report.findings.finding import Finding, Row, finding

LEAST = 1e-4  # of an error that a table shows
SETTLED = 0.005  # of the error: a last tenth of the training that lowers it less has settled


def where_it_learned(study: Study) -> Finding | None:
    """Where did each schedule learn better, and what does that cost at these steps?

    The error on held-out images, judged as one question with a verdict at each level that all
    networks were trained on.
    """
    found = levels(study)
    if found is None or found.decision is None:
        return None
    names = [one.trained for one in found.learned]
    ahead = {name: where for name in names if (where := found.against_all(name, "better")).any()}
    main = max(found.decision.main.values(), key=lambda one: abs(np.nan_to_num(one.value)))
    shown, needs = ahead, ""
    if not ahead:
        shown = {name: where for name in names if (where := found.is_lowest(name)).any()}
        needs = "at least 2 training seeds" if main.reason == ONE_SEED else say.needed(main)
    told = [f"under {name} at log SNR {_range(found, where)} (by up to {_lead(found, name, where)})"
            for name, where in shown.items()]  # fmt: skip
    words = f"The denoising error is lowest {say.listed(told[:2])}"
    words += _cost(study, found) if ahead else ", which is not significant at any level"
    return finding(
        "Where did each schedule learn better?", words, _evidence(study), main.change, n=main.n,
        needs=needs, columns=("log SNR", *names, "best linear denoiser", "lower"),
        rows=_rows(found, ahead),
    )  # fmt: skip


def how_much_it_learned(study: Study) -> Finding | None:
    """How far do the networks beat predicting nothing, whose error is 1?

    Over the levels that all networks were trained on; and the bound on the likelihood that the
    error amounts to.
    """
    found = levels(study)
    if found is None or not found.common.any():
        return None
    of = {one.trained: _means(one, found.common) for one in found.learned}
    best = min(found.learned, key=lambda one: of[one.trained].estimate)
    known = float(found.linear[found.common].mean())
    words = f"The error of {best.trained} is {say.spanned(of[best.trained])} where predicting no "
    words += f"noise has 1 and the best linear denoiser {say.number(known)}"
    is_worse = found.common & (best.held_out.mean(0) > found.linear)
    if is_worse.any():
        words += f". At log SNR {_range(found, is_worse)} it is worse than the best linear denoiser"
    rows = [
        (one.trained, say.spanned(of[one.trained]), say.percent(of[one.trained].estimate / known),
         *(say.spanned(bits) if bits else "–" for bits in _bits(one)), _range(found, one.inside))
        for one in found.learned
    ]  # fmt: skip
    return finding(
        "How far do the networks beat predicting nothing?", words, _evidence(study),
        of[best.trained], n=len(best.by_seed), rows=rows,
        columns=("trained under", f"mean error at log SNR {_range(found, found.common)}",
                 "of that of the best linear denoiser", "bits per dimension, held out",
                 "of training images", "bits are of log SNR; nothing is known beyond"),
    )  # fmt: skip


def longer_training(study: Study) -> Finding | None:
    """Does longer training lower the denoising error, or does the network overfit?

    What the last tenth of the training did to the error on held-out images, and what those cost
    beyond training images.
    """
    found = levels(study)
    changes = {one.trained: each for one in (found.learned if found else ())
               if (each := _last_tenth(one))}  # fmt: skip
    if found is None or not changes:
        return None
    most = min(changes, key=lambda name: changes[name].estimate)
    change = changes[most]
    by = f"the held-out error of {most} by {say.spanned(change, 100)} %"
    if change.high < 0 and change.estimate < -SETTLED:
        words = f"Longer training helps: its last tenth changed {by}"
    elif change.low > 0:
        words = f"Longer training does not help: its last tenth changed {by}"
    else:
        words = f"It had settled at this length: the last tenth changed {by}"
    gaps = {one.trained: gap for one in found.learned if (gap := _overfitting(one))}
    if gaps:
        worst = max(gaps, key=lambda name: gaps[name].low)
        words += f". {worst} needs {say.spanned(gaps[worst])} bits per dimension more for held-out "
        words += "images than for training images"
        words += ": it overfits" if gaps[worst].low > 0 else ", within sampling error"
    rows = [(name, f"{say.spanned(each, 100)} %", say.spanned(gaps[name]) if name in gaps else "–")
            for name, each in changes.items()]  # fmt: skip
    return finding(
        "Does longer training lower the denoising error?", words, _evidence(study), change,
        n=change.n, rows=rows,
        columns=("trained under", "change of the held-out error in the last tenth",
                 "bits per dimension beyond training images"),
    )  # fmt: skip


def _evidence(study: Study) -> list[str]:
    trained = {one.training.key for one in study.trainings}
    return [one.cell.key for one in study.cells if one.cell.training.key in trained]


def _range(found: Levels, these: NDArray[np.bool_]) -> str:
    """`from −7 to −3`; with gaps, how many levels of the common ones there are."""
    places = np.flatnonzero(these)
    first, last = (say.number(value, 2) for value in found.log_snr[places[[0, -1]]])
    if len(places) == 1:
        return first
    gaps = f" ({len(places)} levels)" if np.ptp(places) >= len(places) else ""
    return f"from {first} to {last}{gaps}"


def _lead(found: Levels, name: str, where: NDArray[np.bool_]) -> str:
    """By how much an error is below the next, at the level where that is most."""
    means = {one.trained: one.held_out[:, where].mean(0) for one in found.learned}
    others = np.min([each for other, each in means.items() if other != name], axis=0)
    return say.percent(float((1 - means[name] / others).max()))


def _cost(study: Study, found: Levels) -> str:
    """Of the network that makes most of its evaluations, at the fewest steps, where it is behind:
    how many those are."""
    behind, measured = {}, {one.trained: one.first for one in found.learned}
    for one in sorted(study.cells, key=lambda cell: cell.cell.steps):
        name, path = study.training_label(one.cell.training), visited(one)
        if one.cell.is_matched and path is not None and name not in behind:
            asked = found.seen(path, measured[name])
            nearest = np.abs(asked[:, None] - found.log_snr).argmin(1)
            behind[name] = int(found.against_all(name, "worse")[nearest].sum()), len(path)
    if not any(n for n, _ in behind.values()):
        return ""
    name = max(behind, key=lambda each: behind[each][0] / behind[each][1])
    n, steps = behind[name]
    where = say.at_steps([steps], study.unit).capitalize()
    return f". {where} {name} is asked {n} of {steps} times where it is behind"


def _rows(found: Levels, ahead: dict[str, NDArray[np.bool_]]) -> list[Row]:
    def cell(one: Learned, place: int) -> str:
        outside = "" if one.inside[place] else " (not trained on)"
        return f"{say.number(float(one.held_out[:, place].mean()))}{outside}"

    return [
        (say.number(log_snr, 2), *(cell(one, place) for one in found.learned),
         say.number(found.linear[place]) if found.linear[place] > LEAST else f"< {LEAST:.4f}",
         next((name for name, where in ahead.items() if where[place]), "–"))
        for place, log_snr in enumerate(found.log_snr)
    ]  # fmt: skip


def _means(one: Learned, where: NDArray[np.bool_]) -> Interval:
    """The mean error at these levels over seeds; of one seed, without bounds."""
    return mean_interval(one.held_out[:, where].mean(1))


def _bits(one: Learned) -> tuple[Interval | None, Interval | None]:
    return one.over_seeds(lambda found: found.bits), one.over_seeds(lambda found: found.train_bits)


def _last_tenth(one: Learned) -> Interval | None:
    """By which share the last tenth of the training changed the held-out error, over the levels
    that were trained on."""
    change = one.each(lambda level: level.last_tenth.value if level.last_tenth else None)
    if not one.inside.any() or np.isnan(change).any():
        return None
    changed = change[:, one.inside].sum(1)
    return mean_interval(changed / (one.held_out[:, one.inside].sum(1) - changed))


def _overfitting(one: Learned) -> Interval | None:
    """The bits that held-out images need beyond training images: over images, which are the same
    for every seed."""
    pairs = [(found.bits, found.train_bits) for found in one.by_seed.values()]
    known = [(bits, train) for bits, train in pairs if bits and train]
    if not known:
        return None
    errors = [np.hypot(bits.standard_error or np.nan, train.standard_error or np.nan)
              for bits, train in known]  # fmt: skip
    gap = float(np.mean([bits.value - train.value for bits, train in known]))
    return normal_interval(gap, float(np.mean(errors)))
