"""Comparisons: two configurations, or two groups of cells, and what their difference says.

One place for the report, for `harness compare` and for the verdicts that MLflow keeps: the same
pairs, the same errors, the same rule of what may be put side by side. All comparisons that a
report makes are listed here and corrected together (Holm), so that a report with many comparisons
does not find something by trying often.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations, pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.analysis.configurations import (
    Configuration,
    MetricInfo,
    best,
    best_of_each,
    total_error,
    within,
)
from harness.analysis.costs import BUDGETS, budget_of_time
from harness.analysis.published import PAIRS, PUBLISHED, Published
from harness.analysis.statistics import (
    MODELS_DISAGREE,
    SAMPLING,
    Difference,
    corrected,
    paired_difference,
    paired_error,
    sampling_difference,
    values_needed,
)
from harness.analysis.study import Study
from harness.work.results import CellResult

Question = Literal[
    "schedule", "sampler", "steps", "configuration", "mismatched", "eta", "spacing", "published"
]  # fmt: skip
Pair = tuple[CellResult, CellResult]


@dataclass(frozen=True, eq=False)
class Comparison:
    """`first` against `second`: they differ in one thing, which is the question."""

    question: Question
    first: Configuration
    second: Configuration
    difference: Difference
    would_decide: str = ""

    @property
    def keys(self) -> tuple[str, ...]:
        return self.first.keys + self.second.keys

    @property
    def steps(self) -> int:
        return self.first.steps

    @property
    def winner(self) -> Configuration | None:
        """The better of the two, where there is a verdict."""
        return {"better": self.first, "worse": self.second}.get(self.difference.verdict)


@dataclass(frozen=True)
class PairedDifference:
    """The difference of pairs of cells, and how its error was had."""

    difference: Difference
    means: tuple[float, float]  # of each side, less the bias
    is_paired: bool = False  # image by image
    is_exact: bool = False  # nothing was trained


@lru_cache(maxsize=8)
def comparisons(study: Study) -> tuple[Comparison, ...]:
    """Every comparison the report gives a verdict on, judged together.

    At each number of steps: the best schedule against the next, of those with the most training
    seeds in common, with the sampler that is best there; with each schedule DDIM against DDPM, DDIM
    without fresh noise against the most of it, and the best sampler against the next; the best
    spacing against the next; where networks are also sampled under other schedules than their own,
    their own against the best of those; and samplers of which it is published which is ahead. With
    the best schedule and sampler each number of steps against the one before. Under each budget, of
    evaluations or of seconds, the best configuration against the next.
    """
    everything = list(study.configurations())
    made: list[Comparison] = []
    for steps in sorted({one.steps for one in everything}):
        here = [one for one in everything if one.steps == steps]
        made += _of_schedules(here) + _of_spacings(here)
        for schedule in sorted({one.schedule for one in here}):
            made += _of_samplers([one for one in here if one.schedule == schedule])
        made += _of_mismatched(here)
    for published in PUBLISHED:
        made += [
            compared("published", first, second)
            for first, second, _ in published_pairs(everything, published)
        ]
    made += _of_steps(everything)
    for budget in BUDGETS:
        made += _of_configurations(within(everything, budget))
    if (time_budget := budget_of_time(study)) is not None:
        made += _of_configurations(time_budget.configurations)
    once: dict[tuple[str, ...], Comparison] = {}
    for one in made:  # the best under a budget may be a pair that was asked about before
        once.setdefault(tuple(sorted(one.keys)), one)
    kept = list(once.values())
    judged = corrected([one.difference for one in kept])
    return tuple(
        replace(one, difference=together, would_decide=_would_decide(one, together, len(kept)))
        for one, together in zip(kept, judged, strict=True)
    )


def asked(study: Study, question: Question) -> list[Comparison]:
    """The judged comparisons that were made for one question, by the number of steps."""
    return [one for one in comparisons(study) if one.question == question]


def comparison_of(
    made: Iterable[Comparison], first: Configuration, second: Configuration
) -> Comparison | None:
    """The judged comparison of these two configurations, if the report makes it."""
    keys = {first.keys, second.keys}
    return next((one for one in made if {one.first.keys, one.second.keys} == keys), None)


def compared(question: Question, first: Configuration, second: Configuration) -> Comparison:
    """Two configurations and what may be said of their difference by itself, before correction.
    Their cells are paired by training seed and sampling seed."""
    partner = {(one.cell.training.seed, one.cell.sampling_seed): one for one in second.cells}
    places = [(one.cell.training.seed, one.cell.sampling_seed) for one in first.cells]
    pairs = [
        (one, partner[place])
        for one, place in zip(first.cells, places, strict=True)
        if place in partner
    ]
    return Comparison(question, first, second, difference_of(pairs, first.metric).difference)


def difference_of(pairs: Sequence[Pair], metric: MetricInfo) -> PairedDifference:
    """The difference of the first cells of these pairs from the second ones.

    Where both cells of each pair are of one network, or nothing is trained, only sampling varies,
    and the interval covers the networks at hand; else it is over training seeds.
    """
    is_one_network = all(a.cell.training == b.cell.training for a, b in pairs)
    is_exact = all(one.cell.training.is_exact for pair in pairs for one in pair)
    by_model: dict[object, list[Pair]] = {}
    for a, b in pairs:
        training = a.cell.training
        by_model.setdefault(training if is_one_network else training.seed, []).append((a, b))
    first, second = (
        [
            sum(pair[side].measurements[metric.key].corrected for pair in group) / len(group)
            for group in by_model.values()
        ]
        for side in (0, 1)
    )
    means = (float(np.mean(first)), float(np.mean(second))) if pairs else (np.nan, np.nan)
    lower = metric.lower_is_better
    over_seeds = paired_difference(first, second, lower_is_better=lower)
    if not pairs or not (is_one_network or is_exact):
        return PairedDifference(over_seeds, means, is_exact=is_exact)
    errors = [_error_of(group, metric.key) for group in by_model.values()]
    difference = sampling_difference(
        first, second, errors=[error for error, _ in errors], lower_is_better=lower
    )
    is_paired = all(is_paired for _, is_paired in errors)
    return PairedDifference(
        difference if difference.n else over_seeds, means, is_paired, is_exact
    )  # fmt: skip


def _error_of(group: list[Pair], metric: str) -> tuple[float, bool]:
    """The standard error of the mean difference of pairs of one network, and whether it is paired
    image by image.

    Pairs of one sampling seed start from the same noise, so their influences are added up image by
    image; those of different sampling seeds are independent. Of KID the error is slightly too
    wide, never too narrow: what pairs of images do together is counted twice.
    """
    by_noise: dict[int, list[Pair]] = {}
    for a, b in group:
        by_noise.setdefault(a.cell.sampling_seed, []).append((a, b))
    variance = 0.0
    for same_noise in by_noise.values():
        starts_alike = all(a.cell.sampling_seed == b.cell.sampling_seed for a, b in same_noise)
        sides = [_summed([pair[side].influence(metric) for pair in same_noise]) for side in (0, 1)]
        if (
            not starts_alike
            or sides[0] is None
            or sides[1] is None
            or len(sides[0]) != len(sides[1])
        ):
            apart = [total_error(one.measurements[metric]) ** 2 for pair in group for one in pair]
            return float(np.sqrt(sum(apart))) / len(group), False
        variance += paired_error(sides[0], sides[1]) ** 2
    of_reference = [
        _summed([pair[side].reference_influence(metric) for pair in group]) for side in (0, 1)
    ]
    if of_reference[0] is not None and of_reference[1] is not None:
        # All of them hold the same reference images against theirs.
        variance += paired_error(of_reference[0], of_reference[1]) ** 2
    return float(np.sqrt(variance)) / len(group), True


def _summed(influences: list[NDArray[np.float32] | None]) -> NDArray[np.float64] | None:
    known = [np.asarray(one, np.float64) for one in influences if one is not None]
    if len(known) < len(influences) or len({len(one) for one in known}) != 1:
        return None
    total: NDArray[np.float64] = np.sum(known, axis=0)
    return total


def _of_schedules(here: list[Configuration]) -> list[Comparison]:
    """The best schedule against the next at one number of steps, with the sampler that is best for
    them. Testing the best against the runner-up with a two-sided interval is on the safe side
    however many there are.

    Only a sampler that several schedules share can compare them, and only training seeds that they
    share count: the best is that of the pairs that share the most.
    """
    here = [one for one in here if one.is_matched] or here
    shared = [
        (one, other, len(one.values.keys() & other.values.keys()))
        for one, other in combinations(here, 2)
        if one.sampler == other.sampler and one.schedule != other.schedule
    ]
    if not shared:
        return []
    most = max(seeds for _, _, seeds in shared)
    rivals = [(one, other) for one, other, seeds in shared if seeds == most]
    leader = best(one for pair in rivals for one in pair)
    runner_up = best(
        one if other is leader else other for one, other in rivals if leader in (one, other)
    )
    return [compared("schedule", leader, runner_up)]


def _of_samplers(here: list[Configuration]) -> list[Comparison]:
    """DDIM against DDPM under one schedule at one number of steps, for each setting that has
    both; DDIM without fresh noise against the most of it; and the best sampler against the
    next."""
    pairs: list[tuple[Question, Configuration, Configuration]] = []
    for setting in sorted({one.setting for one in here}):
        alike = [one for one in here if one.setting == setting]
        named = {one.kind: one for one in alike}
        if "ddim" in named and "ddpm" in named:
            pairs.append(("sampler", named["ddim"], named["ddpm"]))
        noisy = [one for one in alike if one.eta]
        if "ddim" in named and noisy:
            pairs.append(("eta", named["ddim"], max(noisy, key=lambda one: one.eta or 0.0)))
    if len(here) > 1:
        ranked = sorted(here, key=lambda one: (one.rank, one.label))
        pairs.append(("sampler", ranked[0], ranked[1]))
    return [compared(*pair) for pair in pairs]


def _of_spacings(here: list[Configuration]) -> list[Comparison]:
    """The best spacing against the next at one number of steps, with the schedule and sampler of
    the best of all that are spaced in several ways."""
    spaced: dict[tuple[str, str], dict[str, list[Configuration]]] = {}
    for one in here:
        spaced.setdefault((one.schedule, one.kind), {}).setdefault(one.spacing, []).append(one)
    several = [
        sorted(map(best, by_spacing.values()), key=lambda one: (one.rank, one.label))
        for by_spacing in spaced.values()
        if len(by_spacing) > 1
    ]
    if not several:
        return []
    ranked = min(several, key=lambda ranked: ranked[0].rank)
    return [compared("spacing", ranked[0], ranked[1])]


def published_pairs(
    everything: Iterable[Configuration], published: Published
) -> list[tuple[Configuration, Configuration, tuple[str, str]]]:
    """The samplers that a published table puts in order, side by side as we have them, with that
    order, the better first: trained networks under the table's schedule, at each number of steps
    that it tells of."""
    alike: dict[tuple[str, int], dict[str, Configuration]] = {}
    for one in everything:
        if one.schedule == published.schedule and one.is_matched and not one.is_exact:
            alike.setdefault((one.setting, one.steps), {})[one.kind] = one
    return [
        (named[first], named[second], order)
        for (_, steps), named in alike.items()
        for first, second in PAIRS
        if first in named and second in named and (order := published.ahead(first, second, steps))
    ]


def _of_mismatched(here: list[Configuration]) -> list[Comparison]:
    """Each network sampled under its own schedule against the best of the others, with the sampler
    that is best under its own."""
    made = []
    for trained in sorted({one.trained for one in here}):
        matched = [one for one in here if one.trained == trained and one.is_matched]
        if not matched:
            continue
        own = best(matched)
        mismatched = [
            one
            for one in here
            if (one.trained, one.sampler) == (trained, own.sampler) and not one.is_matched
        ]
        if mismatched:
            made.append(compared("mismatched", own, best(mismatched)))
    return made


def _of_steps(everything: list[Configuration]) -> list[Comparison]:
    """Each number of steps against the one before, with the best schedule and sampler."""
    if not everything:
        return []
    leader = best(everything)
    line = [one for one in everything if one.label == leader.label]
    return [compared("steps", more, fewer) for fewer, more in pairwise(line)]


def _of_configurations(candidates: Sequence[Configuration]) -> list[Comparison]:
    """The best schedule and sampler together against the next, each at its best steps."""
    ranked = best_of_each(candidates, lambda one: one.label)
    return [compared("configuration", ranked[0], ranked[1])] if len(ranked) > 1 else []


def _would_decide(made: Comparison, together: Difference, size: int) -> str:
    if together.verdict != "inconclusive":
        return ""
    if together.covers == SAMPLING:
        return _images_needed(together)
    first, second = made.first.corrected, made.second.corrected
    differences = [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]
    if len(differences) < 2:
        return "at least two more training seeds" if differences else "the same training seeds"
    needed = values_needed(differences, confidence=1 - 0.05 / size)
    if needed is None:
        return "more than 100 training seeds: the difference is small beside its spread"
    more = max(needed - len(differences), 1)
    return f"about {more:,} more training seed{'' if more == 1 else 's'}"


def _images_needed(difference: Difference) -> str:
    reach = (difference.high - difference.low) / 2
    if difference.reason == MODELS_DISAGREE:
        return "more trained models: these disagree"
    if not reach > 0 or difference.value == 0:
        return "other images: these cannot tell"
    times = (reach / difference.value) ** 2
    if times > 100:
        bound = max(abs(difference.low), abs(difference.high))
        return f"no reasonable number of images: a tie (within {bound:.2g})"
    return f"about {max(2, int(np.ceil(times)))} times as many images per cell"
