"""Samplers: from pure noise to images.

Every sampler is one function with the same signature:

    sampler(denoise, schedule, x, times, draw_noise, **options) -> x_0

denoise(x, t)  estimates the clean image x_0; one call is one network evaluation
x              noise at times[0], any shape, batch first; its dtype is kept
times          falling; where they end at 0 the last step returns the estimate of x_0, otherwise
               x at the last time is returned
draw_noise()   fresh standard normal noise shaped like x, called at most once per step

A step goes from t to the earlier time s. What the network predicts, clipping, devices, progress
and random state are settled outside. To add a sampler, write the function and name it in
SAMPLERS.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Annotated

from harness.diffusion.schedules import Schedule, rates
from harness.lazy import torch
from harness.registry import Between, Registry

Denoise = Callable[["torch.Tensor", "torch.Tensor"], "torch.Tensor"]
DrawNoise = Callable[[], "torch.Tensor"]


def ddim(
    denoise: Denoise,
    schedule: Schedule,
    x: torch.Tensor,
    times: torch.Tensor,
    draw_noise: DrawNoise,
    *,
    eta: Annotated[float, Between(0, 1)] = 0.0,
) -> torch.Tensor:
    """DDIM (Song et al. 2021, eq. 12 and 16): eta = 0 is deterministic, eta = 1 is DDPM."""
    for t, s in pairwise(times):
        x_0 = denoise(x, t)
        if s == 0:
            return x_0
        (alpha_t, sigma_t), (alpha_s, sigma_s) = rates(schedule, t), rates(schedule, s)
        noise = (x - alpha_t * x_0) / sigma_t
        fresh = eta * sigma_s / sigma_t * math.sqrt(jump_variance(schedule, t, s))
        x = alpha_s * x_0 + math.sqrt(sigma_s**2 - fresh**2) * noise
        if eta:
            x = x + fresh * draw_noise()
    return x


def ddpm(
    denoise: Denoise,
    schedule: Schedule,
    x: torch.Tensor,
    times: torch.Tensor,
    draw_noise: DrawNoise,
) -> torch.Tensor:
    """DDPM (Ho et al. 2020, Algorithm 2) with the posterior's variance, on any subset of times."""
    for t, s in pairwise(times):
        x_0 = denoise(x, t)
        if s == 0:
            return x_0
        mean, spread, _ = posterior(schedule, x, x_0, t, s)
        x = mean + spread * draw_noise()
    return x


def ddpm_large(
    denoise: Denoise,
    schedule: Schedule,
    x: torch.Tensor,
    times: torch.Tensor,
    draw_noise: DrawNoise,
    *,
    last_noise: bool = False,
) -> torch.Tensor:
    """DDPM with the forward step's variance (`fixed_large`; sigma-hat in Song et al. 2021).

    With `last_noise` the step to time 0 adds its noise too, as some implementations do.
    """
    for t, s in pairwise(times):
        x_0 = denoise(x, t)
        if s == 0:
            return x_0 + rates(schedule, t)[1] * draw_noise() if last_noise else x_0
        mean, _, spread = posterior(schedule, x, x_0, t, s)
        x = mean + spread * draw_noise()
    return x


def posterior(
    schedule: Schedule, x: torch.Tensor, x_0: torch.Tensor, t: torch.Tensor, s: torch.Tensor
) -> tuple[torch.Tensor, float, float]:
    """The mean and the standard deviation of q(x_s | x_t, x_0), and beside it that of the forward
    step (Ho et al. 2020, eq. 7 and 2, with beta for the jump from s to t)."""
    (alpha_t, sigma_t), (alpha_s, sigma_s) = rates(schedule, t), rates(schedule, s)
    beta = jump_variance(schedule, t, s)
    kept = alpha_t / alpha_s * (sigma_s / sigma_t) ** 2
    mean = (alpha_s * beta / sigma_t**2) * x_0 + kept * x
    return mean, sigma_s / sigma_t * math.sqrt(beta), math.sqrt(beta)


def jump_variance(schedule: Schedule, t: torch.Tensor, s: torch.Tensor) -> float:
    """1 - abar_t / abar_s: beta of one jump from s to t, without the loss of digits that
    subtracting two numbers close to 1 would bring."""
    log_abar = torch.nn.functional.logsigmoid(schedule.log_snr(torch.stack([t, s]).double()))
    return -math.expm1(float(log_abar[0] - log_abar[1]))


SAMPLERS = Registry(
    "sampler",
    {"ddim": ddim, "ddpm": ddpm, "ddpm_large": ddpm_large},
    given=frozenset({"denoise", "schedule", "x", "times", "draw_noise"}),
)
