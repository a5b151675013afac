"""Samplers on data whose results are known in closed form: no network, no random tolerance.

Data N(mu, lam): with V(t) = abar lam + 1 - abar the best denoiser is linear, so a sampler is a
sum c_0 x_T + c_1 z_1 + c_2 z_2 + ... over the noise it draws. `coefficients` finds each c by
letting one of them be 1 and the others 0: the variance of the samples is then exact.
"""

import math
from itertools import pairwise

import pytest
import torch

from harness.diffusion.samplers import SAMPLERS, ddim, ddpm, ddpm_large, dpmpp_2m_sde
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
    start, *units = torch.eye(2 * len(times) - 1, dtype=torch.float64)  # two noises a step
    drawn = iter(units)
    denoise = best_denoiser(schedule, lam)
    return sampler(denoise, schedule, start, times, lambda: next(drawn), **options)


def relative_spread(sampler, schedule, spacing, steps, lam=1.0, **options):
    """The standard deviation of the samples from N(0, 1) noise, over that of the data."""
    times = times_of(schedule, spacing, steps)
    sums = coefficients(sampler, schedule, times, lam, **options)
    return math.sqrt(sums.square().sum().item() / lam)


def times_of(schedule, spacing, steps):
    if spacing == "explicit":
        options = {"times": tuple((1 - k / steps) ** 2 for k in range(steps))}
        return SPACINGS[spacing](schedule, steps, **options)
    return SPACINGS[spacing](schedule, steps)


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


@pytest.mark.parametrize("steps", [1, 10, 20, 100])
def test_the_spacing_angle_makes_all_cosines_equal_under_any_schedule(schedule, steps):
    first, last = (math.asin(rates(schedule, t)[1]) for t in (1, 0))
    d = (first - last) / steps
    # The step to 0 returns the image and not x: where the schedule stops short of the image
    # (last > 0), that step loses the cosine of all that is left.
    expected = math.cos(d) ** (steps - 1) * math.cos(last + d)
    assert relative_spread(ddim, schedule, "angle", steps) == pytest.approx(expected, rel=1e-7)


def test_the_spacing_angle_has_the_published_figures_where_the_schedule_ends_at_two_percent():
    schedule = SCHEDULES["cosine"](max_signal=1.0)
    for steps, rounded in ((10, 0.886), (20, 0.942), (100, 0.988)):
        spread = relative_spread(ddim, schedule, "angle", steps)
        assert spread == pytest.approx(math.cos(math.acos(0.02) / steps) ** steps, rel=1e-9)
        assert spread == pytest.approx(rounded, abs=6e-4)


@pytest.mark.parametrize("lam", [0.04, 4.0])
def test_angle_for_the_spread_of_the_data_is_better_than_any_other_grid(lam):
    # The factor of each step is a cosine of its angle, and these are best if they are even.
    schedule, steps = SCHEDULES["linear"](), 10
    times = SPACINGS["angle"](schedule, steps, data_std=math.sqrt(lam))

    def spread(times):
        return coefficients(ddim, schedule, times, lam).square().sum().sqrt().item()

    best = spread(times)
    alpha, sigma = rates(schedule, 1)
    first, least = math.atan2(sigma, alpha * lam**0.5), math.sqrt(alpha**2 * lam + sigma**2)
    assert best == pytest.approx(math.sqrt(lam) / least * math.cos(first / steps) ** steps)
    for spacing in ("angle", "trailing", "log_snr", "karras"):
        assert spread(SPACINGS[spacing](schedule, steps)) < best - 1e-3
    for k in range(1, steps):
        for factor in (0.98, 1.02):
            moved = times.clone()
            moved[k] *= factor
            assert spread(moved) < best


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
@pytest.mark.parametrize("spacing", sorted(set(SPACINGS) - {"fitted"}))
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


@pytest.mark.parametrize("sampler", SAMPLERS.names())
@pytest.mark.parametrize("name", ["linear", "cosine_discrete", "scaled_linear", "sigmoid"])
def test_every_sampler_reaches_the_spread_of_the_data_with_many_steps(sampler, name):
    schedule = SCHEDULES[name]()
    spread = relative_spread(SAMPLERS[sampler], schedule, "trailing", 1000, lam=0.25)
    # sigmoid's first step divides sigma / alpha by 500, too far for the mean of two slopes.
    within = 0.025 if name == "sigmoid" and sampler in ("heun", "edm") else 0.01
    assert spread == pytest.approx(1, abs=within)


@pytest.mark.parametrize("name", ["laplace", "shifted_cosine"])
@pytest.mark.parametrize("sampler", SAMPLERS.names())
def test_every_sampler_reaches_it_where_the_schedule_ends_just_short_of_the_image(sampler, name):
    # They start and end at log SNR -15 and 15: what is lost there is a share of 4 e^-15.
    schedule = SCHEDULES[name]()
    spread = relative_spread(SAMPLERS[sampler], schedule, "log_snr", 600, lam=0.25)
    assert spread == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("steps", [2, 5, 20])
@pytest.mark.parametrize("lam", [0.04, 0.25, 2.0])
def test_the_variance_of_dpmpp_2m_sde_follows_its_recursion(schedule, steps, lam):
    # x_k and the last estimate are sums over the noise drawn: what the two have in common is kept
    # as a 2 x 2 covariance.
    times = times_of(schedule, "explicit", steps + 1)[:-1]
    (alpha, sigma), before, covariance = rates(schedule, times[0]), None, torch.zeros(2, 2).double()
    covariance[0, 0] = 1
    for t, s in pairwise(times):
        (alpha, sigma), (alpha_s, sigma_s) = rates(schedule, t), rates(schedule, s)
        h = math.log(alpha_s / sigma_s) - math.log(alpha / sigma)
        share = h / (2 * before) if before else 0.0
        best = alpha * lam / (alpha**2 * lam + sigma**2)
        image, kept = alpha_s * -math.expm1(-2 * h), sigma_s / sigma * math.exp(-h)
        turn = torch.tensor(
            [[kept + image * (1 + share) * best, -image * share], [best, 0]], dtype=torch.float64
        )
        covariance = turn @ covariance @ turn.T
        covariance[0, 0] += sigma_s**2 * -math.expm1(-2 * h)
        before = h
    reached = coefficients(dpmpp_2m_sde, schedule, times, lam).square().sum().item()
    assert reached == pytest.approx(covariance[0, 0].item(), rel=1e-9)


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
