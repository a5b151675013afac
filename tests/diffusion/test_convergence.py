"""How fast each sampler nears the exact probability flow, on a mixture where the flow bends.

The reference is an adaptive solution in log SNR, at rtol 1e-12. Times are even in log SNR, with
both ends and without a jump to 0, since the last step to 0 is of first order in every sampler.
"""

import math
from functools import cache

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from harness.diffusion.analytic import mixture_denoiser
from harness.diffusion.samplers import SAMPLERS
from harness.diffusion.schedules import SCHEDULES

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


def linear_at_even_log_snr(steps, start=1.0, end=0.01):
    """Times of linear at even log SNR from start to end, both included; typed from its betas."""
    log_abar = np.concatenate([[0], np.cumsum(np.log1p(-np.linspace(1e-4, 0.02, 1000)))])

    def log_snr(t):
        at = np.interp(t * 1000, np.arange(1001), log_abar)
        return at - np.log(-np.expm1(at))

    wanted = np.linspace(log_snr(start), log_snr(end), steps + 1)
    times = np.interp(-np.log1p(np.exp(-wanted)), log_abar[::-1], np.arange(1000, -1, -1) / 1000)
    times[[0, -1]] = start, end
    return torch.from_numpy(times), wanted


def cosine_at_even_log_snr(steps, start=1.0, end=0.01):
    """The same for the cosine schedule between signal rates .999 and .01, typed from its angles."""
    first, last = math.acos(0.999), math.acos(0.01)

    def log_snr(t):
        return -2 * np.log(np.tan(first + (last - first) * t))

    wanted = np.linspace(log_snr(start), log_snr(end), steps + 1)
    times = (np.arctan(np.exp(-wanted / 2)) - first) / (last - first)
    times[[0, -1]] = start, end
    return torch.from_numpy(times), wanted


class Problem:
    """A schedule, its times, 400 points of noise and where the exact flow takes them."""

    def __init__(self, schedule, times):
        self.schedule, self.times = schedule, times
        parameters = map(torch.from_numpy, (MEANS, VARIANCES, WEIGHTS))
        self.denoise = mixture_denoiser(schedule, *parameters)
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(400, 2, dtype=torch.float64, generator=generator)
        log_snr = times(1)[1]
        self.exact = torch.from_numpy(exact_flow(self.x.numpy(), log_snr[0], log_snr[-1]))

    @cache  # noqa: B019 - the problems live as long as this module's tests
    def error(self, name, steps, **options):
        times = self.times(steps)[0]
        sampler = SAMPLERS[name]
        reached = sampler(self.denoise, self.schedule, self.x, times, lambda: None, **options)
        return (reached - self.exact).square().mean().sqrt().item()

    def order(self, name, numbers, **options):
        """The slope of log error against log steps, as a straight line through all numbers."""
        errors = [self.error(name, steps, **options) for steps in numbers]
        return -np.polyfit(np.log(numbers), np.log(errors), 1)[0]


@pytest.fixture(scope="module")
def linear():
    return Problem(SCHEDULES["linear"](), linear_at_even_log_snr)


@pytest.fixture(scope="module")
def smooth():
    schedule = SCHEDULES["cosine"](max_signal=0.999, min_signal=0.01)
    return Problem(schedule, cosine_at_even_log_snr)


FOUR_HALVINGS = [80, 160, 320, 640, 1280]


@pytest.mark.parametrize(
    ("name", "order", "within"),
    [
        ("ddim", 1, 0.1),
        ("euler", 1, 0.1),
        ("heun", 2, 0.15),
        ("ab2", 2, 0.15),
        ("dpmpp_2m", 2, 0.15),
        ("dpmpp_3m", 3, 0.15),
        ("dpm_solver_2", 2, 0.15),
    ],
)
def test_the_error_of_a_sampler_is_of_its_order(linear, name, order, within):
    assert linear.order(name, FOUR_HALVINGS) == pytest.approx(order, abs=within)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_unipc_gains_an_order_by_its_corrector(linear, order):
    # At 1,280 steps of order 3 the error, 7e-11, is nearly that of the reference.
    numbers = FOUR_HALVINGS[:4]
    assert linear.order("unipc", numbers, order=order) == pytest.approx(order + 1, abs=0.15)


@pytest.mark.parametrize(("order", "reached"), [(1, 1), (2, 2), (3, 2), (4, 2)])
def test_ipndm_is_of_second_order_at_most_since_its_weights_are_for_equal_steps(
    linear, order, reached
):
    # Steps that are even in log SNR shrink by a constant factor in sigma / alpha: that factor is
    # 1 + O(h), which spoils the weights at second order.
    assert linear.order("ipndm", FOUR_HALVINGS, order=order) == pytest.approx(reached, abs=0.15)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_ipndm_v_is_of_its_order_since_its_weights_are_for_the_steps_as_they_are(linear, order):
    assert linear.order("ipndm_v", FOUR_HALVINGS, order=order) == pytest.approx(order, abs=0.2)


def test_with_half_of_the_curvature_dpmpp_3m_is_of_second_order_though_more_exact_than_2m(linear):
    assert linear.order("dpmpp_3m", FOUR_HALVINGS, halved=True) == pytest.approx(2, abs=0.15)
    assert linear.error("dpmpp_3m", 80, halved=True) < linear.error("dpmpp_2m", 80) / 3
    assert linear.error("dpmpp_3m", 80) < linear.error("dpmpp_3m", 80, halved=True) / 5


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_deis_is_of_the_order_of_its_polynomial_where_the_schedule_is_smooth(smooth, order):
    # Of order 4 the error soon is that of its first steps, which know fewer noises.
    numbers = [80, 160, 320] if order == 4 else FOUR_HALVINGS
    assert smooth.order("deis", numbers, order=order) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize(("order", "numbers"), [(2, FOUR_HALVINGS), (3, [80, 160, 320, 640])])
def test_deis_is_so_under_a_table_until_its_kinks_show(linear, order, numbers):
    assert linear.order("deis", numbers, order=order) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("ddim", 2e-3),
        ("heun", 5e-6),
        ("ab2", 1.2e-5),
        ("ipndm", 2e-6),
        ("dpmpp_2m", 3e-6),
        ("dpmpp_3m", 1e-8),
        ("dpm_solver_2", 2.5e-6),
        ("ipndm_v", 5e-9),
        ("unipc", 3e-8),
        ("deis", 1e-7),
    ],
)
def test_the_error_itself_is_small_at_many_steps(linear, name, most):
    assert linear.error(name, 1280) < most


def test_for_the_same_evaluations_higher_order_is_nearer_and_memory_nearer_than_a_second_look(
    linear,
):
    # 159 evaluations each, or 160 where no last step to 0 spares one.
    assert linear.error("heun", 80) < linear.error("ddim", 159) / 3
    assert linear.error("dpmpp_2m", 159) < linear.error("heun", 80) / 3
