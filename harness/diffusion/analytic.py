"""Data whose best denoiser is known, so that a sampler's error can be told from a network's.

Each function returns the exact `denoise(x, t)` = E[x_0 | x_t = x] for one distribution of the
data under one schedule. x has any shape, batch first.
"""

from __future__ import annotations

from collections.abc import Callable

from harness.diffusion.levels import rates
from harness.diffusion.samplers import Denoise, draws
from harness.diffusion.schedules import Schedule
from harness.lazy import torch


def gaussian_denoiser(
    schedule: Schedule, mean: float | torch.Tensor, variance: float | torch.Tensor
) -> Denoise:
    """x_0 ~ N(mean, variance) in each direction; mean and variance broadcast to x."""

    def denoise(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        alpha, sigma = rates(schedule, t)
        return mean + alpha * variance * (x - alpha * mean) / (alpha**2 * variance + sigma**2)

    return denoise


def gains(
    sampler: Callable[..., torch.Tensor],
    schedule: Schedule,
    times: torch.Tensor,
    variances: torch.Tensor,
    **options: object,
) -> torch.Tensor:
    """What a sampler's images of N(0, variance) are made of, for each of `variances` [L]: the
    factors of the starting noise and of each fresh noise, [L, 1 + steps times draws a step].

    The best denoiser is linear, and so are the samplers, so feeding one unit at a time reads the
    factors off: the sum of their squares is the variance of the images, with nothing drawn.
    """
    noises = 1 + (len(times) - 1) * draws(sampler, **options)
    units = torch.eye(noises, dtype=variances.dtype, device=variances.device)
    drawn = iter(units[1:])
    start = units[0].expand(len(variances), -1)
    denoise = gaussian_denoiser(schedule, 0.0, variances[:, None])
    return sampler(denoise, schedule, start, times, lambda: next(drawn).expand_as(start), **options)


def mixture_denoiser(
    schedule: Schedule, means: torch.Tensor, variances: torch.Tensor, weights: torch.Tensor
) -> Denoise:
    """x_0 from K Gaussians of independent pixels: means [K, ...] shaped like one x, variances
    likewise or [K] where they are round, and weights [K]."""
    centres = means.reshape(len(means), -1)
    widths = variances if variances.ndim == 1 else variances.reshape(len(means), -1)

    def log_density(offset: torch.Tensor, spread: torch.Tensor) -> torch.Tensor:
        if spread.ndim == 1:
            return -offset.square().sum(2) / (2 * spread) - offset.shape[2] / 2 * spread.log()
        return -((offset.square() / spread).sum(2) + spread.log().sum(1)) / 2

    def denoise(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        alpha, sigma = rates(schedule, t)
        flat = x.reshape(len(x), -1)
        spread = alpha**2 * widths + sigma**2  # [K] or [K, d]
        offset = flat[:, None] - alpha * centres  # [N, K, d]
        share = torch.softmax(weights.log() + log_density(offset, spread), dim=1)
        best = centres + (alpha * widths / spread).view(len(centres), -1) * offset
        return (share[:, :, None] * best).sum(1).view_as(x)

    return denoise


def finite_denoiser(schedule: Schedule, images: torch.Tensor) -> Denoise:
    """x_0 one of `images` [K, ...], each as likely. Every sample ends on one of them."""
    points = images.reshape(len(images), -1)

    def denoise(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        alpha, sigma = rates(schedule, t)
        # Not as |x|^2 - 2 x.y + |y|^2, which in float32 cannot tell near duplicates apart.
        distance = torch.cdist(
            x.reshape(len(x), -1), alpha * points, compute_mode="donot_use_mm_for_euclid_dist"
        ).square()
        share = torch.softmax(-distance / (2 * sigma**2), dim=1)
        return (share @ points).view_as(x)

    return denoise
