"""Samplers on data whose results are known in closed form: no network, no random tolerance.

Data N(mu, lam): with V(t) = abar lam + 1 - abar the best denoiser is linear, so a sampler is a
sum c_0 x_T + c_1 z_1 + c_2 z_2 + ... over the noise it draws. `coefficients` finds each c by
letting one of them be 1 and the others 0: the variance of the samples is then exact.
"""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from harness.diffusion.analytic import mixture
from harness.diffusion.samplers import ddim, ddpm, ddpm_large
from harness.diffusion.schedules import SCHEDULES
from harness.diffusion.times import SPACINGS


def rates(schedule, t):
    t = torch.as_tensor(t, dtype=torch.float64)
    return schedule.alpha(t).item(), schedule.sigma(t).item()


def best_denoiser(schedule, lam, mu=0.0):
    def denoise(x, t):
        alpha, sigma = rates(schedule, t)
        return mu + alpha * lam * (x - alpha * mu) / (alpha**2 * lam + sigma**2)

    return denoise


def coefficients(sampler, schedule, times, lam, **options):
    steps = len(times) - 1
    drawn = iter(torch.eye(steps + 1, dtype=torch.float64)[1:])
    start = torch.eye(steps + 1, dtype=torch.float64)[0]
    denoise = best_denoiser(schedule, lam)
    return sampler(denoise, schedule, start, times, lambda: next(drawn), **options)


def relative_spread(sampler, schedule, spacing, steps, lam=1.0, **options):
    """The standard deviation of the samples from N(0, 1) noise, over that of the data."""
    times = SPACINGS[spacing](schedule, steps)
    sums = coefficients(sampler, schedule, times, lam, **options)
    return math.sqrt(sums.square().sum().item() / lam)


@pytest.fixture(params=SCHEDULES.names())
def schedule(request):
    return SCHEDULES[request.param]()


# DDIM.


@pytest.mark.parametrize("lam", [0.01, 0.25, 1.0, 4.0])
@pytest.mark.parametrize("spacing", ["uniform", "leading", "trailing"])
def test_every_ddim_step_is_the_exact_one_times_the_cosine_of_the_angle(schedule, spacing, lam):
    mu = 0.6
    times = SPACINGS[spacing](schedule, 10)
    x = torch.tensor([-1.5, 0.2, 2.0], dtype=torch.float64)
    for t, s in pairwise(times[:-1]):
        (alpha_t, sigma_t), (alpha_s, sigma_s) = rates(schedule, t), rates(schedule, s)
        v_t, v_s = alpha_t**2 * lam + sigma_t**2, alpha_s**2 * lam + sigma_s**2
        factor = (alpha_s * alpha_t * lam + sigma_s * sigma_t) / v_t
        angle = math.atan2(sigma_t, alpha_t * lam**0.5) - math.atan2(sigma_s, alpha_s * lam**0.5)
        assert factor == pytest.approx(math.sqrt(v_s / v_t) * math.cos(angle), rel=1e-12)

        denoise = best_denoiser(schedule, lam, mu)
        stepped = ddim(denoise, schedule, x, torch.stack([t, s]), lambda: None)
        expected = alpha_s * mu + factor * (x - alpha_t * mu)
        torch.testing.assert_close(stepped, expected, rtol=1e-11, atol=1e-11)
        x = stepped


@pytest.mark.parametrize(
    ("spacing", "name", "expected"),
    [
        ("leading", "linear", [0.832, 0.913, 0.964, 0.982]),
        ("leading", "cosine_discrete", [0.895, 0.943, 0.976, 0.988]),
        ("trailing", "linear", [0.829, 0.911, 0.964, 0.982]),
        ("trailing", "cosine_discrete", [0.883, 0.940, 0.976, 0.988]),
    ],
)
def test_ddim_shrinks_unit_noise_by_the_product_of_the_cosines(spacing, name, expected):
    schedule = SCHEDULES[name]()
    for steps, rounded in zip((10, 20, 50, 100), expected, strict=True):
        angles = [math.acos(rates(schedule, t)[0]) for t in SPACINGS[spacing](schedule, steps)]
        product = math.prod(math.cos(t - s) for t, s in pairwise(angles))
        spread = relative_spread(ddim, schedule, spacing, steps)
        assert spread == pytest.approx(product, abs=1e-10)
        assert spread == pytest.approx(rounded, abs=6e-4)


@pytest.mark.parametrize(("steps", "rounded"), [(10, 0.886), (20, 0.942), (100, 0.988)])
def test_even_angles_down_to_the_image_leave_the_most(steps, rounded):
    schedule = SCHEDULES["cosine"](max_signal=1.0)
    spread = relative_spread(ddim, schedule, "uniform", steps)
    assert spread == pytest.approx(math.cos(math.acos(0.02) / steps) ** steps, rel=1e-9)
    assert spread == pytest.approx(rounded, abs=6e-4)


@pytest.mark.parametrize(("steps", "rounded"), [(5, 0.747), (10, 0.844), (20, 0.896), (100, 0.939)])
def test_the_cosine_that_never_reaches_the_image_loses_contrast(steps, rounded):
    first, last = math.acos(0.95), math.acos(0.02)
    d = (last - first) / steps
    spread = relative_spread(ddim, SCHEDULES["cosine"](), "uniform", steps)
    assert spread == pytest.approx(math.cos(d) ** (steps - 1) * math.cos(first + d), rel=1e-9)
    assert spread == pytest.approx(rounded, abs=6e-4)


@pytest.mark.parametrize(("lam", "rounded"), [(1.0, 0.95), (0.25, 0.836), (0.01, 0.291)])
def test_the_contrast_that_cosine_loses_does_not_come_back_with_more_steps(lam, rounded):
    limit = 0.95 * math.sqrt(lam) / math.sqrt(0.9025 * lam + 0.0975)
    assert limit == pytest.approx(rounded, abs=6e-4)
    spread = relative_spread(ddim, SCHEDULES["cosine"](), "uniform", 1500, lam)
    assert spread == pytest.approx(limit, rel=3e-3)


@pytest.mark.parametrize("lam", [0.04, 1.0, 2.0])
@pytest.mark.parametrize("eta", [0.0, 0.3, 0.7, 1.0])
def test_the_variance_of_ddim_follows_its_recursion_for_any_eta(schedule, lam, eta):
    times = SPACINGS["trailing"](schedule, 13)[:-1]
    variance = 1.0
    for t, s in pairwise(times):
        (alpha_t, sigma_t), (alpha_s, sigma_s) = rates(schedule, t), rates(schedule, s)
        w = eta * sigma_s / sigma_t * math.sqrt(1 - alpha_t**2 / alpha_s**2)
        kept = math.sqrt(sigma_s**2 - w**2)
        f = (alpha_s * alpha_t * lam + sigma_t * kept) / (alpha_t**2 * lam + sigma_t**2)
        variance = f**2 * variance + w**2
    reached = coefficients(ddim, schedule, times, lam, eta=eta).square().sum().item()
    assert reached == pytest.approx(variance, rel=1e-10)


# DDPM.


@pytest.mark.parametrize(
    ("steps", "rounded"), [(10, 0.947), (20, 0.985), (50, 0.997), (100, 0.999)]
)
def test_ddpm_large_on_unit_noise_lacks_only_the_noise_of_its_last_step(steps, rounded):
    schedule = SCHEDULES["linear"]()
    spread = relative_spread(ddpm_large, schedule, "trailing", steps)
    assert spread == pytest.approx(rates(schedule, 1 / steps)[0], rel=1e-10)
    assert spread == pytest.approx(rounded, abs=6e-4)


@pytest.mark.parametrize("steps", [2, 10, 61])
@pytest.mark.parametrize("spacing", SPACINGS.names())
def test_ddpm_large_with_its_last_noise_is_exact_on_unit_noise(schedule, spacing, steps):
    spread = relative_spread(ddpm_large, schedule, spacing, steps, last_noise=True)
    assert spread == pytest.approx(1, rel=1e-10)


@pytest.mark.parametrize(
    ("sampler", "spacing", "options", "rounded"),
    [
        (ddpm_large, "leading", {}, 3.24),
        (ddpm_large, "leading", {"last_noise": True}, 3.24),
        (ddpm_large, "trailing", {"last_noise": True}, 3.24),
        (ddpm_large, "trailing", {}, 0.47),
        (ddpm, "leading", {}, 0.29),
        (ddpm, "trailing", {}, 0.28),
    ],
)
def test_few_steps_of_ddpm_miss_the_spread_of_narrow_data(sampler, spacing, options, rounded):
    spread = relative_spread(sampler, SCHEDULES["linear"](), spacing, 10, lam=0.01, **options)
    assert spread == pytest.approx(rounded, abs=6e-3)


@pytest.mark.parametrize("sampler", [ddim, ddpm, ddpm_large])
@pytest.mark.parametrize("name", ["linear", "cosine_discrete"])
def test_every_sampler_reaches_the_spread_of_the_data_with_many_steps(sampler, name):
    spread = relative_spread(sampler, SCHEDULES[name](), "trailing", 1000, lam=0.25)
    assert spread == pytest.approx(1, abs=0.01)


def test_samples_drawn_at_random_have_the_mean_and_spread_of_the_data():
    schedule, generator = SCHEDULES["linear"](), torch.Generator().manual_seed(0)

    def draw_noise():
        return torch.randn(20_000, dtype=torch.float64, generator=generator)

    images = ddpm(
        best_denoiser(schedule, lam=0.09, mu=0.5),
        schedule,
        draw_noise(),
        SPACINGS["trailing"](schedule, 250),
        draw_noise,
    )
    assert images.mean().item() == pytest.approx(0.5, abs=0.01)
    assert images.std().item() == pytest.approx(0.3, rel=0.05)


# The order of convergence, on a mixture where the flow bends.

MEANS = np.array([(-1, 0.3), (0.8, 0.9), (0.2, -1.1)])
VARIANCES = np.array([0.25, 0.16, 0.36])
WEIGHTS = np.array([0.5, 0.3, 0.2])


def exact_flow(x, from_log_snr, to_log_snr):
    """The probability-flow ODE in l = log SNR: with y = x / alpha and r = sigma / alpha =
    exp(-l / 2), dy/dr = eps, so dy/dl = -r / 2 (y - x_0) / r."""

    def slope(log_snr, y):
        y = y.reshape(-1, 2)
        spread = VARIANCES + math.exp(-log_snr)  # y is x_0 plus noise of variance r^2
        offset = y[:, None] - MEANS
        density = WEIGHTS / spread * np.exp(-(offset**2).sum(2) / (2 * spread))
        share = density / density.sum(1, keepdims=True)
        x_0 = (share[:, :, None] * (MEANS + (VARIANCES / spread)[:, None] * offset)).sum(1)
        return (-(y - x_0) / 2).ravel()

    def alpha(log_snr):
        return 1 / math.sqrt(1 + math.exp(-log_snr))

    span, start = (from_log_snr, to_log_snr), (x / alpha(from_log_snr)).ravel()
    solved = solve_ivp(slope, span, start, "DOP853", rtol=1e-12, atol=1e-12)
    return solved.y[:, -1].reshape(-1, 2) * alpha(to_log_snr)


def even_in_log_snr(steps, start=1.0, end=0.01):
    """Times of linear at even log SNR from start to end, both included; typed from its betas."""
    log_abar = np.concatenate([[0], np.cumsum(np.log1p(-np.linspace(1e-4, 0.02, 1000)))])

    def log_snr(t):
        at = np.interp(t * 1000, np.arange(1001), log_abar)
        return at - np.log(-np.expm1(at))

    wanted = np.linspace(log_snr(start), log_snr(end), steps + 1)
    times = np.interp(-np.log1p(np.exp(-wanted)), log_abar[::-1], np.arange(1000, -1, -1) / 1000)
    times[[0, -1]] = start, end
    return torch.from_numpy(times), wanted


def test_the_error_of_ddim_is_of_first_order():
    schedule = SCHEDULES["linear"]()
    denoise = mixture(schedule, *map(torch.from_numpy, (MEANS, VARIANCES, WEIGHTS)))
    x = torch.randn(400, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    log_snr = even_in_log_snr(80)[1]
    exact = torch.from_numpy(exact_flow(x.numpy(), log_snr[0], log_snr[-1]))

    def error(steps):
        sampled = ddim(denoise, schedule, x, even_in_log_snr(steps)[0], lambda: None)
        return (sampled - exact).square().mean().sqrt().item()

    errors = [error(steps) for steps in (80, 160, 320, 640)]
    orders = [math.log2(errors[k] / errors[k + 1]) for k in range(3)]
    assert orders == pytest.approx([1, 1, 1], abs=0.04)
    assert errors[-1] < 1e-2
