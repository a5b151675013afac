"""The comparisons between ways of making images that a report is about.

A `Contrast` is two points and what may be said of their difference. All contrasts of a report are
one family: they are listed here, in one place, and corrected together (Holm), so that a report
with many comparisons does not find something by trying often.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from typing import Literal

import numpy as np
import pandas as pd

from harness.metrics.statistics import (
    MODELS_DISAGREE,
    SAMPLING,
    Comparison,
    corrected,
    paired_difference,
    paired_error,
    sampling_difference,
    values_needed,
)
from harness.report.points import (
    BUDGETS,
    Point,
    best,
    best_of_each,
    budget_of_time,
    of_a_frame,
    points,
    within,
)
from harness.report.published import PAIRS, PUBLISHED, Published
from harness.report.words import count

Question = Literal[
    "schedule", "sampler", "steps", "way", "elsewhere", "eta", "spacing", "published"
]  # fmt: skip


@dataclass(frozen=True)
class Contrast:
    """`first` against `second`: they differ in one thing, which is the question."""

    question: Question
    first: Point
    second: Point
    comparison: Comparison
    would_decide: str = ""

    @property
    def keys(self) -> tuple[str, ...]:
        return self.first.keys + self.second.keys

    @property
    def winner(self) -> Point | None:
        """The better of the two, where there is a verdict."""
        return {"better": self.first, "worse": self.second}.get(self.comparison.verdict)


@of_a_frame
def family(frame: pd.DataFrame) -> list[Contrast]:
    """Every comparison the report gives a verdict on, judged together.

    At each number of steps: the best schedule against the next, of those with the most training
    seeds in common, with the sampler that is best there; with each schedule DDIM against DDPM, DDIM
    without fresh noise against the most of it, and the best sampler against the next; the best
    spacing against the next; where networks are also sampled under other schedules than their own,
    their own against the best of those; and samplers of which it is published which is ahead. With
    the best schedule and sampler each number of steps against the one before. Under each budget, of
    evaluations or of seconds, the best way against the next.
    """
    everything = points(frame)
    contrasts = []
    for steps in sorted({point.steps for point in everything}):
        here = [point for point in everything if point.steps == steps]
        contrasts += _schedules(here) + _spacings(here)
        for schedule in sorted({point.schedule for point in here}):
            contrasts += _samplers([point for point in here if point.schedule == schedule])
        contrasts += _elsewhere(here)
    for published in PUBLISHED:
        contrasts += [
            contrast_between("published", first, second)
            for first, second, _ in published_pairs(everything, published)
        ]
    contrasts += _steps(everything)
    for budget in BUDGETS:
        contrasts += _ways(within(everything, budget))
    if (time_budget := budget_of_time(frame)) is not None:
        contrasts += _ways(time_budget.points)
    once: dict[tuple[str, ...], Contrast] = {}
    for contrast in contrasts:  # the best under a budget may be a pair that was asked about before
        once.setdefault(tuple(sorted(contrast.keys)), contrast)
    kept = list(once.values())
    judged = corrected([contrast.comparison for contrast in kept])
    return [
        replace(
            contrast,
            comparison=comparison,
            would_decide=_what_would_decide(contrast, comparison, len(kept)),
        )
        for contrast, comparison in zip(kept, judged, strict=True)
    ]


def contrast_of(contrasts: Iterable[Contrast], first: Point, second: Point) -> Contrast | None:
    """The judged comparison of these two points, if the report makes it."""
    return next(
        (c for c in contrasts if {c.first.keys, c.second.keys} == {first.keys, second.keys}), None
    )


def contrast_between(question: Question, first: Point, second: Point) -> Contrast:
    """Two points and what may be said of their difference, alone and not in a family."""
    seeds = sorted(first.values.keys() & second.values.keys())
    a, b = [first.centres[seed] for seed in seeds], [second.centres[seed] for seed in seeds]
    lower = first.lower_is_better
    over_seeds = paired_difference(a, b, lower_is_better=lower)
    # Another schedule is another model, unless no model is trained. Another sampler, or more steps,
    # is the same model used differently, so what luck there is lies in the sampling.
    if first.trained != second.trained and not (first.is_exact and second.is_exact):
        return Contrast(question, first, second, over_seeds)
    on_these = sampling_difference(
        a, b,
        [first.errors[seed] for seed in seeds], [second.errors[seed] for seed in seeds],
        errors=[_error_of_difference(first, second, seed) for seed in seeds],
        lower_is_better=lower,
    )  # fmt: skip
    return Contrast(question, first, second, on_these if on_these.n else over_seeds)


def _schedules(here: list[Point]) -> list[Contrast]:
    """The best schedule against the next at one number of steps, with the sampler that is best for
    them. Testing the best against the runner-up with a two-sided interval is on the safe side
    however many there are.

    Only a sampler that several schedules share can compare them, and only training seeds that they
    share count: the best is that of the pairs that share the most.
    """
    here = [point for point in here if point.is_home] or here
    shared = [
        (one, other, len(one.values.keys() & other.values.keys()))
        for one, other in combinations(here, 2)
        if one.sampler == other.sampler and one.schedule != other.schedule
    ]
    if not shared:
        return []
    most = max(seeds for _, _, seeds in shared)
    rivals = [(one, other) for one, other, seeds in shared if seeds == most]
    leader = best(point for pair in rivals for point in pair)
    runner_up = best(
        one if other is leader else other for one, other in rivals if leader in (one, other)
    )
    return [contrast_between("schedule", leader, runner_up)]


def _samplers(here: list[Point]) -> list[Contrast]:
    """DDIM against DDPM under one schedule at one number of steps, for each setting that has
    both; DDIM without fresh noise against the most of it; and the best sampler against the
    next."""
    pairs: list[tuple[Question, Point, Point]] = []
    for setting in sorted({point.setting for point in here}):
        alike = [point for point in here if point.setting == setting]
        named = {point.kind: point for point in alike}
        if "ddim" in named and "ddpm" in named:
            pairs.append(("sampler", named["ddim"], named["ddpm"]))
        noisy = [point for point in alike if point.kind.startswith("ddim") and point.eta > 0]
        if "ddim" in named and noisy:
            pairs.append(("eta", named["ddim"], max(noisy, key=lambda point: point.eta)))
    if len(here) > 1:
        ranked = sorted(here, key=lambda point: (point.rank, point.label))
        # `family` keeps a pair that stands here twice once.
        pairs.append(("sampler", ranked[0], ranked[1]))
    return [contrast_between(*pair) for pair in pairs]


def _spacings(here: list[Point]) -> list[Contrast]:
    """The best spacing against the next at one number of steps, with the schedule and sampler of
    the best of all that are spaced in several ways."""
    ways: dict[tuple[str, str], dict[str, list[Point]]] = {}
    for point in here:
        by_spacing = ways.setdefault((point.schedule, point.kind), {})
        by_spacing.setdefault(point.spacing, []).append(point)
    several = [
        sorted(map(best, by_spacing.values()), key=lambda point: (point.rank, point.label))
        for by_spacing in ways.values()
        if len(by_spacing) > 1
    ]
    if not several:
        return []
    ranked = min(several, key=lambda ranked: ranked[0].rank)
    return [contrast_between("spacing", ranked[0], ranked[1])]


def published_pairs(
    everything: list[Point], published: Published
) -> list[tuple[Point, Point, tuple[str, str]]]:
    """The samplers that a published table puts in order, side by side as we have them, with that
    order, the better first: trained networks under the table's schedule, at each number of steps
    that it tells of."""
    alike: dict[tuple[str, int], dict[str, Point]] = {}
    for point in everything:
        if point.schedule == published.schedule and point.is_home and not point.is_exact:
            alike.setdefault((point.setting, point.steps), {})[point.kind] = point
    return [
        (named[first], named[second], order)
        for (_, steps), named in alike.items()
        for first, second in PAIRS
        if first in named and second in named and (order := published.ahead(first, second, steps))
    ]


def _elsewhere(here: list[Point]) -> list[Contrast]:
    """Each network sampled under its own schedule against the best of the others, with the sampler
    that is best at home."""
    contrasts = []
    for trained in sorted({point.trained for point in here}):
        own = [point for point in here if point.trained == trained and point.is_home]
        if not own:
            continue
        home = best(own)
        away = [
            point
            for point in here
            if (point.trained, point.sampler) == (trained, home.sampler) and not point.is_home
        ]
        if away:
            contrasts.append(contrast_between("elsewhere", home, best(away)))
    return contrasts


def _steps(everything: list[Point]) -> list[Contrast]:
    """Each number of steps against the one before, with the best schedule and sampler."""
    if not everything:
        return []
    leader = best(everything)
    line = [point for point in everything if point.label == leader.label]
    return [contrast_between("steps", more, fewer) for fewer, more in pairwise(line)]


def _ways(candidates: list[Point]) -> list[Contrast]:
    """The best way (schedule and sampler together) against the next, each at its best steps."""
    ranked = best_of_each(candidates, lambda point: point.label)
    return [contrast_between("way", ranked[0], ranked[1])] if len(ranked) > 1 else []


def _error_of_difference(first: Point, second: Point, seed: int) -> float:
    """Of two ways of sampling one model, paired image by image where both tell how far each image
    moves their value; else with their errors taken as independent."""
    one, other = first.influences[seed], second.influences[seed]
    pairs = [(one[noise], other[noise]) for noise in one.keys() & other.keys()]
    is_paired = one.keys() == other.keys() and all(
        a is not None and b is not None and len(a) == len(b) for a, b in pairs
    )
    if not is_paired:
        return float(np.hypot(first.errors[seed], second.errors[seed]))
    # A metric whose own error is corrected for the interaction of its images is a little narrower
    # than this says, and never wider.
    variance = sum(paired_error(a, b) ** 2 for a, b in pairs) / len(pairs) ** 2
    sides = [point.reference_influences[seed].values() for point in (first, second)]
    if all(one is not None for side in sides for one in side):
        # All of them hold the same reference images against theirs.
        variance += paired_error(*(np.mean(list(side), axis=0) for side in sides)) ** 2
    return float(np.sqrt(variance))


def _what_would_decide(contrast: Contrast, comparison: Comparison, size: int) -> str:
    if comparison.verdict != "inconclusive":
        return ""
    if comparison.covers == SAMPLING:
        return _images_needed(comparison)
    first, second = contrast.first.centres, contrast.second.centres
    differences = [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]
    if len(differences) < 2:
        return "at least two more training seeds" if differences else "the same training seeds"
    needed = values_needed(differences, confidence=1 - 0.05 / size)
    if needed is None:
        return "more than 100 training seeds: the difference is small beside its spread"
    return f"about {count(max(needed - len(differences), 1), 'more training seed')}"


def _images_needed(comparison: Comparison) -> str:
    reach = (comparison.high - comparison.low) / 2
    if comparison.reason == MODELS_DISAGREE:
        return "more trained models: these disagree"
    if not reach > 0 or comparison.difference == 0:
        return "other images: these cannot tell"
    times = (reach / comparison.difference) ** 2
    if times > 100:
        return "no reasonable number of images: the difference is tiny beside its error"
    return f"about {max(2, int(np.ceil(times)))} times as many images per cell"
