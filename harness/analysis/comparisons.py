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

from harness.analysis.configurations import Configuration, best, best_of_each, within
from harness.analysis.costs import BUDGETS, budget_of_time
from harness.analysis.old_pairs import difference_of
from harness.analysis.published import PAIRS, PUBLISHED, Published
from harness.analysis.statistics import (
    MODELS_DISAGREE,
    SAMPLING,
    Difference,
    corrected,
    values_needed,
)
from harness.analysis.study import Study

Question = Literal[
    "schedule", "sampler", "steps", "configuration", "mismatched", "eta", "spacing", "published"
]  # fmt: skip


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
