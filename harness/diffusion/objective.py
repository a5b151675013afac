"""What the network is asked for: training targets, their weights, and the way back to an image.

The network sees the noisy image and its log SNR, so a model trained under one schedule can be
sampled under another. What it predicts, clipping and the counting of evaluations are settled
here once: samplers only ever see `denoise(x, t)`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from harness.diffusion.schedules import Schedule, rates
from harness.lazy import torch
from harness.registry import Between, Registry

LOG_SNR_LIMIT = 20.0  # the network's input is clamped here; schedules may be infinite at an end
Network = Callable[["torch.Tensor", "torch.Tensor"], "torch.Tensor"]
Rate = Any  # alpha or sigma: a number, or a tensor that broadcasts to the images


@dataclass(frozen=True)
class Target:
    """What the network predicts of x_t = alpha x_0 + sigma eps."""

    description: str
    value: Callable[[torch.Tensor, torch.Tensor, Rate, Rate], torch.Tensor]
    """(x_0, eps, alpha, sigma) -> what the network should say"""
    image: Callable[[torch.Tensor, torch.Tensor, Rate, Rate], torch.Tensor]
    """(x, prediction, alpha, sigma) -> the x_0 that the prediction means"""
    error_ratio: Callable[[torch.Tensor], torch.Tensor]
    """SNR -> squared error of the target over squared error of x_0"""


TARGETS = Registry(
    "target",
    {
        "noise": Target(
            "the noise eps (Ho et al. 2020)",
            value=lambda x_0, eps, alpha, sigma: eps,
            image=lambda x, eps, alpha, sigma: (x - sigma * eps) / alpha,
            error_ratio=lambda snr: snr,
        ),
        "image": Target(
            "the clean image x_0",
            value=lambda x_0, eps, alpha, sigma: x_0,
            image=lambda x, x_0, alpha, sigma: x_0,
            error_ratio=lambda snr: snr**0,
        ),
        "velocity": Target(
            "v = alpha eps - sigma x_0 (Salimans & Ho 2022)",
            value=lambda x_0, eps, alpha, sigma: alpha * eps - sigma * x_0,
            image=lambda x, v, alpha, sigma: alpha * x - sigma * v,
            error_ratio=lambda snr: snr + 1,
        ),
    },
)


def simple(log_snr: torch.Tensor) -> torch.Tensor:
    """Weight 1 on the squared error of the noise (Ho et al. 2020, eq. 14)."""
    return log_snr.exp()


def min_snr(
    log_snr: torch.Tensor, *, gamma: Annotated[float, Between(0.01, 1000)] = 5.0
) -> torch.Tensor:
    """min(SNR, gamma) on the squared error of the image (Hang et al. 2023)."""
    return log_snr.exp().clamp(max=gamma)


def truncated_snr(log_snr: torch.Tensor) -> torch.Tensor:
    """max(SNR, 1) on the squared error of the image (Salimans & Ho 2022)."""
    return log_snr.exp().clamp(min=1)


def sigmoid(
    log_snr: torch.Tensor, *, bias: Annotated[float, Between(-20, 20)] = 0.0
) -> torch.Tensor:
    """sigmoid(bias - log SNR) on the squared error of the noise (Kingma & Gao 2023)."""
    return log_snr.exp() * torch.sigmoid(bias - log_snr)


# A weighting is a function of log SNR that weighs the squared error of the image x_0; what it
# means for another target follows from Target.error_ratio.
WEIGHTINGS = Registry(
    "weighting",
    {"simple": simple, "min_snr": min_snr, "truncated_snr": truncated_snr, "sigmoid": sigmoid},
    given=frozenset({"log_snr"}),
)


def training_times(schedule: Schedule, u: torch.Tensor) -> torch.Tensor:
    """Training times from u uniform in [0, 1): {1..T}/T for a table, (0, 1] otherwise (Ho et al.
    2020, Algorithm 1, line 3)."""
    if schedule.table_steps is None:
        return 1 - u
    return ((u * schedule.table_steps).floor() + 1) / schedule.table_steps


def training_losses(
    network: Network,
    schedule: Schedule,
    target: Target,
    weighting: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    t: torch.Tensor,
    eps: torch.Tensor,
) -> torch.Tensor:
    """The weighted mean squared error of each image (Ho et al. 2020, Algorithm 1, line 5).

    images, eps: [N, C, H, W] in [-1, 1] and standard normal; t: [N] float64 on the CPU, where
    the schedule is evaluated. Returns [N] in the dtype of the images.
    """
    log_snr = schedule.log_snr(t).clamp(-LOG_SNR_LIMIT, LOG_SNR_LIMIT)
    weight = weighting(log_snr) / target.error_ratio(log_snr.exp())

    def beside_images(value: torch.Tensor) -> torch.Tensor:
        return value.to(images.dtype).to(images.device)

    alpha, sigma = (
        beside_images(rate).view(-1, *[1] * (images.ndim - 1))
        for rate in (schedule.alpha(t), schedule.sigma(t))
    )
    prediction = network(alpha * images + sigma * eps, beside_images(log_snr))
    error = prediction - target.value(images, eps, alpha, sigma)
    return beside_images(weight) * error.square().flatten(1).mean(1)


@dataclass
class Denoiser:
    """The one adapter between a network and the samplers: `denoise(x, t)` -> estimate of x_0.

    `trained` are the log SNRs at the ends of the schedule that the network was trained under; it
    is never asked about others. `clip` keeps the estimate in the data's range [-1, 1].
    """

    network: Network
    schedule: Schedule
    target: Target
    trained: tuple[float, float] = (-LOG_SNR_LIMIT, LOG_SNR_LIMIT)
    clip: bool = False
    evaluations: int = 0

    def __call__(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        self.evaluations += 1
        low, high = self.trained
        log_snr = self.schedule.log_snr(t.double()).clamp(low, high)
        prediction = self.network(x, log_snr.to(x.dtype).to(x.device).expand(len(x)))
        x_0 = self.target.image(x, prediction, *rates(self.schedule, t))
        return x_0.clamp(-1, 1) if self.clip else x_0
