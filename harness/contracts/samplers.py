"""What every sampler must satisfy: the exact distribution in the limit, and the evaluations, noise
and order of convergence that it declares."""

from __future__ import annotations

import math
from functools import partial

from harness.contracts.check import Bench, Claims, check
from harness.contracts.closed_forms import (
    LAM,
    Compared,
    exact_denoiser,
    fresh,
    noise_gains,
    sample_with,
    spread_and_limit,
    starting,
    worst,
)
from harness.diffusion.levels import levels
from harness.diffusion.objective import Denoiser
from harness.diffusion.samplers import SAMPLERS, draws, evaluations
from harness.diffusion.schedules import SCHEDULES, Schedule
from harness.diffusion.times import SPACINGS
from harness.lazy import torch


def of_sampler(name: str, bench: Bench) -> Claims:
    about = partial(check, bench, f"sampler {name}")
    yield about("evaluations beyond those declared", 0, partial(miscounted, bench, name))
    yield about("dtype, shape, draws a step (faults)", 0, partial(sampler_faults, bench, name))
    if bench.options:  # which may make another method of it
        return
    yield about("the last step gives the estimate", 0, partial(last_step_off, bench, name))
    spread = partial(worst, partial(spread_and_limit, bench, name))
    yield about(f"spread of N(0, {LAM}), 500 log_snr", 0.02, spread)
    if like := getattr(SAMPLERS[name], "like", ""):
        apart = partial(worst, partial(first_steps_apart, bench, name, like))
        yield about(f"first step is that of {like}", bench.ulps(100), apart)
    if expected := getattr(SAMPLERS[name], "order", None):
        within = max(0.25, expected / 10)  # a high order takes more steps to show
        yield about("order of convergence", within, partial(order, bench, name), expected)


def miscounted(bench: Bench, name: str) -> int:
    schedule, off = SCHEDULES.make("linear", {}), 0
    for steps in (1, 2, 3, 20):
        denoise = Denoiser(exact_denoiser(schedule))
        times = SPACINGS["trailing"](schedule, steps)
        sample_with(bench, name, schedule, times, denoise, **bench.options)
        off = max(off, abs(denoise.evaluations - evaluations(name, steps, **bench.options)))
    return off


def last_step_off(bench: Bench, name: str) -> torch.Tensor:
    schedule = SCHEDULES.make("cosine", {})
    exact = exact_denoiser(schedule)
    said: list[torch.Tensor] = []

    def denoise(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        said[:] = [exact(x, t)]
        return said[0]

    x_0 = sample_with(bench, name, schedule, SPACINGS["trailing"](schedule, 7), denoise)
    return (x_0 - said[0]).abs().max()


def sampler_faults(bench: Bench, name: str) -> int:
    """Whether a sampler returns another dtype or shape, or draws more often than it declares."""
    schedule, draw, drawn = SCHEDULES.make("linear", {}), fresh(bench), []

    def draw_noise() -> torch.Tensor:
        drawn.append(draw())
        return drawn[-1]

    denoise = exact_denoiser(schedule)
    times = SPACINGS["trailing"](schedule, 7)
    x_0 = SAMPLERS[name](denoise, schedule, starting(bench), times, draw_noise, **bench.options)
    most = 7 * draws(SAMPLERS[name], **bench.options)
    return sum([x_0.dtype != bench.dtype, x_0.shape != (64, 2), len(drawn) > most])


def first_steps_apart(bench: Bench, name: str, like: str, schedule: Schedule) -> Compared:
    """Between two samplers, after one step, on data of mean 0.1."""
    step = torch.tensor([0.8, 0.6], dtype=torch.float64)
    given = schedule, step, exact_denoiser(schedule)
    return 0.0, float(
        (sample_with(bench, name, *given) - sample_with(bench, like, *given)).abs().max()
    )


def order(bench: Bench, name: str) -> float:
    """By how many powers of two the error falls when the steps double, against the exact solution
    for Gaussian data, x_s = sqrt(V_s / V_t) x_t, over several variances and on even steps of log
    SNR."""
    schedule = SCHEDULES.make("cosine", {})
    ends = torch.tensor([1.0, 0.1], dtype=torch.float64)
    t, s = levels(schedule, ends)
    errors = []
    for steps in (32, 64):  # few enough that float32 has digits to show it by
        even = torch.linspace(t.log_snr, s.log_snr, steps + 1, dtype=torch.float64)
        times = torch.cat([ends[:1], schedule.t(even[1:-1]), ends[1:]])
        squares = 0.0
        for lam in (0.02, 0.05, 0.1, 0.2, 0.4):
            variance = [level.alpha**2 * lam + level.sigma**2 for level in (t, s)]
            exact = math.sqrt(variance[1] / variance[0])
            squares += (float(noise_gains(bench, name, schedule, times, lam)[0]) - exact) ** 2
        errors.append(math.sqrt(squares))
    return math.log2(errors[0] / errors[1])
