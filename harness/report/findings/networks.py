"""What the networks add: their error, their training, and what they remember."""

from __future__ import annotations

import numpy as np

from harness.analysis.configurations import Configuration, best, total_error
from harness.analysis.learning import learned
from harness.analysis.reference import beside, distance_to_baseline, gap, normal_interval
from harness.analysis.statistics import Interval, paired_error
from harness.analysis.study import Study
from harness.data.degraded import DEGRADATIONS
from harness.report import wording as say
from harness.report.findings.finding import Finding, few, finding
from harness.work.results import CellResult

CONVERGED = 0.05  # of the distance to real images: a training that gains less has settled
BY_CHANCE = 0.05  # of new images lie nearer to a training image than 95 % of held-out ones do
HAS_IT_LEARNED = "Has it learned?"
LONG_ENOUGH = "Was the training long enough?"
MORE_IMAGES = "more images per cell"


def has_it_learned(study: Study) -> Finding | None:
    """Has it learned? Are the images nearer to real ones than to pure noise?"""
    found = learned(study)
    if found is None:
        return None
    metric, ends = study.metric.title, f"pure noise {say.number(found.noise, 2)} and real images "
    ends += say.number(found.baseline, 2)
    best_has = f"the best images have {metric} {say.number(found.best)}, {ends}"
    if found.has_learned:
        words = f"Yes: {best_has}"
    elif found.any_has_learned:
        words = f"Not under {say.listed(found.not_learned)}: those images are nearer to pure noise "
        words += f"than to real ones. Elsewhere {best_has}"
    else:
        words = f"Nothing learned yet: {best_has}. Train longer"
    trained = [one for one in study.configurations() if one.is_trained]
    rows = [(name, say.number(value), "not yet" if name in found.not_learned else "yes")
               for name, value in found.reached.items()]  # fmt: skip
    return finding(
        HAS_IT_LEARNED, words, (key for one in trained for key in one.keys), found.best,
        n=max(one.seeds for one in trained), verdict="measured" if found.has_learned else "worse",
        columns=("trained under", f"best {metric}", "learned"), rows=rows,
    )  # fmt: skip


def sampler_against_network(study: Study) -> Finding | None:
    """How much of the error is the sampler's own, and how much the network's?

    The exact denoiser makes no error, so what it scores under a sampler is that sampler's own.
    """
    both = [one for one in study.configurations() if all(map(study.exact_twin, one.cells))]
    if not both:
        return None
    leader = best(both).label
    line, keys, rows = [one for one in both if one.label == leader], [], []
    for one in line:
        twins = [twin for cell in one.cells if (twin := study.exact_twin(cell))]
        keys += [*one.keys, *(twin.cell.key for twin in twins)]
        exact = _exact(one, twins)
        # With errors taken as independent: on the safe side, since both start from the same noise.
        added = gap(normal_interval(one.mean, one.error), exact)
        rows.append((f"{one.steps:,}", say.number(exact.estimate), say.number(one.mean),
                     say.spanned(added)))  # fmt: skip
    last, is_clear = line[-1], not added.low <= 0 <= added.high
    words = f"With {last.schedule} and {say.sampler_at(last)} the network adds {say.spanned(added)}"
    words += f" to the sampler's own {study.metric.title} of {say.number(exact.estimate)}"
    words += "" if is_clear else ", within sampling error"
    return finding(
        "How much of the error is the sampler's, and how much the network's?", words, keys, added,
        n=last.seeds, needs="" if is_clear else MORE_IMAGES, rows=rows,
        columns=(f"{study.unit}s", "exact denoiser", "network", "added by the network"),
    )  # fmt: skip


def distance_to_real_images(study: Study) -> Finding | None:
    """Can the best images be told from real ones?"""
    if not study.configurations():
        return None
    leader = best(study.configurations())
    distance = distance_to_baseline(study, leader)
    if distance is None or not np.isfinite(distance.low):
        return None
    is_apart, metric = _is_apart(leader, distance), study.metric.title
    numbers = f"{say.number(leader.mean)} instead of {say.number(study.baseline(), 2)}"
    images = f"at {study.quantity.images:,} images"
    if is_apart:
        words = f"{metric} separates the best images from real held-out ones {images}: {numbers}"
    else:
        words = f"{metric} cannot separate the best images from real held-out ones {images}"
        words += _separated_by(study, leader)
    rows = [("best images", say.number(leader.mean)),
            ("real held-out images", say.number(study.baseline())), *_scale(leader)]  # fmt: skip
    return finding(
        "Can the best images be told from real ones?", words, leader.keys, distance,
        verdict="worse", n=leader.seeds,
        needs="" if is_apart else "more images, generated and held out",
        columns=("images", metric), rows=rows,
    )  # fmt: skip


def training_long_enough(study: Study) -> Finding | None:
    """Was the training long enough?

    The same cell, sampled from the same noise with the network as it was at 90 % of its training:
    networks that still improve may change places with longer training.
    """
    known = _at_both_ends(study)
    if not known:
        return None
    gains = _gains(study)
    shares = {trained: share for trained, (_, share) in gains.items()}
    rows = [(trained, say.number(change), f"{say.spanned(share, 100)} %")
            for trained, (change, share) in gains.items()]  # fmt: skip
    improving = still_improving(study)
    unclear = [name for name, gain in shares.items() if not gain.high <= CONVERGED]
    most = max(shares, key=lambda name: shares[name].estimate)
    if improving:
        words = f"No: the last tenth of the training brought {most} "
        words += f"{say.spanned(shares[most], 100)} % nearer to real images. With longer training "
        words += "another schedule may be better" if len(shares) > 1 else "images improve further"
    elif unclear:
        words = f"Whether {say.listed(unclear)} had converged is open: the last tenth of the "
        words += f"training brought {most} {say.spanned(shares[most], 100)} % nearer to real images"
    else:
        words = f"Yes: the last tenth of the training brought no images {say.percent(CONVERGED)} "
        words += f"nearer to real ones ({few(map(_moved, shares, shares.values()))})"
    final = [cell.cell for *_, cell in known]
    return finding(
        LONG_ENOUGH, words, (cell.key for cell in final), shares[most],
        n=len({cell.training.seed for cell in final}),
        needs=MORE_IMAGES if unclear and not improving else "",
        columns=("trained under", f"change of {study.metric.title} in the last tenth",
                 "of its distance to real images"), rows=rows,
    )  # fmt: skip


def _moved(trained: str, share: Interval) -> str:
    """`cosine 0.94 % [−0.5, 2.4] farther`: of the share of its distance that it lost."""
    if share.estimate >= 0:
        return f"{trained} {say.spanned(share, 100)} % nearer"
    lost = Interval(-share.estimate, -share.high, -share.low, share.n)
    return f"{trained} {say.spanned(lost, 100)} % farther"


def still_improving(study: Study) -> list[str]:
    """The trainings whose last tenth clearly brought their images nearer to real ones."""
    return [
        trained
        for trained, (_, share) in _gains(study).items()
        if share.low > 0 < share.estimate - CONVERGED
    ]


def memorisation(study: Study) -> Finding | None:
    """Are images copies of training images?

    The share of images that lie nearer to a training image than 95 % of held-out ones do.
    """
    every = {one: beside(one.cells, "memorisation") for one in study.configurations()}
    shares = {one: share for one, share in every.items() if share}
    if not shares:
        return None
    leader = best(shares)
    share = shares[leader]
    words = f"{say.spanned(share, 100)} % of the best images lie nearer to a training image than "
    words += "95 % of held-out images do (5 % by chance): "
    is_more, is_chance = share.low > BY_CHANCE, share.high <= 2 * BY_CHANCE
    of_exact = leader.cells[0].cell.training.is_exact
    repeats = "the exact denoiser can only repeat" if of_exact else "the network repeats"
    words += f"{repeats} training images" if is_more else "no sign of copies"
    if not (is_more or is_chance):
        words = words.replace("no sign of copies", "whether that is by chance is open")
    rows = [(say.described(one), f"{say.spanned(share, 100)} %") for one, share in shares.items()]
    return finding(
        "Are the images copies of training images?", words, leader.keys, share,
        verdict="worse" if is_more and not of_exact else "measured", n=leader.seeds,
        needs="" if is_more or is_chance else MORE_IMAGES,
        columns=("configuration", "near a training image"), rows=rows,
    )  # fmt: skip


def variety_against_fidelity(study: Study) -> Finding | None:
    """Do faithful images cost variety?

    Precision is the share of images that look real, recall the share of real ones that are covered;
    compared between the configurations with the most steps.
    """
    known = {one: (precision, recall) for one in study.configurations()
             if (precision := beside(one.cells, "precision"))
             and (recall := beside(one.cells, "recall"))}  # fmt: skip
    steps = max((one.steps for one in known), default=0)
    there = [one for one in known if one.steps == steps]
    if len(there) < 2:
        return None
    faithful = max(there, key=lambda one: (known[one][0].estimate, one.label))
    varied = max(there, key=lambda one: (known[one][1].estimate, one.label))
    (precision, recall), (other_precision, other_recall) = known[faithful], known[varied]
    apart = gap(precision, other_precision)
    among = f"of the configurations {say.at_steps([steps], study.unit)}, "
    if faithful is varied:
        is_clear = all(gap(mine, its).low > 0 for one in there if one is not faithful
                       for mine, its in zip(known[faithful], known[one], strict=True))  # fmt: skip
        words = f"{'Fidelity costs no variety' if is_clear else 'Open'}: {among}"
        words += f"{faithful.label} has the highest precision, {say.spanned(precision)}, and the "
        words += f"highest recall, {say.spanned(recall)}"
        words += "" if is_clear else ", but not both by more than the sampling error"
    else:
        is_clear = apart.low > 0 and gap(other_recall, recall).low > 0
        words = f"{'Fidelity costs variety' if is_clear else 'Not significantly'}: {among}precision"
        words += f" is highest with {_named(faithful)} ({say.spanned(precision)}), recall with "
        words += f"{_named(varied)} ({say.spanned(other_recall)})"
    rows = [(_named(one), *map(say.spanned, known[one])) for one in there]
    return finding(
        "Do faithful images cost variety?", words, faithful.keys + varied.keys,
        np.nan if faithful is varied else apart, n=faithful.seeds,
        needs="" if is_clear else MORE_IMAGES,
        columns=(f"configuration {say.at_steps([steps], study.unit)}", "precision", "recall"),
        rows=rows,
    )  # fmt: skip


def _named(one: Configuration) -> str:
    return f"{one.schedule} and {say.sampler_of(one)}"


def _exact(one: Configuration, twins: list[CellResult]) -> Interval:
    once = {twin.cell.key: total_error(one.measurement(twin)) for twin in twins}
    error = float(np.sqrt(np.sum(np.square([*once.values()])))) / len(once)
    mean = float(np.mean([one.measurement(twin).corrected for twin in twins]))
    return normal_interval(mean, error)


def _is_apart(one: Configuration, distance: Interval) -> bool:
    return distance.low > 0 if one.lower_is_better else distance.high < 0


def _separated_by(study: Study, leader: Configuration) -> str:
    """Another metric that separates these images from real ones."""
    others = [one for metric in study.metrics[1:] for one in study.configurations(metric.key)]
    for one in others:
        distance = distance_to_baseline(study, one)
        if one.keys == leader.keys and distance and _is_apart(one, distance):
            real = say.number(study.baseline(one.metric.key))
            return f". {one.metric.title} can: {say.number(one.mean)} instead of {real}"
    return ""


def _scale(leader: Configuration) -> list[tuple[str, str]]:
    """What degraded copies of as many real images score, and pure noise."""
    degraded = [leader.measurement(cell).degraded for cell in leader.cells]
    return [
        (one.words, say.number(float(np.mean(scores))))
        for name, one in DEGRADATIONS.items()
        if (scores := [each[name] for each in degraded if name in each])
    ]


def _at_both_ends(study: Study) -> list[tuple[Configuration, CellResult, CellResult]]:
    """The cells that were also sampled with their network at 90 % of its training, the earlier
    first."""
    cells = [(one, cell) for one in study.configurations() for cell in one.cells]
    both = [(one, before, cell) for one, cell in cells if (before := study.checkpoint(cell))]
    return [group for group in both if study.metric.key in group[1].measurements]


def _gains(study: Study) -> dict[str, tuple[float, Interval]]:
    """By training, what its last tenth did."""
    known = _at_both_ends(study)
    return {
        trained: _last_tenth(study, [(a, b) for one, a, b in known if one.trained == trained])
        for trained in sorted({one.trained for one, *_ in known})
    }


def _last_tenth(study: Study, both: list[tuple[CellResult, CellResult]]) -> tuple[float, Interval]:
    """What the last tenth of these trainings did: the change of the metric, and the share of its
    distance to real images that it took away. On the models at hand, paired image by image where
    both cells tell how far each moves them."""
    metric, baseline = study.metric, study.baseline()
    before, after = (np.array([cell.measurements[metric.key].corrected for cell in side])
                     for side in zip(*both, strict=True))  # fmt: skip
    errors = []
    for pair in both:
        moves = [move for cell in pair if (move := cell.influence(metric.key)) is not None]
        one_error = total_error(pair[1].measurements[metric.key])
        errors.append(paired_error(*moves) if len(moves) == 2 else 2**0.5 * one_error)
    change, start = float((after - before).mean()), float(before.mean())
    left = start - baseline if np.isfinite(baseline) else start
    left = left if np.isfinite(baseline) or metric.lower_is_better else -left
    error = float(np.sqrt(np.sum(np.square(errors)))) / len(errors)
    return change, normal_interval(-change / left, error / abs(left))
