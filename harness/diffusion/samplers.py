"""Samplers: from pure noise to images.

Every sampler is one function with the same signature, the contract of SAMPLERS. What the network
predicts, clipping, devices, progress and random state are settled outside. To add one, write the
function here, or in `multistep.py` where it remembers earlier steps, give `walk` its step, and name
it in SAMPLERS; `@sampler` says what must be known of it beforehand.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated

from harness.diffusion.levels import Level, levels
from harness.diffusion.log_snr_solvers import dpmpp_2m, dpmpp_2m_sde, unipc
from harness.diffusion.multistep import ab2, deis, ipndm
from harness.diffusion.schedules import Schedule
from harness.diffusion.stepping import (
    Denoise,
    DrawNoise,
    Sampler,
    Step,
    along,
    jump_variance,
    leverage,
    noise_in,
    posterior,
    sampler,
    walk,
)
from harness.registry import Between, Registry

if TYPE_CHECKING:
    from torch import Tensor

# The author of a sampler in another package imports all from here.
__all__ = [
    "SAMPLERS", "Denoise", "DrawNoise", "Sampler", "Step", "along", "ddim", "ddpm", "ddpm_large",
    "dpmpp_2m_sde", "evaluations", "jump_variance", "leverage", "noise_in", "posterior", "sampler",
    "steps_within", "walk",
]  # fmt: skip


@sampler(
    formula="x_s = α_s x̂₀ + √(σ_s² − w²) ε̂ + w z, w = η (σ_s/σ_t) √(1 − α_t²/α_s²), with η = 0 "
    "unless said otherwise: no fresh noise (Song et al. 2021)",
    order=1,
)
def ddim(
    denoise: Denoise,
    schedule: Schedule,
    x: Tensor,
    times: Tensor,
    draw_noise: DrawNoise,
    *,
    eta: Annotated[float, Between(0, 1)] = 0.0,
) -> Tensor:
    """DDIM (Song et al. 2021, eq. 12 and 16): eta = 0 is deterministic, eta = 1 is DDPM."""

    def step(x: Tensor, x_0: Tensor, t: Level, s: Level) -> Tensor:
        fresh = eta * s.sigma / t.sigma * math.sqrt(jump_variance(t, s))
        # sqrt(sigma_s^2 - fresh^2), without the loss of digits where hardly any is kept.
        share = eta * (t.alpha * s.sigma) / (s.alpha * t.sigma)
        kept = s.sigma * math.sqrt(1 - eta**2 + share**2)
        x = s.alpha * x_0 + kept * noise_in(x, x_0, t)
        return x + fresh * draw_noise() if eta else x

    return walk(denoise, schedule, x, times, step)


@sampler(
    formula="draws x_s from the posterior q(x_s | x_t, x̂₀), whose variance is (σ_s²/σ_t²)(1 − "
    "α_t²/α_s²): DDIM with η = 1 (Ho et al. 2020)"
)
def ddpm(
    denoise: Denoise, schedule: Schedule, x: Tensor, times: Tensor, draw_noise: DrawNoise
) -> Tensor:
    """DDPM (Ho et al. 2020, Algorithm 2) with the posterior's variance, on any subset of times."""

    def step(x: Tensor, x_0: Tensor, t: Level, s: Level) -> Tensor:
        mean, spread, _ = posterior(x, x_0, t, s)
        return mean + spread * draw_noise()

    return walk(denoise, schedule, x, times, step)


@sampler(formula="the mean of DDPM with the larger variance 1 − α_t²/α_s² (Ho et al. 2020)")
def ddpm_large(
    denoise: Denoise,
    schedule: Schedule,
    x: Tensor,
    times: Tensor,
    draw_noise: DrawNoise,
    *,
    last_noise: bool = False,
) -> Tensor:
    """DDPM with the forward step's variance (`fixed_large`; sigma-hat in Song et al. 2021).

    With `last_noise` the step to time 0 adds its noise too, as some implementations do.
    """

    def step(x: Tensor, x_0: Tensor, t: Level, s: Level) -> Tensor:
        mean, _, spread = posterior(x, x_0, t, s)
        return mean + spread * draw_noise()

    x = walk(denoise, schedule, x, times, step)
    if last_noise and times[-1] == 0:
        [last] = levels(schedule, times[-2:-1])
        x = x + last.sigma * draw_noise()
    return x


@sampler(
    formula="one Euler step of the probability-flow equation in x/α against σ/α: equals DDIM",
    order=1,
    like="ddim",
    from_signal=True,
)
def euler(
    denoise: Denoise, schedule: Schedule, x: Tensor, times: Tensor, draw_noise: DrawNoise
) -> Tensor:
    """Euler's method on d(x / alpha) / d(sigma / alpha) = eps (Song et al. 2021, eq. 14).

    DDIM in other variables, and Algorithm 1 of Karras et al. 2022 without its correction.
    """

    return walk(denoise, schedule, x, times, along)


@sampler(
    formula="Heun's second-order steps in x/α against σ/α; two evaluations a step but the last "
    "(Karras et al. 2022)",
    order=2,
    evaluations=lambda steps: 2 * steps - 1,
    from_signal=True,
)
def heun(
    denoise: Denoise, schedule: Schedule, x: Tensor, times: Tensor, draw_noise: DrawNoise
) -> Tensor:
    """Heun's method of order 2 in the same variables (Karras et al. 2022, Algorithm 1).

    A step evaluates the network again where it would arrive; the step to time 0 does not.
    """

    def step(x: Tensor, x_0: Tensor, t: Level, s: Level) -> Tensor:
        there = along(x, x_0, t, s)
        noise_there = noise_in(there, denoise(there, s.t), s)
        return there + (noise_there - noise_in(x, x_0, t)) / 2 * leverage(t, s)

    return walk(denoise, schedule, x, times, step)


def evaluations(name: str, steps: int) -> int:
    """How often the sampler of this name evaluates the network in so many steps down to 0; one of
    another package that does not say is taken to do so once a step."""
    of: Callable[[int], int] = getattr(SAMPLERS[name], "evaluations", int)
    return of(steps)


def steps_within(name: str, budget: int) -> int:
    """The most steps that this sampler makes with at most so many network evaluations; at least
    one."""
    return max(1, bisect_right(range(1, budget + 1), budget, key=partial(evaluations, name)))


SAMPLERS = Registry(
    "sampler",
    {
        "ddim": ddim,
        "ddpm": ddpm,
        "ddpm_large": ddpm_large,
        "euler": euler,
        "heun": heun,
        "ab2": ab2,
        "ipndm": ipndm,
        "deis": deis,
        "dpmpp_2m": dpmpp_2m,
        "dpmpp_2m_sde": dpmpp_2m_sde,
        "unipc": unipc,
    },
    given=("denoise", "schedule", "x", "times", "draw_noise"),
    contract="""A function, best under @sampler(...) of harness.diffusion.samplers:

    sampler(denoise, schedule, x, times, draw_noise, *, option=default) -> x_0

denoise(x, t)  estimates the clean image x_0, shaped like x; t is a 0-d tensor; one call is one
               network evaluation
schedule       has log_snr(t), alpha(t), sigma(t) and the inverse t(log_snr)
x              noise at times[0], any shape, batch first; its dtype is kept
times          a falling float64 tensor [steps + 1]; where they end at 0 the last step returns the
               estimate of x_0, otherwise x at the last time is returned
draw_noise()   fresh standard normal noise shaped like x, called at most once per step""",
)
