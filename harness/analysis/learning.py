"""Whether the networks learned anything: only then is a ranking of their images about anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from harness.analysis.configurations import best_of_each
from harness.analysis.study import Study
from harness.work.results import PURE_NOISE

HALF_WAY = 0.5  # from real images to pure noise: beyond it a training has not learned


@dataclass(frozen=True)
class Learning:
    """What each training reaches at best, between real images and pure noise, by a distance."""

    reached: Mapping[str, float]  # by the label of the training, the best first
    noise: float
    baseline: float

    @property
    def best(self) -> float:
        """The best mean that any training reached."""
        return min(self.reached.values())

    @property
    def not_learned(self) -> tuple[str, ...]:
        """The trainings whose best images are nearer to pure noise than to real images."""
        limit = self.baseline + HALF_WAY * (self.noise - self.baseline)
        return tuple(name for name, value in self.reached.items() if not value < limit)

    @property
    def has_learned(self) -> bool:
        """Whether all trainings have."""
        return not self.not_learned

    @property
    def any_has_learned(self) -> bool:
        """Whether some training came nearer to real images than to pure noise."""
        return len(self.not_learned) < len(self.reached)


def learned(study: Study) -> Learning | None:
    """What the trainings of a study reached; None where no network is in it, the metric that
    decides is no distance, or it was not measured of real images and of pure noise."""
    everything = [one for one in study.configurations() if one.is_trained]
    if not (everything and study.metric.is_distance and study.metric.lower_is_better):
        return None
    found = [
        score
        for one in everything
        for cell in one.cells
        if (score := one.measurement(cell).degraded.get(PURE_NOISE)) is not None
    ]
    noise, baseline = float(np.mean(found)) if found else np.nan, study.baseline()
    if not noise > baseline:
        return None
    reached = {one.trained: one.mean for one in best_of_each(everything, lambda one: one.trained)}
    return Learning(reached, noise, baseline)
