"""Samplers of single steps that add fresh noise on the way."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated

from harness.diffusion.levels import Level, levels, levels_at
from harness.diffusion.schedules import Schedule
from harness.diffusion.stepping import (
    Denoise,
    DrawNoise,
    ddim_step,
    heun_step,
    noise_in,
    sampler,
    walk,
)
from harness.lazy import torch
from harness.registry import Between

if TYPE_CHECKING:
    from torch import Tensor


@sampler(
    formula="Euler's step in σ/α down to √(σ_s²/α_s² − w²), then fresh noise w z on x/α, w² = η² "
    "(σ_s²/α_s²)(1 − SNR_t/SNR_s), with η = 1 unless said otherwise: equals DDIM with that η, and "
    "DDPM",
    like="ddpm",
    from_signal=True,
)
def euler_ancestral(
    denoise: Denoise,
    schedule: Schedule,
    x: Tensor,
    times: Tensor,
    draw_noise: DrawNoise,
    *,
    eta: Annotated[float, Between(0, 1)] = 1.0,
) -> Tensor:
    """Ancestral sampling by Euler's method (Crowson 2022, k-diffusion).

    DDIM in other variables, with the same eta.
    """

    def step(x: Tensor, x_0: Tensor, t: Level, s: Level) -> Tensor:
        lost = -math.expm1(t.log_snr - s.log_snr)  # 1 - (ratio at s / ratio at t)^2
        down, up = s.ratio * math.sqrt(1 - eta**2 * lost), eta * s.ratio * math.sqrt(lost)
        x = s.alpha * (x_0 + down * noise_in(x, x_0, t))
        return x + s.alpha * up * draw_noise() if eta else x

    return walk(denoise, schedule, x, times, step)


@sampler(
    formula="Heun's step from a noisier level: fresh noise of S_noise z first raises σ/α by the "
    "factor 1 + γ, γ = min(S_churn/N, √2 − 1) where S_tmin ≤ σ/α ≤ S_tmax; two evaluations a step "
    "but the last (Karras et al. 2022)",
    evaluations=lambda steps: 2 * steps - 1,
    from_signal=True,
)
def edm(
    denoise: Denoise,
    schedule: Schedule,
    x: Tensor,
    times: Tensor,
    draw_noise: DrawNoise,
    *,
    s_churn: Annotated[float, Between(0, 1000)] = 40.0,
    s_tmin: Annotated[float, Between(0, 1e9)] = 0.05,
    s_tmax: Annotated[float, Between(0, 1e9)] = 50.0,
    s_noise: Annotated[float, Between(0.5, 2)] = 1.003,
) -> Tensor:
    """EDM's stochastic sampler (Karras et al. 2022, Algorithm 2; its values for ImageNet-64).

    `s_tmin` and `s_tmax` are of sigma / alpha. No level is raised beyond that of t = 1, and none in
    the step to 0: a schedule may end with more noise than the paper's. `s_churn` 0 makes it `heun`.
    """
    gamma = min(s_churn / (len(times) - 1), math.sqrt(2) - 1)
    [noisiest, *path] = levels(schedule, torch.cat([torch.ones_like(times[:1]), times]))
    raised = {
        t.t.item(): max(t.log_snr - 2 * math.log1p(gamma), noisiest.log_snr)
        for t, s in pairwise(path)
        if gamma and s.t != 0 and t.log_snr > noisiest.log_snr and s_tmin <= t.ratio <= s_tmax
    }
    noisier = levels_at(schedule, raised)

    def churn(x: Tensor, t: Level) -> tuple[Tensor, Level]:
        if (to := noisier.get(t.t.item())) is None:
            return x, t
        fresh = s_noise * math.sqrt(to.ratio**2 - t.ratio**2)
        return to.alpha * (x / t.alpha + fresh * draw_noise()), to

    return walk(denoise, schedule, x, times, partial(heun_step, denoise), churn)


@sampler(
    formula="DDPM's step (η = 1 unless said otherwise), then Langevin steps x ← x − 2 r² σ ε̂ + 2 r "
    "σ z at the level reached, r = 0.16 unless said otherwise (Song et al. 2021b)",
    evaluations=lambda steps, corrector_steps=1: steps + (steps - 1) * corrector_steps,
    draws=lambda corrector_steps=1: 1 + corrector_steps,
)
def predictor_corrector(
    denoise: Denoise,
    schedule: Schedule,
    x: Tensor,
    times: Tensor,
    draw_noise: DrawNoise,
    *,
    snr: Annotated[float, Between(0, 0.5)] = 0.16,
    corrector_steps: Annotated[int, Between(0, 100)] = 1,
    eta: Annotated[float, Between(0, 1)] = 1.0,
) -> Tensor:
    """A predictor with a Langevin corrector (Song et al. 2021b, Algorithms 3 and 5).

    The predictor is DDIM with this eta: ancestral sampling at 1, Euler's method at 0. The
    corrector's step is 2 (snr sigma)^2, which is the paper's 2 (snr |z| / |score|)^2 for a noise of
    unit variance, so that no image depends on the others of its batch.
    """

    def step(x: Tensor, x_0: Tensor, t: Level, s: Level) -> Tensor:
        x = ddim_step(x, x_0, t, s, eta, draw_noise)
        for _ in range(corrector_steps):
            noise = noise_in(x, denoise(x, s.t), s)
            x = x + 2 * snr * s.sigma * (draw_noise() - snr * noise)
        return x

    return walk(denoise, schedule, x, times, step)
