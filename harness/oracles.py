"""What is known of schedules, spacings, samplers and targets beforehand, and how far off they are.

Most of it is about Gaussian data N(0, lam), whose best denoiser is linear. A sampler is then a sum
over the noises it draws, and `gains` reads off each one's factor: the spread of the samples is
exact, with nothing drawn at random. `harness verify` runs these.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.diffusion import analytic
from harness.diffusion.objective import TARGETS, Denoiser, Estimate
from harness.diffusion.samplers import SAMPLERS, evaluations
from harness.diffusion.schedules import SCHEDULES, Schedule, levels
from harness.diffusion.times import SPACINGS
from harness.errors import BadOption
from harness.registry import Registry

COUNTS = (1, 2, 3, 5, 10, 13, 50, 61, 100, 250, 500, 999, 1000)  # of steps
LAM = 0.25  # the variance of the data where nothing else is said
TABLE = torch.arange(0, 1001, dtype=torch.float64) / 1000


@dataclass(frozen=True)
class Bench:
    """Where and in what the checks are made."""

    dtype: torch.dtype
    device: torch.device

    def ulps(self, count: float) -> float:
        """So many units in the last place of 1."""
        return count * torch.finfo(self.dtype).eps

    def tensor(self, values: Any) -> Tensor:
        return torch.as_tensor(values, dtype=self.dtype, device=self.device)

    @property
    def precision(self) -> str:
        return str(self.dtype).removeprefix("torch.")


# What is looked at.


def ready(registry: Registry[Any]) -> list[str]:
    """The parts that can be used as they come, without an option that must be given."""
    return [
        name for name in registry if not any(option.required for option in registry.options(name))
    ]


def every_schedule() -> dict[str, Schedule]:
    """Each schedule as it comes, and each that has the option with zero terminal SNR."""
    found: dict[str, Schedule] = {name: SCHEDULES.make(name, {}) for name in ready(SCHEDULES)}
    for name in ready(SCHEDULES):
        if "zero_terminal_snr" in {option.name for option in SCHEDULES.options(name)}:
            found[f"{name}, zero SNR"] = SCHEDULES.make(name, {"zero_terminal_snr": True})
    return found


def usual_schedules() -> dict[str, Schedule]:
    return {name: s for name, s in every_schedule().items() if not s.ends_in_pure_noise}


def worst(of: Callable[[Schedule], tuple[float, float]]) -> tuple[float, float]:
    """Of (expected, found) under every usual schedule, those furthest apart; what is not a number
    is furthest."""
    return max(
        map(of, usual_schedules().values()),
        key=lambda pair: apart if math.isfinite(apart := abs(pair[1] - pair[0])) else math.inf,
    )


def starting(bench: Bench, images: int = 64) -> Tensor:
    """Starting noise [images, 2], the same on every machine."""
    return bench.tensor(np.random.default_rng(1).standard_normal((images, 2)))


def fresh(bench: Bench) -> Callable[[], Tensor]:
    """draw_noise() that begins again with every sampling."""
    random = np.random.default_rng(2)
    return lambda: bench.tensor(random.standard_normal((64, 2)))


def sample(
    bench: Bench, sampler: str, schedule: Schedule, spacing: str, steps: int, denoise: Any,
    **options: Any,
) -> Tensor:  # fmt: skip
    times = SPACINGS[spacing](schedule, steps)
    x_0: Tensor = SAMPLERS[sampler](
        denoise, schedule, starting(bench), times, fresh(bench), **options
    )
    return x_0


def gains(
    bench: Bench, sampler: str, schedule: Schedule, times: Tensor, lam: float, **options: Any
) -> Tensor:
    """What the samples of N(0, lam) are made of: the factor of the starting noise and of each
    fresh noise."""
    return analytic.gains(SAMPLERS[sampler], schedule, times, bench.tensor([lam]), **options)[0]


def spread(
    bench: Bench, sampler: str, schedule: Schedule, spacing: str, steps: int, lam: float = LAM,
    **options: Any,
) -> float:  # fmt: skip
    """The standard deviation of the samples over that of the data."""
    times = SPACINGS[spacing](schedule, steps)
    factors = gains(bench, sampler, schedule, times, lam, **options)
    return float(factors.double().square().sum().sqrt()) / math.sqrt(lam)


# What is known of it.


def variance_off(schedule: Schedule, bench: Bench) -> Tensor:
    t = TABLE.to(bench.dtype)
    return (schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2 - 1).abs().max()


def rises(schedule: Schedule) -> Tensor:
    return (schedule.log_snr(TABLE).diff() >= 0).sum()


def inverse_off(schedule: Schedule) -> Tensor:
    return (schedule.t(schedule.log_snr(TABLE)) - TABLE).abs().max()


def rates_off(schedule: Schedule) -> Tensor:
    """How far the rates are from the log SNR that they should follow from, relative to it."""
    inside = TABLE[1:-1]
    log_snr = torch.log(schedule.alpha(inside) ** 2 / schedule.sigma(inside) ** 2)
    return ((log_snr - schedule.log_snr(inside)) / (1 + log_snr.abs())).abs().max()


def last_abar(schedule: Schedule, bench: Bench, papers: float) -> Tensor:
    return schedule.alpha(torch.tensor(1.0, dtype=bench.dtype)) ** 2 / papers


def no_paths(name: str) -> int:
    return sum(
        not is_path(name, schedule, steps)
        for schedule in every_schedule().values()
        for steps in COUNTS
    )


def is_path(name: str, schedule: Schedule, steps: int) -> bool:
    """Whether the spacing makes a path of so many steps, or says why it will not."""
    options: dict[str, Any] = (
        {"times": tuple(1 - k / steps for k in range(steps))} if name == "explicit" else {}
    )
    try:
        times = SPACINGS[name](schedule, steps, **options)
    except BadOption:
        return True
    falls = bool((times.diff() < 0).all())
    return len(times) == steps + 1 and falls and float(times[0]) <= 1 and float(times[-1]) == 0


def limit(schedule: Schedule, lam: float = LAM) -> float:
    """The spread that is left after infinitely many steps: less than all of it where the signal of
    the schedule never reaches 1."""
    [end] = levels(schedule, torch.zeros(1, dtype=torch.float64))
    return end.alpha * math.sqrt(lam / (end.alpha**2 * lam + end.sigma**2))


def spread_and_limit(bench: Bench, name: str, schedule: Schedule) -> tuple[float, float]:
    return limit(schedule), spread(bench, name, schedule, "log_snr", 500)


def shrinkage(bench: Bench, spacing: str, steps: int, schedule: Schedule) -> tuple[float, float]:
    """The product of the cosines of the angles that DDIM turns through on N(0, 1), the last of
    them to the image itself; and the spread of its samples."""
    times = SPACINGS[spacing](schedule, steps)[:-1]
    angles = [math.atan2(level.sigma, level.alpha) for level in levels(schedule, times)]
    cosines = math.prod(math.cos(t - s) for t, s in pairwise([*angles, 0.0]))
    return cosines, spread(bench, "ddim", schedule, spacing, steps, 1.0)


def miscounted(bench: Bench, name: str) -> int:
    schedule = SCHEDULES.make("linear", {})
    off = 0
    for steps in (1, 2, 3, 20):
        denoise = Denoiser(analytic.gaussian(schedule, 0.1, LAM))
        sample(bench, name, schedule, "trailing", steps, denoise)
        off = max(off, abs(denoise.evaluations - evaluations(name, steps)))
    return off


def last_step_off(bench: Bench, name: str) -> Tensor:
    schedule = SCHEDULES.make("cosine", {})
    exact = analytic.gaussian(schedule, 0.1, LAM)
    said: list[Tensor] = []

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        said[:] = [exact(x, t)]
        return said[0]

    x_0 = sample(bench, name, schedule, "trailing", 7, denoise)
    return (x_0 - said[0]).abs().max()


def faults(bench: Bench, name: str) -> int:
    """Whether a sampler returns another dtype, or draws more often than it steps."""
    schedule, draws = SCHEDULES.make("linear", {}), 0
    draw = fresh(bench)

    def counted() -> Tensor:
        nonlocal draws
        draws += 1
        return draw()

    times = SPACINGS["trailing"](schedule, 7)
    denoise = analytic.gaussian(schedule, 0.1, LAM)
    x_0 = SAMPLERS[name](denoise, schedule, starting(bench), times, counted)
    return (x_0.dtype != bench.dtype) + (x_0.shape != (64, 2)) + (draws > 7)


def first_steps_apart(bench: Bench, name: str, like: str) -> float:
    """Between two samplers, after one step, on data of mean 0.1: the worst over all schedules that
    both can begin under."""
    differences = [0.0]
    for schedule in usual_schedules().values():
        denoise = analytic.gaussian(schedule, 0.1, LAM)
        step = torch.tensor([0.8, 0.6], dtype=torch.float64)
        ends = [
            SAMPLERS[each](denoise, schedule, starting(bench), step, fresh(bench))
            for each in (name, like)
        ]
        differences.append(float((ends[0] - ends[1]).abs().max()))
    return max(differences)


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
            squares += (float(gains(bench, name, schedule, times, lam)[0]) - exact) ** 2
        errors.append(math.sqrt(squares))
    return math.log2(errors[0] / errors[1])


def eta_variance(bench: Bench, eta: float, schedule: Schedule) -> tuple[float, float]:
    """V' = f^2 V + w^2 from step to step, with the last step to the estimate of x_0."""
    times = SPACINGS["trailing"](schedule, 13)
    variance = 1.0
    path = levels(schedule, times[:-1])
    for t, s in pairwise(path):
        w = eta * s.sigma / t.sigma * math.sqrt(1 - t.alpha**2 / s.alpha**2)
        f = s.alpha * t.alpha * LAM + t.sigma * math.sqrt(s.sigma**2 - w**2)
        variance = (f / (t.alpha**2 * LAM + t.sigma**2)) ** 2 * variance + w**2
    end = path[-1]
    variance *= (end.alpha * LAM / (end.alpha**2 * LAM + end.sigma**2)) ** 2
    found = gains(bench, "ddim", schedule, times, LAM, eta=eta).double().square().sum()
    return variance, float(found)


def eta_1_apart(bench: Bench, schedule: Schedule) -> float:
    denoise = analytic.gaussian(schedule, 0.1, LAM)
    ends = [
        sample(bench, name, schedule, "trailing", 13, denoise, **options)
        for name, options in (("ddim", {"eta": 1.0}), ("ddpm", {}))
    ]
    return float((ends[0] - ends[1]).abs().max())


def posterior_off(bench: Bench, schedule: Schedule) -> float:
    """One step from t to s with x_0 known, against Ho et al. 2020, eq. 6 and 7, beta being that of
    the jump."""
    x_t, x_0 = -1.3, 0.4
    step = torch.tensor([0.6, 0.5], dtype=torch.float64)
    abar_t, abar_s = (schedule.alpha(step) ** 2).tolist()
    beta = 1 - abar_t / abar_s
    mean = math.sqrt(abar_s) * beta / (1 - abar_t) * x_0
    mean += math.sqrt(1 - beta) * (1 - abar_s) / (1 - abar_t) * x_t
    deviation = math.sqrt((1 - abar_s) / (1 - abar_t) * beta)

    def stepped(noise: float) -> float:
        x = bench.tensor([x_t])
        return float(
            SAMPLERS["ddpm"](
                lambda x, t: torch.full_like(x, x_0),
                schedule,
                x,
                step,
                lambda: bench.tensor([noise]),
            )
        )

    return float(max(abs(stepped(0.0) - mean), abs(stepped(1.0) - mean - deviation)))


def target_apart(bench: Bench, name: str, schedule: Schedule) -> tuple[float, float]:
    """A network that says exactly what this target asks of it, against the exact denoiser."""
    exact, target = analytic.gaussian(schedule, 0.1, LAM), TARGETS[name]

    def network(x: Tensor, log_snr: Tensor) -> Tensor:
        x_0 = exact(x, asked[-1])
        [rates] = levels(schedule, asked[-1][None])
        eps = (x - rates.alpha * x_0) / rates.sigma
        return target.value(x_0, eps, rates.alpha, rates.sigma)

    asked: list[Tensor] = []
    estimate = Estimate(network, schedule, target)

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        asked.append(t)
        return estimate(x, t)

    ends = [sample(bench, "ddim", schedule, "trailing", 10, each) for each in (denoise, exact)]
    return 0.0, float((ends[0] - ends[1]).abs().max())


def off_the_set(bench: Bench) -> Tensor:
    """The largest distance of a sample of a finite set from its nearest point."""
    points = bench.tensor([[-0.9, 0.4], [0.3, 0.8], [0.7, -0.6], [-0.2, -0.7]])
    schedule = SCHEDULES.make("linear", {})
    x_0 = sample(bench, "ddim", schedule, "trailing", 50, analytic.finite(schedule, points))
    apart = torch.linalg.vector_norm(x_0[:, None] - points, dim=2)
    furthest: Tensor = apart.amin(1).max()
    return furthest


def alone(bench: Bench) -> Tensor:
    """Between the denoiser of a mixture of one Gaussian and that of the Gaussian."""
    schedule, mean = SCHEDULES.make("linear", {}), bench.tensor([0.3, -0.2])
    one = analytic.mixture(schedule, mean[None], bench.tensor([LAM]), bench.tensor([1.0]))
    x, t = starting(bench), torch.tensor(0.4, dtype=torch.float64)
    apart: Tensor = (one(x, t) - analytic.gaussian(schedule, mean, LAM)(x, t)).abs().max()
    return apart
