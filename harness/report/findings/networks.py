"""What the networks add: their error, their training, and what they remember."""

from __future__ import annotations

import numpy as np

from harness.analysis.configurations import Configuration, best, total_error
from harness.analysis.reference import beside, distance_to_baseline, gap, normal_interval
from harness.analysis.statistics import Interval, paired_error
from harness.analysis.study import Study
from harness.data.degraded import DEGRADATIONS
from harness.report import wording as say
from harness.report.findings.finding import Finding, finding
from harness.work.results import PURE_NOISE, CellResult

CONVERGED = 0.05  # of the distance to real images: a training that gains less has settled
BY_CHANCE = 0.05  # of new images lie nearer to a training image than 95 % of held-out ones do
MORE_IMAGES = "more images per cell"


def sampler_against_network(study: Study) -> Finding | None:
    """How much of the error is the sampler's own, and how much the network's?

    The exact denoiser makes no error, so what it scores under a sampler is that sampler's own.
    """
    both = [one for one in study.configurations() if all(map(study.exact_twin, one.cells))]
    if not both:
        return None
    leader = best(both).label
    line = [one for one in both if one.label == leader]
    ends = list(dict.fromkeys((line[0], line[-1])))
    own, trained, adds, keys, is_clear = [], [], [], [], True
    for one in ends:
        twins = [twin for cell in one.cells if (twin := study.exact_twin(cell))]
        keys += [*one.keys, *(twin.cell.key for twin in twins)]
        exact = _exact(one, twins)
        # With errors taken as independent: on the safe side, since both start from the same noise.
        added = gap(normal_interval(one.mean, one.error), exact)
        is_small = added.low <= 0 <= added.high
        is_clear &= not is_small
        own.append(f"{say.number(exact.estimate)} {say.at_steps([one.steps], one.unit)}")
        trained.append(say.number(one.mean))
        adds.append(f"{say.spanned(added)}{' (within sampling error)' if is_small else ''}")
    words = (
        f"With {line[0].schedule} and {say.sampler_of(line[0])}, the exact denoiser has "
        f"{study.named(study.metric)} {say.listed(own)}, which is the sampler's own error; the "
        f"trained network has {say.listed(trained)}, so the network adds {say.listed(adds)}"
    )
    return finding(
        "How much of the error is the sampler's, and how much the network's?", words, keys, added,
        n=ends[-1].seeds, needs="" if is_clear else MORE_IMAGES,
    )  # fmt: skip


def distance_to_real_images(study: Study) -> Finding | None:
    """Can the best images be told from real ones?"""
    if not study.configurations():
        return None
    leader = best(study.configurations())
    distance = distance_to_baseline(study, leader)
    if distance is None:
        return None
    metric, is_apart = study.named(study.metric), _is_apart(leader, distance)
    numbers = f"{say.number(leader.mean)} against {say.number(study.baseline(), 2)}"
    if np.isfinite(distance.low):
        words = (
            f"{metric} {'separates' if is_apart else 'cannot separate'} the best images, "
            f"{say.described(leader)}, from real held-out images at {study.quantity.images:,} "
            f"images: {numbers}, a distance of {say.spanned(distance)}{_scale(leader)}"
        )
        words += "" if is_apart else _separated_by(study, leader)
    else:
        words = f"The best images, {say.described(leader)}, reach {metric} {numbers} for real "
        words += "held-out images, with no error to evaluate the distance by"
    return finding(
        "Can the best images be told from real ones?", words, leader.keys, distance,
        verdict="worse", n=leader.seeds,
        needs="" if is_apart else "more images, generated and held out",
    )  # fmt: skip


def training_long_enough(study: Study) -> Finding | None:
    """Was the training long enough?

    The same cell, sampled from the same noise with the network as it was at 90 % of its training:
    networks that still improve may change places with longer training.
    """
    cells = [(one, cell) for one in study.configurations() for cell in one.cells]
    both = [(one, before, cell) for one, cell in cells if (before := study.checkpoint(cell))]
    known = [group for group in both if study.metric.key in group[1].measurements]
    if not known:
        return None
    parts, shares = [], {}
    for trained in sorted({one.trained for one, *_ in known}):
        of_these = [(before, cell) for one, before, cell in known if one.trained == trained]
        change, shares[trained] = _last_tenth(study, of_these)
        parts.append(f"by {say.number(change)} ({_gained(study, shares[trained])}) under {trained}")
    sampled = say.listed(dict.fromkeys(say.sampler_at(one) for one, *_ in known))
    words = f"The last tenth of the training changed {study.named(study.metric)} ({sampled}) "
    words += say.listed(parts)
    improving = [name for name, gain in shares.items() if gain.low > 0 < gain.estimate - CONVERGED]
    uncertain = [name for name, gain in shares.items() if not gain.high <= CONVERGED]
    unclear = [name for name in uncertain if name not in improving]
    if improving:
        words += f": {say.listed(improving)} {'was' if len(improving) == 1 else 'were'} still "
        words += "improving, so longer training would help and may change which schedule is better"
    elif unclear:
        words += f": whether {say.listed(unclear)} had converged is not clear"
    else:
        words += f": none was still improving by more than {say.percent(CONVERGED)}"
    final = [cell.cell for *_, cell in known]
    return finding(
        "Was the training long enough?", words, (cell.key for cell in final),
        max(shares.values(), key=lambda share: share.estimate),
        n=len({cell.training.seed for cell in final}),
        needs=MORE_IMAGES if unclear and not improving else "",
    )  # fmt: skip


def memorisation(study: Study) -> Finding | None:
    """Are images copies of training images?

    The share of images that lie nearer to a training image than 95 % of held-out ones do.
    """
    every = {one: beside(one.cells, "memorisation") for one in study.configurations()}
    shares = {one: share for one, share in every.items() if share}
    if not shares:
        return None
    leader, most = best(shares), max(shares, key=lambda one: shares[one].estimate)
    share, most_share = shares[leader], shares[most].estimate
    words = f"Of the best images, {say.described(leader)}, {say.percent(share.estimate)} lie "
    words += "nearer to a training image than all but 5 % of real held-out images do"
    is_more, is_chance = share.low > BY_CHANCE, share.high <= 2 * BY_CHANCE
    if is_more:
        words += ", which is more than chance: the network repeats training images"
    elif is_chance:
        words += ", no more than new images would: no sign of copies"
    else:
        low = say.number(100 * max(share.low, 0), 2)
        words += f" (sampling error allows {low} to {say.percent(share.high)})"
    if most is not leader and most_share > share.estimate:
        words += f"; the highest share is {say.percent(most_share)}, {say.described(most)}"
    return finding(
        "Are the images copies of training images?", words, leader.keys, share,
        verdict="worse" if is_more else "measured", n=leader.seeds,
        needs="" if is_more or is_chance else MORE_IMAGES,
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
    question = "Do faithful images cost variety?"
    faithful = max(there, key=lambda one: (known[one][0].estimate, one.label))
    varied = max(there, key=lambda one: (known[one][1].estimate, one.label))
    names = [f"{one.schedule} with {say.sampler_of(one)}" for one in (faithful, varied)]
    (precision, recall), (other_precision, other_recall) = known[faithful], known[varied]
    start = f"Of all configurations {say.at_steps([steps], faithful.unit)}, {names[0]}"
    if faithful is varied:
        words = f"{start} has both the highest precision ({say.spanned(precision)}) and the "
        words += f"highest recall ({say.spanned(recall)}): fidelity costs no variety here"
        return finding(question, words, faithful.keys, n=faithful.seeds)
    apart = gap(precision, other_precision)
    is_clear = apart.low > 0 and gap(other_recall, recall).low > 0
    words = f"{start} is the most faithful (precision {say.spanned(precision)}, recall "
    words += f"{say.spanned(recall)}) and {names[1]} the most varied "
    words += f"({say.spanned(other_precision)} and {say.spanned(other_recall)})"
    words += ": fidelity costs variety" if is_clear else ", but not both gaps are significant"
    return finding(
        question, words, faithful.keys + varied.keys, apart, n=faithful.seeds,
        needs="" if is_clear else MORE_IMAGES,
    )  # fmt: skip


def _exact(one: Configuration, twins: list[CellResult]) -> Interval:
    once = {twin.cell.key: total_error(one.measurement(twin)) for twin in twins}
    error = float(np.sqrt(np.sum(np.square([*once.values()])))) / len(once)
    mean = float(np.mean([one.measurement(twin).corrected for twin in twins]))
    return normal_interval(mean, error)


def _is_apart(one: Configuration, distance: Interval) -> bool:
    return distance.low > 0 if one.lower_is_better else distance.high < 0


def _separated_by(study: Study, leader: Configuration) -> str:
    """Which other metrics separate these images from real ones."""
    names, numbers = [], []
    others = [one for metric in study.metrics[1:] for one in study.configurations(metric.key)]
    for one in others:
        distance = distance_to_baseline(study, one)
        if one.keys == leader.keys and distance and _is_apart(one, distance):
            real = say.number(study.baseline(one.metric.key))
            names.append(study.named(one.metric))
            numbers.append(f"{say.number(one.mean)} against {real}")
    return f"; {say.listed(names)} can ({', '.join(numbers)})" if names else ""


def _scale(leader: Configuration) -> str:
    """What degraded copies of as many real images score, and pure noise."""
    degraded = [leader.measurement(cell).degraded for cell in leader.cells]
    known = {
        name: say.number(float(np.mean(scores)))
        for name in DEGRADATIONS
        if (scores := [each[name] for each in degraded if name in each])
    }
    noise = f"; pure noise scores {known.pop(PURE_NOISE)}" if PURE_NOISE in known else ""
    copies = say.listed(f"{score} {DEGRADATIONS[name].words}" for name, score in known.items())
    return f" (for scale: real images score {copies}{noise})" if copies else ""


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


def _gained(study: Study, share: Interval) -> str:
    """How much better or worse, as a share of the distance to real images, without a sign to
    misread."""
    of = "its distance to the real-data baseline" if np.isfinite(study.baseline()) else "it"
    if share.low > 0:
        return f"an improvement by {say.spanned(share, 100)} % of {of}"
    mean, low, high = (f"{say.percent(abs(end))} {'better' if end > 0 else 'worse'}"
                       for end in (share.estimate, share.low, share.high))  # fmt: skip
    clear = "worse" if share.high < 0 else "no clear change"
    return f"{clear}: {mean}, between {low} and {high}, of {of}"
