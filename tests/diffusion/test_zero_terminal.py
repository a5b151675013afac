"""Schedules that end in pure noise (Lin et al. 2024), and who can begin there."""

import math

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr

from harness.diffusion.objective import TARGETS, Denoiser, Estimate, check_target
from harness.diffusion.samplers import SAMPLERS
from harness.diffusion.schedules import SCHEDULES
from harness.diffusion.times import SPACINGS
from harness.errors import BadOption

TABLES = [name for name in SCHEDULES if SCHEDULES[name]().table_steps]
ENTRIES = torch.arange(1, 1001, dtype=torch.float64) / 1000
# They divide by alpha, or halve steps of log SNR.
FROM_SIGNAL = ["ab2", "dpm_solver_2", "dpmpp_sde", "edm", "euler", "euler_ancestral", "heun",
               "ipndm_v"]  # fmt: skip
FRESH = ["ddpm", "ddpm_large", "dpmpp_2m_sde", "dpmpp_3m_sde", "predictor_corrector"]
FROM_NOISE = [name for name in SAMPLERS if name not in FROM_SIGNAL]
FALLING = torch.tensor([1.0, 0.83, 0.6, 0.35, 0.1, 0.0], dtype=torch.float64)


def tensor(value):
    return torch.tensor(value, dtype=torch.float64)


def normal(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=TABLES)
def pair(request):
    """A schedule as it is and with zero terminal SNR."""
    plain = SCHEDULES[request.param]()
    return plain, SCHEDULES[request.param](zero_terminal_snr=True)


@pytest.fixture(params=[*TABLES, "flow"])
def to_noise(request):
    """A schedule that ends in pure noise."""
    options = {} if request.param == "flow" else {"zero_terminal_snr": True}
    return SCHEDULES[request.param](**options)


# The schedule.


def test_the_signal_rates_are_shifted_and_scaled_by_algorithm_1_of_the_paper(pair):
    plain, schedule = pair
    alphas_bar_sqrt, product = [], 1.0
    for beta in plain.betas().tolist():
        product *= 1 - beta
        alphas_bar_sqrt.append(math.sqrt(product))
    first, last = alphas_bar_sqrt[0], alphas_bar_sqrt[-1]
    expected = [(alpha - last) * first / (first - last) for alpha in alphas_bar_sqrt]
    torch.testing.assert_close(schedule.alpha(ENTRIES), tensor(expected), rtol=1e-9, atol=1e-13)


def test_the_signal_rates_are_those_of_diffusers(pair):
    plain, schedule = pair
    betas = rescale_zero_terminal_snr(plain.betas())
    abar = torch.cumprod(1 - betas, dim=0)
    torch.testing.assert_close(schedule.alpha(ENTRIES) ** 2, abar, rtol=1e-9, atol=1e-13)


def test_linear_keeps_almost_no_signal_before_it_keeps_none():
    schedule = SCHEDULES["linear"](zero_terminal_snr=True)
    assert schedule.alpha(tensor(0.999)).item() ** 2 == pytest.approx(4.21e-9, rel=2e-3)
    assert schedule.alpha(tensor(1.0)) == 0
    assert schedule.sigma(tensor(1.0)) == 1
    assert schedule.log_snr(tensor(1.0)) == -math.inf


def test_the_first_noise_rate_is_as_before_also_in_float32(pair):
    plain, schedule = pair
    first = plain.sigma(tensor(0.001)).item()
    assert schedule.sigma(tensor(0.001)).item() == pytest.approx(first, rel=1e-10)
    assert schedule.sigma(torch.tensor(0.001)).item() == pytest.approx(first, rel=1e-6)


def test_in_the_last_cell_the_signal_rate_falls_evenly_to_zero(pair):
    _, schedule = pair
    before = schedule.alpha(tensor(0.999)).item()
    shares = [0.0, 0.25, 0.5, 0.9, 0.999, 1.0]
    alphas = schedule.alpha(tensor([(999 + share) / 1000 for share in shares])).tolist()
    assert alphas == pytest.approx([(1 - share) * before for share in shares], rel=1e-8, abs=0)


def test_in_all_other_cells_the_logarithm_of_abar_is_interpolated(pair):
    _, schedule = pair
    entries = schedule.alpha(torch.arange(0, 1000, dtype=torch.float64) / 1000) ** 2
    middle = (torch.arange(0, 999, dtype=torch.float64) + 0.5) / 1000
    quarter = (torch.arange(0, 999, dtype=torch.float64) + 0.25) / 1000
    torch.testing.assert_close(
        schedule.alpha(middle) ** 2, (entries[:-1] * entries[1:]).sqrt(), rtol=1e-9, atol=0
    )
    torch.testing.assert_close(
        schedule.alpha(quarter) ** 2, entries[:-1] ** 0.75 * entries[1:] ** 0.25, rtol=1e-9, atol=0
    )


def test_only_flow_ends_in_pure_noise_without_the_option(pair):
    plain, schedule = pair
    assert schedule.ends_in_pure_noise
    assert not plain.ends_in_pure_noise
    assert [name for name in SCHEDULES if SCHEDULES[name]().ends_in_pure_noise] == ["flow"]


# What cannot begin there.


def test_the_noise_says_nothing_of_the_image_where_no_signal_is_left(to_noise):
    with pytest.raises(BadOption) as refused:
        check_target("noise", to_noise)
    assert "target 'noise' cannot be used with zero terminal SNR" in str(refused.value)
    assert "divided by 0" in str(refused.value)
    assert "Use target 'velocity', 'image' or 'flow'." in str(refused.value)
    for name in TARGETS:
        check_target(name, SCHEDULES["cosine"]())
        if name != "noise":
            check_target(name, to_noise)


@pytest.mark.parametrize("name", ["log_snr", "karras"])
def test_even_steps_of_log_snr_cannot_begin_at_infinity(to_noise, name):
    message = f"spacing '{name}' cannot begin where no signal is left .*'trailing' or 'angle'"
    with pytest.raises(BadOption, match=message):
        SPACINGS[name].check_schedule(to_noise)
    with pytest.raises(BadOption, match=message):
        SPACINGS[name](to_noise, 10)
    SPACINGS[name].check_schedule(SCHEDULES["linear"]())


@pytest.mark.parametrize(
    "name", sorted(set(SPACINGS) - {"log_snr", "karras", "explicit", "fitted"})
)
def test_all_other_spacings_can(to_noise, name):
    SPACINGS[name].check_schedule(to_noise, 20)
    assert (SPACINGS[name](to_noise, 20).diff() < 0).all()


def sample(name, schedule, times, denoise, **options):
    x, generator = normal(8, seed=1), torch.Generator().manual_seed(2)
    return SAMPLERS[name](
        denoise,
        schedule,
        x,
        times,
        lambda: torch.randn(8, dtype=torch.float64, generator=generator),
        **options,
    )


@pytest.mark.parametrize("name", FROM_SIGNAL)
def test_samplers_that_divide_by_the_signal_rate_refuse_to_begin_there(to_noise, name):
    schedule = to_noise
    with pytest.raises(BadOption) as refused:
        sample(name, schedule, FALLING, lambda x, t: x)
    assert f"sampler '{name}' divides by the signal rate" in str(refused.value)
    assert "zero terminal SNR" in str(refused.value)
    with pytest.raises(BadOption):
        SAMPLERS[name].check_start(-math.inf)
    SAMPLERS[name].check_start(-20.0)
    assert sample(name, schedule, FALLING[1:], lambda x, t: torch.tanh(x)).isfinite().all()


# What can: under one denoiser, said as a velocity or as the image.


def denoiser(schedule, target):
    def network(x, log_snr):
        x_0 = torch.tanh(x + log_snr / 10)
        if target == "image":
            return x_0
        alpha, sigma = torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()
        return alpha * (x - alpha * x_0) / sigma - sigma * x_0

    return Denoiser(Estimate(network, schedule, TARGETS[target]))


@pytest.mark.parametrize("target", ["image", "velocity"])
@pytest.mark.parametrize("spacing", ["uniform", "trailing", "linspace", "angle"])
@pytest.mark.parametrize("name", FROM_NOISE)
def test_all_other_samplers_begin_in_pure_noise(to_noise, name, spacing, target):
    schedule = to_noise
    for steps in (1, 2, 3, 10):
        times = SPACINGS[spacing](schedule, steps)
        images = sample(name, schedule, times, denoiser(schedule, target))
        assert images.isfinite().all()
        # 1.2 for 1: at log SNR = -inf the network is told -20, where alpha is 5e-5 and not 0.
        assert images.abs().max() < 1.2


@pytest.mark.parametrize("name", [name for name in FROM_NOISE if name not in FRESH])
def test_the_first_step_takes_all_that_is_there_for_noise(to_noise, name):
    schedule = to_noise
    s = tensor(0.83)
    x, x_0 = normal(8, seed=1), tensor(0.3)
    stepped = sample(name, schedule, FALLING[:2], lambda x, t: x_0)
    torch.testing.assert_close(stepped, schedule.alpha(s) * x_0 + schedule.sigma(s) * x)


@pytest.mark.parametrize("name", ["dpmpp_2m", "dpmpp_3m"])
def test_dpmpp_carries_nothing_on_from_infinitely_far_away(to_noise, name):
    schedule = to_noise
    times, denoise = FALLING[:-1], denoiser(schedule, "image")
    x = sample("ddim", schedule, times[:2], denoise)
    expected = SAMPLERS[name](denoise, schedule, x, times[1:], lambda: None)
    torch.testing.assert_close(sample(name, schedule, times, denoise), expected)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_unipc_corrects_its_first_step_by_half_the_change_of_the_image_and_begins_there(
    to_noise, order
):
    # Its corrector of order 1 as h grows without end: e^-h is 0, B(h) is -1, the weight 1/2.
    schedule = to_noise
    times, denoise = FALLING[:-1], denoiser(schedule, "image")
    x, t = normal(8, seed=1), times[1]
    first = denoise(x, times[0])
    arrived = schedule.alpha(t) * first + schedule.sigma(t) * x
    second = denoise(arrived, t)
    corrected = arrived + schedule.alpha(t) * (second - first) / 2
    expected = SAMPLERS["unipc"](
        lambda x, time: second if time == t else denoise(x, time),
        schedule,
        corrected,
        times[1:],
        lambda: None,
        order=order,
    )
    sampled = sample("unipc", schedule, times, denoise, order=order)
    torch.testing.assert_close(sampled, expected, rtol=0, atol=1e-12)
