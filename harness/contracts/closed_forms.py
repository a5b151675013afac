"""What is known beforehand of sampling Gaussian data, and the claims about single parts from it.

The best denoiser of N(0, lam) is linear. A sampler is then a sum over the noises it draws, and
`gains` reads off each one's factor: the spread of the samples is exact, with nothing drawn at
random. What is expected was derived by hand, and is not computed by the code that is checked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache, partial
from itertools import pairwise
from typing import Any

import numpy as np

from harness.contracts.check import Bench, Claims, check
from harness.diffusion.analytic import finite_denoiser, gains, gaussian_denoiser, mixture_denoiser
from harness.diffusion.levels import levels
from harness.diffusion.samplers import SAMPLERS, Denoise
from harness.diffusion.schedules import SCHEDULES, Schedule
from harness.diffusion.times import SPACINGS
from harness.lazy import torch
from harness.metrics.distances import METRICS
from harness.registry import BUILT_IN

LAM = 0.25  # the variance of the data where nothing else is said
# The 6,551 training flowers at 32x32: the variances along their principal directions and what each
# is of the whole, as four nodes of a Gauss quadrature over lam / (lam + 0.1); for each `scale`.
FLOWERS = {
    "range": ((0.0113, 0.07284, 0.3781, 9.187), (0.0181, 0.0545, 0.1455, 0.7819)),
    "unit": ((0.01352, 0.08594, 0.4656, 14.87), (0.0054, 0.0237, 0.0965, 0.8744)),
}
DEVIATION = 0.560  # of the pixels of the training flowers at 64x64, from -1 to 1
SPACED = ("uniform", "leading", "trailing", "linspace", "log_snr", "karras", "angle")
Compared = tuple[float, float]  # expected, found


# The schedules under which all else is tried: those of other packages answer for themselves.


@cache
def built_in_schedules() -> dict[str, Schedule]:
    names = [name for name in SCHEDULES if SCHEDULES.origin(name) == BUILT_IN]
    return {key: schedule for name in names for key, schedule in forms(name).items()}


def forms(name: str, options: Mapping[str, Any] | None = None) -> dict[str, Schedule]:
    """The schedule with these options, and with zero terminal SNR where it has the option."""
    given = dict(options or {})
    found: dict[str, Schedule] = {name: SCHEDULES.make(name, given)}
    if "zero_terminal_snr" in {option.name for option in SCHEDULES.options(name)}:
        found[f"{name}, zero SNR"] = SCHEDULES.make(name, given | {"zero_terminal_snr": True})
    return found


def worst(of: Callable[[Schedule], Compared]) -> Compared:
    """Of (expected, found) under every schedule that keeps some signal, those furthest apart; what
    is not a number is furthest."""
    usual = [each for each in built_in_schedules().values() if not each.ends_in_pure_noise]
    return max(
        map(of, usual),
        key=lambda pair: apart if math.isfinite(apart := abs(pair[1] - pair[0])) else math.inf,
    )


# Sampling.


def starting(bench: Bench) -> torch.Tensor:
    """Starting noise [64, 2], the same on every machine."""
    return bench.tensor(np.random.default_rng(1).standard_normal((64, 2)))


def fresh(bench: Bench) -> Callable[[], torch.Tensor]:
    """draw_noise() that begins again with every sampling."""
    random = np.random.default_rng(2)
    return lambda: bench.tensor(random.standard_normal((64, 2)))


def exact_denoiser(schedule: Schedule) -> Denoise:
    return gaussian_denoiser(schedule, 0.1, LAM)


def sample_with(
    bench: Bench, sampler: str, schedule: Schedule, times: torch.Tensor, denoise: Denoise,
    **options: Any,
) -> torch.Tensor:  # fmt: skip
    noise = starting(bench), times, fresh(bench)
    x_0: torch.Tensor = SAMPLERS[sampler](denoise, schedule, *noise, **options)
    return x_0


def noise_gains(
    bench: Bench, sampler: str, schedule: Schedule, times: torch.Tensor, lam: float, **options: Any
) -> torch.Tensor:
    """What the samples of N(0, lam) are made of: the factor of the starting noise and of each
    fresh noise."""
    return gains(SAMPLERS[sampler], schedule, times, bench.tensor([lam]), **options)[0]


def spread_ratio(
    bench: Bench, sampler: str, spacing: str, steps: int, lam: float, schedule: Schedule,
    **options: Any,
) -> float:  # fmt: skip
    """The standard deviation of the samples over that of the data."""
    times = SPACINGS[spacing](schedule, steps)
    factors = noise_gains(bench, sampler, schedule, times, lam, **options)
    return float(factors.double().square().sum().sqrt()) / math.sqrt(lam)


def spread_and_limit(
    bench: Bench, sampler: str, schedule: Schedule, spacing: str = "log_snr"
) -> Compared:
    """What infinitely many steps leave of the spread, less than all of it where the signal of the
    schedule never reaches 1, and more where it never falls to 0; and that after 500 steps."""
    start, end = levels(schedule, torch.tensor([1.0, 0.0], dtype=torch.float64))
    variance_at_start, variance_at_end = (
        level.alpha**2 * LAM + level.sigma**2 for level in (start, end)
    )
    limit = end.alpha * math.sqrt(LAM / variance_at_end / variance_at_start)
    return limit, spread_ratio(bench, sampler, spacing, 500, LAM, schedule)


# Claims about single built-in parts.


def claims(bench: Bench) -> Claims:
    yield from of_ddim(bench)
    yield from of_ddpm(bench)
    yield from of_exact_denoisers(bench)
    yield from of_scale(bench)
    if bench.dtype == torch.float64:  # metrics never compute in anything else
        yield from of_metrics(bench)


def of_ddim(bench: Bench) -> Claims:
    about = partial(check, bench, "sampler ddim")
    for spacing in SPACED:
        for steps in (10, 100):
            claim = f"N(0, 1), {steps} {spacing}: product of cosines"
            cosines = partial(worst, partial(shrinkage, bench, spacing, steps))
            yield about(claim, bench.ulps(100 * steps), cosines)
    first, end = math.acos(0.95), math.acos(0.02)
    for steps in (5, 10, 20, 100):
        d = (end - first) / steps
        expected = math.cos(d) ** (steps - 1) * math.cos(first + d)
        claim = f"N(0, 1) under the lab's cosine, {steps} steps"
        found = partial(
            spread_ratio, bench, "ddim", "uniform", steps, 1.0, SCHEDULES.make("cosine", {})
        )
        yield about(claim, bench.ulps(100 * steps), found, expected)
    for eta in (0.5, 1.0):
        variance = partial(worst, partial(eta_variance, bench, eta))
        yield about(f"variance by its recursion, eta = {eta:g}", bench.ulps(5000), variance)
    whole = SCHEDULES.make("cosine", {"max_signal": 1.0})
    for steps in (10, 20, 100):
        claim = f"DDIM on N(0, 1), {steps} steps: cos(theta / N)^N"
        expected = math.cos(math.acos(0.02) / steps) ** steps
        found = partial(spread_ratio, bench, "ddim", "angle", steps, 1.0, whole)
        yield check(bench, "spacing angle", claim, bench.ulps(100 * steps), found, expected)


def shrinkage(bench: Bench, spacing: str, steps: int, schedule: Schedule) -> Compared:
    """The product of the cosines of the angles that DDIM turns through on N(0, 1), the last of
    them to the image itself; and the spread of its samples."""
    times = SPACINGS[spacing](schedule, steps)[:-1]
    angles = [math.atan2(level.sigma, level.alpha) for level in levels(schedule, times)]
    cosines = math.prod(math.cos(t - s) for t, s in pairwise([*angles, 0.0]))
    return cosines, spread_ratio(bench, "ddim", spacing, steps, 1.0, schedule)


def eta_variance(bench: Bench, eta: float, schedule: Schedule) -> Compared:
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
    found = noise_gains(bench, "ddim", schedule, times, LAM, eta=eta).double().square().sum()
    return variance, float(found)


def of_ddpm(bench: Bench) -> Claims:
    about, tolerance = partial(check, bench, "sampler ddpm"), bench.ulps(5000)
    yield about("is ddim at eta = 1", tolerance, partial(worst, partial(eta_1_apart, bench)))
    posterior = partial(worst, partial(posterior_off, bench))
    yield about("one step: the posterior's mean and variance", tolerance, posterior)
    found = partial(spread_ratio, bench, "ddpm_large", "trailing", 13, 1.0, last_noise=True)
    exact = partial(worst, lambda schedule: (1.0, found(schedule)))
    claim = "exact on N(0, 1) with its last noise"
    yield check(bench, "sampler ddpm_large", claim, tolerance, exact)


def eta_1_apart(bench: Bench, schedule: Schedule) -> Compared:
    given = schedule, SPACINGS["trailing"](schedule, 13), exact_denoiser(schedule)
    ddim, ddpm = sample_with(bench, "ddim", *given, eta=1.0), sample_with(bench, "ddpm", *given)
    return 0.0, float((ddim - ddpm).abs().max())


def posterior_off(bench: Bench, schedule: Schedule) -> Compared:
    """One step from t to s with x_0 known, against Ho et al. 2020, eq. 6 and 7, beta being that of
    the jump."""
    x_t, x_0 = -1.3, 0.4
    step = torch.tensor([0.6, 0.5], dtype=torch.float64)
    abar_t, abar_s = (schedule.alpha(step) ** 2).tolist()
    beta = 1 - abar_t / abar_s
    mean = math.sqrt(abar_s) * beta / (1 - abar_t) * x_0
    mean += math.sqrt(1 - beta) * (1 - abar_s) / (1 - abar_t) * x_t
    deviation = math.sqrt((1 - abar_s) / (1 - abar_t) * beta)

    def denoise(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.full_like(x, x_0)

    def stepped(noise: float) -> float:
        x = bench.tensor([x_t])
        return float(SAMPLERS["ddpm"](denoise, schedule, x, step, lambda: bench.tensor([noise])))

    return 0.0, max(abs(stepped(0.0) - mean), abs(stepped(1.0) - mean - deviation))


def of_exact_denoisers(bench: Bench) -> Claims:
    schedule, x = SCHEDULES.make("linear", {}), starting(bench)

    def off_the_set() -> torch.Tensor:
        """The largest distance of a sample of a finite set from its nearest point."""
        points = bench.tensor([[-0.9, 0.4], [0.3, 0.8], [0.7, -0.6], [-0.2, -0.7]])
        times = SPACINGS["trailing"](schedule, 50)
        x_0 = sample_with(bench, "ddim", schedule, times, finite_denoiser(schedule, points))
        return (x_0[:, None] - points).square().sum(2).sqrt().amin(1).max()

    def alone() -> torch.Tensor:
        """Between the denoiser of a mixture of one Gaussian and that of the Gaussian."""
        mean, t = bench.tensor([0.3, -0.2]), torch.tensor(0.4, dtype=torch.float64)
        one = mixture_denoiser(schedule, mean[None], *map(bench.tensor, ([LAM], [1.0])))
        return (one(x, t) - gaussian_denoiser(schedule, mean, LAM)(x, t)).abs().max()

    yield check(bench, "data finite", "distance of a sample from the set", 1e-3, off_the_set)
    yield check(bench, "data mixture", "of one Gaussian is that Gaussian", bench.ulps(50), alone)


def of_scale(bench: Bench) -> Claims:
    """What the scale of the data does under the lab's cosine, which ends at a signal rate of .95:
    brought to unit variance, data are seen at a higher log SNR and keep more of their pixel
    standard deviation."""
    about, cosine = partial(check, bench, "schedule cosine"), SCHEDULES.make("cosine", {})
    claim = f"log SNR of data of std {DEVIATION:g}, less that of unit variance: 2 log std"
    shift = partial(log_snr_moved, bench, cosine, DEVIATION)
    yield about(claim, bench.ulps(1000), shift, 2 * math.log(DEVIATION))
    for scale, (variances, shares) in FLOWERS.items():
        kept = (0.9025 * lam / (0.9025 * lam + 0.0975) for lam in variances)
        expected = math.sqrt(math.fsum(share * k for share, k in zip(shares, kept, strict=True)))
        claim = f"flowers, scale {scale}: pixel deviation kept in the limit"
        yield about(claim, 0.001, partial(deviation_kept, bench, cosine, scale), expected)


def log_snr_moved(bench: Bench, schedule: Schedule, deviation: float) -> float:
    """From the share of the variance of x_0 that x_t explains, SNR / (SNR + 1): alpha times the
    slope of the best denoiser."""
    t, x = torch.tensor(0.5, dtype=torch.float64), bench.tensor([0.0, 1.0])
    zero, one = gaussian_denoiser(schedule, 0.0, deviation**2)(x, t).tolist()
    explained = float(schedule.alpha(t)) * (one - zero)
    return math.log(explained / (1 - explained)) - float(schedule.log_snr(t))


def deviation_kept(bench: Bench, schedule: Schedule, scale: str) -> float:
    """The pixel standard deviation of Gaussian flowers after 300 steps that begin with what x_1
    is, relative to what it was."""
    variances, shares = (bench.tensor(values).double() for values in FLOWERS[scale])
    [start] = levels(schedule, torch.tensor([1.0], dtype=torch.float64))
    times = SPACINGS["log_snr"](schedule, 300)
    factors = gains(SAMPLERS["dpmpp_2m"], schedule, times, variances.to(bench.dtype))
    spread = factors[:, 0].double() ** 2 * (start.alpha**2 * variances + start.sigma**2)
    return float((shares * spread / variances).sum().sqrt())


def of_metrics(bench: Bench) -> Claims:
    features = np.random.default_rng(0).standard_normal((200, 6))
    moved = np.array([0.5, -0.3, 0, 0.2, 0, 0])
    kernel = (features @ features.T / 6 + 1) ** 3
    diagonal = float(np.diag(kernel).mean())
    off = (float(kernel.sum()) - 200 * diagonal) / (200 * 199)
    fid = partial(METRICS["fid"].function, features + moved, features)
    kid = partial(METRICS["kid"].function, features, features)
    claim = "of a set and itself moved: distance squared"
    yield check(bench, "metric fid", claim, 1e-9, fid, float(moved @ moved))
    claim = "of a set and itself: 2 (off - diagonal) / n"
    yield check(bench, "metric kid", claim, 1e-9, kid, 2 * (off - diagonal) / 200)
