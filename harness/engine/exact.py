"""The exact denoiser in a network's place: what it lacks is the sampler's own error."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch

from harness.data.images import ImageSet
from harness.diffusion import analytic
from harness.diffusion.objective import Clip, Denoiser
from harness.diffusion.schedules import Schedule
from harness.engine.scale import Scale, beside
from harness.work.cells import Training


@dataclass(frozen=True)
class ExactDenoiser:
    """The best denoiser there is for a set of images: of the distribution they were drawn from,
    where that is known, or of the training images as a finite set. It is sampled as a trained
    network is."""

    training: Training
    images: ImageSet
    device: torch.device
    precision: str = "float32"
    # As of a network, and it is never compiled.
    compiled: ClassVar[None] = None
    compile_seconds: ClassVar[float] = 0.0
    compile_trouble: ClassVar[str] = ""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image: channels, height, width."""
        return self.images.channels, self.images.size, self.images.size

    @cached_property
    def scale(self) -> Scale:
        """The units in which it sees images."""
        return Scale.of(self.training.scale, self.images)

    def denoiser(self, schedule: Schedule, clip: Clip | None = None) -> Denoiser:
        """`denoise(x, t)` under a schedule."""
        if self.images.distribution is None:
            estimate = analytic.finite_denoiser(schedule, self._points)
        else:
            estimate = analytic.mixture_denoiser(schedule, *self._mixture)
        return Denoiser(estimate, clip, self.scale.bounds(self.device))

    @cached_property
    def _points(self) -> torch.Tensor:
        return self.scale.to_signal(torch.from_numpy(self.images.train).to(self.device))

    @cached_property
    def _mixture(self) -> list[torch.Tensor]:
        known = self.images.distribution
        assert known
        means, variances, weights = (
            torch.from_numpy(array).float().to(self.device)
            for array in (known.means, known.variances, known.weights)
        )
        shift, factor = (beside(each, means) for each in (self.scale.shift, self.scale.factor))
        if len(self.scale.factor) > 1:  # else they stay round, and what was sampled before the same
            variances = variances[:, None, None, None].expand_as(means)
        return [(means - shift) * factor, variances * factor**2, weights]
