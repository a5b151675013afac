"""Samplers: from pure noise to images.

Every sampler is one function with the same signature, the contract of SAMPLERS. What the network
predicts, clipping, devices, progress and random state are settled outside. To add one, write the
function beside those it is like, here, in `multistep.py`, `log_snr_solvers.py` or `stochastic.py`,
give `walk` its step, and name it in SAMPLERS; `@sampler` says what must be known of it beforehand.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from harness.diffusion.levels import Level, levels
from harness.diffusion.log_snr_solvers import (
    dpm_solver_2,
    dpmpp_2m,
    dpmpp_2m_sde,
    dpmpp_3m,
    dpmpp_3m_sde,
    dpmpp_sde,
    unipc,
)
from harness.diffusion.multistep import ab2, deis, ipndm, ipndm_v
from harness.diffusion.schedules import Schedule
from harness.diffusion.stepping import (
    Denoise,
    DrawNoise,
    Sampler,
    Step,
    along,
    counted,
    ddim_step,
    draws,
    heun_step,
    jump_variance,
    leverage,
    noise_in,
    posterior,
    sampler,
    walk,
)
from harness.diffusion.stochastic import edm, euler_ancestral, predictor_corrector
from harness.registry import Between, Registry

if TYPE_CHECKING:
    from torch import Tensor

# The author of a sampler in another package imports all from here.
__all__ = [
    "SAMPLERS", "Denoise", "DrawNoise", "Sampler", "Step", "along", "ddim", "ddpm", "ddpm_large",
    "dpmpp_2m_sde", "draws", "evaluations", "jump_variance", "leverage", "noise_in", "posterior",
    "sampler", "steps_within", "walk",
]  # fmt: skip


@sampler(
    formula="x_s = α_s x̂₀ + √(σ_s² − w²) ε̂ + w z, w = η (σ_s/σ_t) √(1 − α_t²/α_s²), with η = 0 "
    "unless said otherwise: no fresh noise (Song et al. 2021a)",
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
    """DDIM (Song et al. 2021a, eq. 12 and 16): eta = 0 is deterministic, eta = 1 is DDPM."""

    def step(x: Tensor, x_0: Tensor, t: Level, s: Level) -> Tensor:
        return ddim_step(x, x_0, t, s, eta, draw_noise)

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
    """DDPM with the forward step's variance (`fixed_large`; sigma-hat in Song et al. 2021a).

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
    """Euler's method on d(x / alpha) / d(sigma / alpha) = eps (Song et al. 2021a, eq. 14).

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
    return walk(denoise, schedule, x, times, partial(heun_step, denoise))


def evaluations(name: str, steps: int, /, **options: Any) -> int:
    """How often the sampler of this name evaluates the network in so many steps down to 0; one of
    another package that does not say is taken to do so once a step."""
    return counted(getattr(SAMPLERS[name], "evaluations", lambda steps: steps), steps, **options)


def steps_within(name: str, budget: int, /, **options: Any) -> int:
    """The most steps that this sampler makes with at most so many network evaluations; at least
    one."""
    made = partial(evaluations, name, **options)
    return max(1, bisect_right(range(1, budget + 1), budget, key=made))


SAMPLERS = Registry(
    "sampler",
    {
        "ddim": ddim,
        "ddpm": ddpm,
        "ddpm_large": ddpm_large,
        "euler": euler,
        "euler_ancestral": euler_ancestral,
        "heun": heun,
        "edm": edm,
        "predictor_corrector": predictor_corrector,
        "ab2": ab2,
        "ipndm": ipndm,
        "ipndm_v": ipndm_v,
        "deis": deis,
        "dpm_solver_2": dpm_solver_2,
        "dpmpp_2m": dpmpp_2m,
        "dpmpp_3m": dpmpp_3m,
        "dpmpp_sde": dpmpp_sde,
        "dpmpp_2m_sde": dpmpp_2m_sde,
        "dpmpp_3m_sde": dpmpp_3m_sde,
        "unipc": unipc,
    },
    given=("denoise", "schedule", "x", "times", "draw_noise"),
    contract="""A function, best under @sampler(...) of harness.diffusion.samplers:

    sampler(denoise, schedule, x, times, draw_noise, *, option=default) -> x_0

denoise(x, t)  estimates the clean image x_0, shaped like x; t is a 0-d tensor from 0 to 1, one of
               the times or any other; one call is one network evaluation
schedule       has log_snr(t), alpha(t), sigma(t) and the inverse t(log_snr)
x              noise at times[0], any shape, batch first; its dtype is kept
times          a falling float64 tensor [steps + 1]; where they end at 0 the last step returns the
               estimate of x_0, otherwise x at the last time is returned
draw_noise()   fresh standard normal noise shaped like x, another with each call; called at most as
               often as there are steps, times the `draws` that @sampler declares (one)""",
)
