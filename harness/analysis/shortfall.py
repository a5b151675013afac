"""What images lack at few steps, split: what more steps of the same network would mend, and what is
left to the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from harness.analysis.configurations import Configuration
from harness.analysis.questions import Comparison
from harness.analysis.reference import Z, exact_value, interval_of
from harness.analysis.statistics import Interval
from harness.analysis.study import Study


@dataclass(frozen=True, eq=False)
class Shortfall:
    """A configuration at few steps beside the same at the most steps, in the metric that decides:
    how far it is from real images, and how much of that more steps take away."""

    few: Configuration
    many: Configuration
    baseline: float  # of real images
    exact: float  # of the exact denoiser at as few steps; NaN where that was not sampled

    @cached_property
    def seeds(self) -> list[int]:
        """The training seeds that have both numbers of steps."""
        return sorted(self.few.corrected.keys() & self.many.corrected.keys())

    @property
    def total(self) -> float:
        """How far it is from real images, of the seeds that both have."""
        return mean_over(self.few, self.seeds) - self.baseline

    @property
    def exact_lacks(self) -> float:
        """What the exact denoiser lacks at as few steps: discretisation alone."""
        return self.exact - self.baseline

    def of_the_steps(self, seed: int) -> float:
        """How much of the metric more steps remove, of the network of this training seed."""
        return self.few.corrected[seed] - self.many.corrected[seed]

    @cached_property
    def share_of_steps(self) -> Interval:
        """The share of the distance to real images that the same network does not have at the most
        steps; over training seeds, the distance held fixed."""
        values = [self.of_the_steps(seed) / self.total for seed in self.seeds]
        few, many = (error_over(one, self.seeds) for one in (self.few, self.many))
        return interval_of(values, float(np.hypot(few, many)) / abs(self.total))


def shortfalls(study: Study) -> list[Shortfall]:
    """Of every matched configuration of networks that was sampled with more steps too, where the
    metric is a distance and the fewer steps are clearly farther from real images."""
    if not (study.metrics and study.metric.is_distance and study.metric.lower_is_better):
        return []
    known = study.baseline()
    baseline = known if np.isfinite(known) else 0.0
    networks = [one for one in study.configurations() if one.is_matched and not one.is_exact]
    lines: dict[str, list[Configuration]] = {}
    for one in networks:
        lines.setdefault(one.label, []).append(one)
    found = []
    for line in lines.values():
        many = max(line, key=lambda one: one.steps)
        made = [Shortfall(one, many, baseline, exact_value(study, one)) for one in line]
        found += [
            one
            for one in made
            if one.few is not many and one.seeds and one.total > Z * error_over(one.few, one.seeds)
        ]
    return found


def share_of_the_difference(made: Comparison, study: Study) -> Interval | None:
    """The share of a difference between two configurations that more steps of the same networks
    take away, over the training seeds that both have; None where it is not known."""
    by_few = {one.few.keys: one for one in shortfalls(study)}
    first, second = (by_few.get(one.keys) for one in (made.first, made.second))
    if first is None or second is None or first.many.steps != second.many.steps:
        return None
    seeds = [seed for seed in first.seeds if seed in second.seeds]
    if not seeds:
        return None
    apart = mean_over(made.first, seeds) - mean_over(made.second, seeds)
    if apart == 0:
        return None
    values = [(first.of_the_steps(seed) - second.of_the_steps(seed)) / apart for seed in seeds]
    errors = [error_over(one, seeds) for each in (first, second) for one in (each.few, each.many)]
    return interval_of(values, float(np.sqrt(np.sum(np.square(errors)))) / abs(apart))


def mean_over(one: Configuration, seeds: Sequence[int]) -> float:
    """The mean over these training seeds, less the bias."""
    return float(np.mean([one.corrected[seed] for seed in seeds]))


def error_over(one: Configuration, seeds: Sequence[int]) -> float:
    """The sampling error of the mean over these training seeds."""
    return float(np.sqrt(np.sum([one.errors[seed] ** 2 for seed in seeds]))) / len(seeds)
