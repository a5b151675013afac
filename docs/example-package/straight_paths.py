"""What another author adds: a schedule, a sampler for it, a metric, a finding and a figure."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from matplotlib.figure import Figure

from harness.diffusion.samplers import sampler, walk
from harness.diffusion.schedules import Schedule
from harness.metrics.arrays import checked
from harness.metrics.distances import Metric
from harness.registry import Between
from harness.report.findings.finding import finding


@dataclass(frozen=True)
class Straight(Schedule):
    """alpha : sigma = 1 - u : u, as on the straight paths of Liu et al. 2022."""

    margin: Annotated[float, Between(1e-5, 0.1)] = 1e-3  # how far u stays from 0 and 1
    formula = "log SNR = 2 log((1 - u) / u), u = margin + (1 - 2 margin) t"
    abar_at_1 = 1.0020e-6  # 0.001^2 / (0.001^2 + 0.999^2)

    def log_snr(self, t):
        u = self.margin + (1 - 2 * self.margin) * t.double()
        return (2 * torch.log((1 - u) / u)).to(t.dtype)


@sampler(order=1, like="ddim", formula="Euler's method in u on (1 - u) x_0 + u eps")
def straight_euler(denoise, schedule, x, times, draw_noise):
    """Euler's method along the straight path from noise to image.

    It computes the images of ddim in other letters: each step is exact where x_0 and eps stay, and
    so is DDIM's. Compared with ddim, a cell would be compared with itself.
    """

    def step(x, x_0, t, s):
        u, v = (level.sigma / (level.alpha + level.sigma) for level in (t, s))
        z = x / (t.alpha + t.sigma)
        return (z + (v - u) * (z - x_0) / u) * (s.alpha + s.sigma)

    return walk(denoise, schedule, x, times, step)


def mean_shift(features, reference):
    features, reference = checked(features, reference)
    return float(np.linalg.norm(features.mean(axis=0) - reference.mean(axis=0)))


MEAN_SHIFT = Metric(
    name="Mean shift",
    lower_is_better=True,
    description="Distance between the means of the features",
    function=mean_shift,
)


def least_shift(study):
    """The configuration whose images are nearest in the mean."""
    found = study.configurations("mean_shift")
    if not found:
        return None
    best = min(found, key=lambda one: np.mean([*one.values.values()]))
    words = f"{best.label} shifts the mean least, in {best.steps} steps"
    return finding("Which configuration shifts the mean least?", words, best.keys)


def shift_by_steps(study):
    """The mean shift by the number of steps.

    Lower is better.
    """
    found = study.configurations("mean_shift")
    if not found:  # the grid does not ask for the metric: no figure
        return None
    figure = Figure()
    axes = figure.subplots()
    for one in found:
        axes.plot(one.steps, np.mean([*one.values.values()]), "o", label=one.label)
    return figure
