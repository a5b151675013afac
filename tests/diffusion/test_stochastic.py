"""Samplers that add fresh noise, against algorithms typed out and distributions known exactly."""

import math
from itertools import pairwise

import pytest
import torch

from harness.diffusion.analytic import gains
from harness.diffusion.samplers import SAMPLERS
from harness.diffusion.schedules import SCHEDULES
from harness.diffusion.times import SPACINGS

FALLING = torch.tensor([1.0, 0.83, 0.6, 0.35, 0.1, 0.0], dtype=torch.float64)


def some_image(x, t):
    """An estimate of x_0 that is not linear in x and depends on the time."""
    return torch.tanh(1.3 * x + t) + 0.2 * torch.cos(3 * x)


def normal(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def run(name, schedule, times=FALLING, denoise=some_image, **options):
    drawn = noises()
    return SAMPLERS[name](denoise, schedule, normal(12), times, lambda: next(drawn), **options)


def noises():
    return (normal(12, seed=100 + k) for k in range(100))


def rho(schedule, t):
    return (schedule.sigma(t) / schedule.alpha(t)).item()


# euler_ancestral.


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_euler_ancestral_is_ddim_with_the_same_eta(schedule, eta):
    for times in (FALLING, FALLING[:-1], SPACINGS["trailing"](schedule, 20)):
        expected = run("ddim", schedule, times, eta=eta)
        found = run("euler_ancestral", schedule, times, eta=eta)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)


def test_euler_ancestral_is_ddpm_unless_told_otherwise(schedule):
    expected = run("ddpm", schedule)
    torch.testing.assert_close(run("euler_ancestral", schedule), expected, rtol=0, atol=1e-11)


# edm: Karras et al. 2022, Algorithm 2, on y = x / alpha; its times are sigma / alpha.


def algorithm_2(schedule, times, churn, low, high, s_noise):
    """All but the step to 0."""
    fresh = noises()
    sigmas = [rho(schedule, t) for t in times]
    steps, most = len(times) - 1, rho(schedule, torch.tensor(1.0, dtype=torch.float64))

    def denoiser(y, sigma):
        alpha = 1 / math.sqrt(1 + sigma**2)
        t = schedule.t(torch.tensor(-2 * math.log(sigma), dtype=torch.float64))
        return some_image(alpha * y, t)

    y = normal(12) / schedule.alpha(times[0])
    for sigma, sigma_next in pairwise(sigmas[:-1]):
        gamma = min(churn / steps, math.sqrt(2) - 1) if low <= sigma <= high else 0.0
        raised = min(sigma + gamma * sigma, most)
        if raised > sigma:
            y = y + math.sqrt(raised**2 - sigma**2) * s_noise * next(fresh)
        d = (y - denoiser(y, raised)) / raised
        there = y + (sigma_next - raised) * d
        d_there = (there - denoiser(there, sigma_next)) / sigma_next
        y = y + (sigma_next - raised) * (d + d_there) / 2
    return some_image(schedule.alpha(times[-2]) * y, times[-2])


@pytest.mark.parametrize("name", ["linear", "cosine", "shifted_cosine"])
@pytest.mark.parametrize(
    ("churn", "low", "high", "s_noise"),
    [(40.0, 0.05, 50.0, 1.003), (1.0, 0.0, 1e9, 1.0), (1.0, 0.5, 3.0, 1.1), (0.0, 0.0, 1e9, 1.0)],
)
def test_edm_is_algorithm_2_of_the_paper(name, churn, low, high, s_noise):
    schedule = SCHEDULES[name]()
    options = {"s_churn": churn, "s_tmin": low, "s_tmax": high, "s_noise": s_noise}
    expected = algorithm_2(schedule, FALLING, churn, low, high, s_noise)
    found = run("edm", schedule, **options)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    if options == {"s_churn": 40.0, "s_tmin": 0.05, "s_tmax": 50.0, "s_noise": 1.003}:
        assert torch.equal(run("edm", schedule), found)


def test_without_churn_edm_is_heun_bit_for_bit(schedule):
    assert torch.equal(run("edm", schedule, s_churn=0.0), run("heun", schedule))
    assert torch.equal(run("edm", schedule, s_tmin=1e9), run("heun", schedule))
    assert not torch.equal(run("edm", schedule), run("heun", schedule))


# dpmpp_sde: with x_0 known, x at the middle and the end of a step are of the forward process given
# that at its beginning: y = x / alpha is a Brownian bridge in (sigma / alpha)^2, from x_0 at 0.


@pytest.mark.parametrize(("t", "s"), [(1.0, 0.3), (0.6, 0.5), (0.3, 0.01)])
def test_both_noises_of_dpmpp_sde_are_of_one_brownian_path(schedule, t, s):
    times, seen = torch.tensor([t, s], dtype=torch.float64), []

    def denoise(x, time):
        seen.append((rho(schedule, time), x / schedule.alpha(time)))
        return torch.zeros_like(x)

    drawn = iter(torch.eye(2, dtype=torch.float64))
    end = SAMPLERS["dpmpp_sde"](
        denoise, schedule, torch.zeros(2, dtype=torch.float64), times, lambda: next(drawn)
    ) / schedule.alpha(times[1])
    (first, _), (middle, between) = seen
    last = rho(schedule, times[1])
    assert math.log(middle) == pytest.approx((math.log(first) + math.log(last)) / 2)

    def bridge(a, b):
        return min(a, b) ** 2 * (1 - max(a, b) ** 2 / first**2)

    found = [(between @ between).item(), (end @ end).item(), (between @ end).item()]
    expected = [bridge(middle, middle), bridge(last, last), bridge(middle, last)]
    assert found == pytest.approx(expected, rel=1e-9)


def variance_off(name, steps, **options):
    """How far from that of the noisy data, relative to it, for data of variance .1, 1/4 and 2."""
    schedule = SCHEDULES["cosine"](max_signal=0.99)
    ends = schedule.log_snr(torch.tensor([1.0, 0.2], dtype=torch.float64))
    even = torch.linspace(*ends.tolist(), steps + 1, dtype=torch.float64)
    lam = torch.tensor([0.1, 0.25, 2.0], dtype=torch.float64)
    found = gains(SAMPLERS[name], schedule, schedule.t(even), lam, **options).square().sum(1)
    abar = torch.sigmoid(ends[1])
    return (found / (abar * lam + 1 - abar) - 1).abs().max().item()


@pytest.mark.parametrize(
    ("name", "order"), [("ddpm", 1), ("dpmpp_sde", 2), ("dpmpp_2m_sde", 2), ("dpmpp_3m_sde", 2)]
)
def test_the_variance_nears_that_of_the_data_faster_than_by_ddpm(name, order):
    # Estimates along a noisy path are not smooth: a third one gains no order.
    errors = [variance_off(name, steps) for steps in (64, 128)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.35)


# predictor_corrector: Song et al. 2021, Algorithms 3 and 5.


@pytest.mark.parametrize(("corrector_steps", "predictor"), [(1, "ddpm"), (3, "ddpm"), (2, "ddim")])
def test_predictor_and_corrector_follow_the_algorithms_of_the_paper(
    schedule, corrector_steps, predictor
):
    snr, fresh, x = 0.2, noises(), normal(12)
    for step in pairwise(FALLING[:-1]):
        draw = (lambda: next(fresh)) if predictor == "ddpm" else None
        x = SAMPLERS[predictor](some_image, schedule, x, torch.stack(step), draw)
        alpha, sigma = schedule.alpha(step[1]), schedule.sigma(step[1])
        for _ in range(corrector_steps):
            score = -(x - alpha * some_image(x, step[1])) / sigma**2
            epsilon = 2 * (snr * sigma) ** 2
            x = x + epsilon * score + (2 * epsilon).sqrt() * next(fresh)
    expected = some_image(x, FALLING[-2])
    options = {"snr": snr, "corrector_steps": corrector_steps, "eta": float(predictor == "ddpm")}
    found = run("predictor_corrector", schedule, **options)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)


def test_without_a_corrector_only_the_predictor_is_left(schedule):
    alone = run("predictor_corrector", schedule, corrector_steps=0)
    assert torch.equal(alone, run("ddim", schedule, eta=1.0))
    still = run("predictor_corrector", schedule, snr=0.0, eta=0.0)
    assert torch.equal(still, run("ddim", schedule))


def test_the_corrector_ends_at_the_variance_at_which_its_step_is_balanced():
    # x' = (1 - e/V) x + sqrt(2e) z leaves V / (1 - e / (2V)) as it is, V that of x_s on the data.
    schedule, lam, snr = SCHEDULES["linear"](), 0.25, 0.16
    times = torch.tensor([0.5, 0.4], dtype=torch.float64)
    found = gains(
        SAMPLERS["predictor_corrector"], schedule, times, torch.tensor([lam]).double(),
        snr=snr, corrector_steps=100,
    ).square().sum()  # fmt: skip
    alpha, sigma = schedule.alpha(times[1]).item(), schedule.sigma(times[1]).item()
    variance = alpha**2 * lam + sigma**2
    epsilon = 2 * (snr * sigma) ** 2
    assert found.item() == pytest.approx(variance / (1 - epsilon / (2 * variance)), rel=1e-3)
