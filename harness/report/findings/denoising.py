"""What the networks learned at each amount of noise: their denoising error by log SNR."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.analysis.decisions import Effect
from harness.analysis.denoising import Learned, Levels, levels, visited
from harness.analysis.reference import interval_of, normal_interval
from harness.analysis.statistics import Interval
from harness.analysis.study import Study
from harness.report import wording as say
from harness.report.findings import networks
from harness.report.findings.finding import Finding, Row, few, finding
from harness.work.results import DenoisingError

Where = dict[str, NDArray[np.bool_]]  # at which levels, by network

LEAST = 1e-4  # of an error that a table shows
SETTLED = 0.005  # of the error: a last tenth of the training that surely changes it less
CHANGED = {  # what it did, and that in words; what matters most first
    "fell": "longer training helps {}", "rose": "longer training does not help {}",
    "open": "whether longer training helps {} is open", "settled": "{} had settled",
}  # fmt: skip


def where_it_learned(study: Study) -> Finding | None:
    """Where did each schedule learn better, and what does that cost at these steps?

    The error on held-out images, judged as one question with a verdict at each level that all
    networks were trained on.
    """
    found = levels(study)
    if found is None or found.decision is None:
        return None
    names = [one.trained for one in found.learned]
    ahead, behind = (
        {name: where for name in names if (where := found.against_all(name, verdict)).any()}
        for verdict in ("better", "worse")
    )
    main = max(found.decision.main.values(), key=_size)
    needs = ""
    if behind:
        words = _of_levels(found, ahead, behind) + _cost(study, found)
    elif decided := found.decided:
        words = f"Over all levels the denoising error of {decided[0]} is lower than that of "
        words += f"{decided[1]}; at no single level is a difference significant"
    else:
        main = max((one for one in found.decision.main.values() if one.verdict == "inconclusive"),
                   key=_size)  # fmt: skip
        words, needs = _undecided(found, main), say.needed(main)
    return finding(
        "Where did each schedule learn better?", words + _of_pixels(found), _evidence(study),
        main.change, n=main.n, needs=needs,
        columns=(found.axis, *names, "best affine (Wiener) denoiser", "lowest",
                 "significantly higher"),
        rows=_rows(found, ahead, behind),
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
    known, where = float(found.linear[found.common].mean()), _range(found, found.common)
    words = f"Mean squared error of ε at log SNR {where}: {best.trained} "
    words += f"{say.spanned(of[best.trained])}, best affine (Wiener) denoiser {say.number(known)}, "
    words += "predicting zero 1"
    is_worse = found.common & (best.held_out.mean(0) > found.linear)
    if is_worse.any():
        words += f". At log SNR {_range(found, is_worse)} it is worse than the best affine "
        words += "(Wiener) denoiser"
    rows = [
        (one.trained, say.spanned(of[one.trained]), say.percent(of[one.trained].estimate / known),
         *(say.spanned(bits) if bits else "–" for bits in _bits(one)), _range(found, one.inside))
        for one in found.learned
    ]  # fmt: skip
    return finding(
        "How far do the networks beat predicting nothing?", words + _of_pixels(found),
        _evidence(study), of[best.trained], n=len(best.by_seed), rows=rows,
        columns=("trained under", f"mean squared error of ε at {found.axis} {where}",
                 "of the best affine (Wiener) denoiser's",
                 "bits per dimension of held-out images, upper bound (comparable only at an equal "
                 "log SNR range)", "of training images", f"{found.axis} of the bits"),
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
    does: dict[str, list[str]] = {verb: [] for verb in CHANGED}
    for name, each in sorted(changes.items(), key=lambda item: -abs(item[1].estimate)):
        does[_did(each)].append(name)
    groups = [(verb, names) for verb, names in does.items() if names]
    told = []
    for place, (verb, names) in enumerate(groups):
        whose = f"{names[0]} " * (len(names) > 1)
        by = f" ({whose}{say.spanned(changes[names[0]], 100)} %)" * (place < 2)
        told.append(CHANGED[verb].format(few(names)) + by)
    gaps = {one.trained: gap for one in found.learned if (gap := _overfitting(one))}
    words = f"Held-out error in the last tenth: {'; '.join(told)}"
    words += f". {_of_overfitting(gaps)}" if gaps else ""
    if networks.training_long_enough(study):
        words += f"; for images see '{networks.LONG_ENOUGH}'"
    most = changes[groups[0][1][0]]
    is_open = groups[0][0] == "open"
    rows = [(name, f"{say.spanned(each, 100)} %", say.spanned(gaps[name]) if name in gaps else "–")
            for name, each in changes.items()]  # fmt: skip
    return finding(
        "Does longer training lower the denoising error?", words, _evidence(study), most,
        n=most.n, needs="more training seeds" if is_open else "", rows=rows,
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


def _of_pixels(found: Levels) -> str:
    return f"; {found.axis}, since the scales of the data differ" if found.has_scales else ""


def _size(effect: Effect) -> float:
    return abs(float(np.nan_to_num(effect.value)))


def _of_levels(found: Levels, ahead: Where, behind: Where) -> str:
    """Which networks are better than all others; where that tells less than half of the verdicts,
    as of two that are alike, which are worse than one."""
    is_enough = 2 * _levels_of(ahead) >= _levels_of(behind)
    way, these = ("lowest", ahead) if is_enough else ("significantly higher", behind)
    told = (
        f"under {name} at log SNR {_range(found, where)} (by up to {_apart(found, name, where)})"
        for name, where in _by_size(these)
    )
    return f"The denoising error is {way} {few(told)}"


def _undecided(found: Levels, main: Effect) -> str:
    lowest = {one.trained: where for one in found.learned
              if (where := found.is_lowest(one.trained)).any()}  # fmt: skip
    told = (f"under {name} at log SNR {_range(found, where)}" for name, where in _by_size(lowest))
    why = main.reason or "which is not significant at any level"
    return f"The denoising error is lowest {few(told)}, {'but ' * bool(main.reason)}{why}"


def _by_size(these: Where) -> list[tuple[str, NDArray[np.bool_]]]:
    """The network with most levels first."""
    return sorted(these.items(), key=lambda item: -int(item[1].sum()))


def _levels_of(these: Where) -> int:
    return int(np.any([*these.values()], axis=0).sum()) if these else 0


def _apart(found: Levels, name: str, where: NDArray[np.bool_]) -> str:
    """By how much an error differs from the lowest of the others, at the level where that is
    most."""
    means = {one.trained: one.held_out[:, where].mean(0) for one in found.learned}
    others = np.min([each for other, each in means.items() if other != name], axis=0)
    return say.percent(float(np.abs(1 - means[name] / others).max()))


def _cost(study: Study, found: Levels) -> str:
    """Of the network that takes most of its sampling steps where it is worse than another, at the
    fewest steps: how many those are."""
    behind, measured = {}, {one.trained: one.first for one in found.learned}
    for one in sorted(study.cells, key=lambda cell: cell.cell.steps):
        name, path = study.training_label(one.cell.training), visited(one)
        known = measured.get(name)
        if one.cell.is_matched and path is not None and known is not None and name not in behind:
            nearest = np.abs(found.seen(path, known)[:, None] - found.log_snr).argmin(1)
            behind[name] = int(found.against_all(name, "worse")[nearest].sum()), len(path)
    if not any(n for n, _ in behind.values()):
        return ""
    name = max(behind, key=lambda each: behind[each][0] / behind[each][1])
    n, steps = behind[name]
    told = f"{n} of {steps} sampling steps lie where its error is significantly higher"
    return f". Under {name} {told}"


def _rows(found: Levels, ahead: Where, behind: Where) -> list[Row]:
    def cell(one: Learned, place: int) -> str:
        outside = "" if one.inside[place] else " (not trained on)"
        return f"{say.number(float(one.held_out[:, place].mean()))}{outside}"

    def named(these: Where, place: int) -> str:
        return say.listed(name for name, where in these.items() if where[place]) or "–"

    return [
        (say.number(log_snr, 2), *(cell(one, place) for one in found.learned),
         say.number(found.linear[place]) if found.linear[place] > LEAST else f"< {LEAST:.4f}",
         named(ahead, place), named(behind, place))
        for place, log_snr in enumerate(found.log_snr)
    ]  # fmt: skip


def _means(one: Learned, where: NDArray[np.bool_]) -> Interval:
    """The mean error at these levels over seeds; of one, by its sampling error."""
    errors = one.each(lambda level: level.held_out.standard_error)[:, where]
    return interval_of(one.held_out[:, where].mean(1), float(errors.mean()))


def _bits(one: Learned) -> tuple[Interval | None, Interval | None]:
    return one.over_seeds(lambda found: found.bits), one.over_seeds(lambda found: found.train_bits)


def _last_tenth(one: Learned) -> Interval | None:
    """By which share the last tenth of the training changed the held-out error, over the levels
    that were trained on; of one seed, by its sampling error."""
    change, error = (one.each(each)[:, one.inside] for each in (_change, _error_of_change))
    if not one.inside.any() or np.isnan(change).any():
        return None
    before = one.held_out[:, one.inside].sum(1) - change.sum(1)
    # Levels have the same images: errors add up at most.
    return interval_of(change.sum(1) / before, float((error.sum(1) / before).mean()))


def _change(level: DenoisingError) -> float | None:
    return level.last_tenth.value if level.last_tenth else None


def _error_of_change(level: DenoisingError) -> float | None:
    return level.last_tenth.standard_error if level.last_tenth else None


def _did(change: Interval) -> str:
    """What the last tenth of a training did to its error, as CHANGED has it."""
    if change.low > -SETTLED and change.high < SETTLED:
        return "settled"
    if change.high < 0:
        return "fell"
    return "rose" if change.low > 0 else "open"


def _of_overfitting(gaps: dict[str, Interval]) -> str:
    worst = max(gaps, key=lambda name: gaps[name].low)
    words = f"Held-out images cost {worst} {say.spanned(gaps[worst])} bits per dimension more than "
    overfit = [name for name, gap in gaps.items() if gap.low > 0]
    if len(overfit) > 1:
        return f"{words}training images: {few(overfit)} overfit"
    if overfit:
        return f"{words}training images: it overfits"
    told = "it does not overfit" if gaps[worst].high < 0 else "no overfitting shown"
    return f"{words}training images: {told}"


def _overfitting(one: Learned) -> Interval | None:
    """The bits that held-out images need beyond training images: over images, which are the same
    for every seed."""
    pairs = [(found.bits, found.train_bits) for found in one.by_seed.values()]
    known = [(bits, train) for bits, train in pairs if bits and train]
    if not known:
        return None
    errors = [np.hypot(bits.standard_error or np.nan, train.standard_error or np.nan)
              for bits, train in known]  # fmt: skip
    gap, error = (
        float(np.mean([bits.value - train.value for bits, train in known])),
        np.mean(errors),
    )
    return normal_interval(gap, float(error)) if np.isfinite(error) else None
