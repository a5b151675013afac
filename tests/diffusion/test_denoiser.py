"""Between a network and the samplers: what it is asked, and what its answer means."""

import math

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from harness.diffusion.objective import CLIPS, TARGETS, Denoiser, Estimate, outside
from harness.diffusion.samplers import SAMPLERS, ddim
from harness.diffusion.schedules import SCHEDULES
from harness.diffusion.times import SPACINGS

SHAPE = (6, 1, 3, 3)
TARGET_NAMES = ["noise", "image", "velocity", "flow", "edm"]


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def time(t):
    return torch.tensor(t, dtype=torch.float64)


# One denoiser, said in the words of each target.


def spoken_as(name):
    """A network for a target, made of one denoiser tanh(x + log SNR / 10); it knows only x and
    the log SNR, as a trained one does, and works in float64 whatever it is given."""

    def network(x, log_snr):
        shape = (-1, *[1] * (x.ndim - 1))
        exact, known = x.double(), log_snr.double().view(shape)
        alpha, sigma = torch.sigmoid(known).sqrt(), torch.sigmoid(-known).sqrt()
        x_0 = torch.tanh(exact + known / 10)
        eps = (exact - alpha * x_0) / sigma
        said = {"noise": eps, "image": x_0, "velocity": alpha * eps - sigma * x_0,
                "flow": eps - x_0, "edm": sigma * x_0 - alpha * eps}  # fmt: skip
        return said[name].to(x.dtype)

    return network


def sample(target, schedule, dtype=torch.float64, sampler="ddim", spacing="trailing", steps=20):
    # Not clamped at 20: sigmoid goes beyond, at its floor of 1e-9, and what is said must be exact.
    estimate = Estimate(spoken_as(target), schedule, TARGETS[target], trained=(-25.0, 25.0))
    generator = torch.Generator().manual_seed(4)
    return SAMPLERS[sampler](
        Denoiser(estimate),
        schedule,
        normal(*SHAPE).to(dtype),
        SPACINGS[spacing](schedule, steps),
        lambda: torch.randn(SHAPE, dtype=torch.float64, generator=generator).to(dtype),
    )


@pytest.mark.parametrize("target", ["noise", "velocity"])
@pytest.mark.parametrize("sampler", SAMPLERS.names())
def test_all_targets_give_the_same_samples(schedule, sampler, target):
    same = sample("image", schedule, sampler=sampler)
    sampled = sample(target, schedule, sampler=sampler)
    # An error of the noise is divided by alpha, and a step that looks ahead then multiplies it by a
    # step of sigma / alpha: under sigmoid and cosine_discrete the first is of tens of thousands.
    loses = sampler in ("heun", "edm", "dpm_solver_2") and target == "noise"
    bound = 1e-13 / schedule.alpha(time(1.0)).item() if loses else 0
    torch.testing.assert_close(sampled, same, rtol=0, atol=max(1e-10, bound))


@pytest.mark.parametrize("target", TARGET_NAMES)
@pytest.mark.parametrize("sampler", SAMPLERS.names())
@pytest.mark.parametrize("schedule_name", ["linear", "cosine"])
def test_all_targets_give_nearly_the_same_samples_in_float32(schedule_name, sampler, target):
    schedule = SCHEDULES[schedule_name]()
    same = sample("image", schedule, sampler=sampler)
    # An error of the noise is divided by alpha on its way to the image.
    bound = 1e-6 / schedule.alpha(time(1.0)).item() if target == "noise" else 1e-5
    sampled = sample(target, schedule, torch.float32, sampler)
    assert sampled.dtype == torch.float32
    torch.testing.assert_close(sampled.double(), same, rtol=0, atol=bound)


@pytest.mark.parametrize("sampler", SAMPLERS.names())
def test_image_and_velocity_give_the_same_samples_where_the_last_time_has_no_signal(sampler):
    schedule = SCHEDULES["linear"](zero_terminal_snr=True)
    # Spacing `leading` of 10 begins at t = .901, so that every sampler can.
    same, sampled = (
        sample(target, schedule, sampler=sampler, spacing="leading", steps=10)
        for target in ("image", "velocity")
    )
    torch.testing.assert_close(sampled, same, rtol=0, atol=1e-10)


# What the network is asked.


def recording_network(seen, answer=0.0):
    def network(x, log_snr):
        seen.append(log_snr)
        return torch.full_like(x, answer)

    return network


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("time_dtype", [torch.float32, torch.float64])
def test_the_network_is_told_the_log_snr_of_every_image(schedule, dtype, time_dtype):
    seen = []
    estimate = Estimate(recording_network(seen), schedule, TARGETS["velocity"])
    x, t = normal(*SHAPE, dtype=dtype), torch.tensor(0.375, dtype=time_dtype)
    image = estimate(x, t)
    assert image.dtype == dtype
    assert image.shape == SHAPE
    [log_snr] = seen
    assert log_snr.dtype == dtype
    assert log_snr.shape == (6,)
    expected = 2 * torch.log(schedule.alpha(t.double()) / schedule.sigma(t.double()))
    torch.testing.assert_close(log_snr.double(), expected.expand(6), rtol=1e-6, atol=1e-6)


def test_the_network_is_never_asked_about_a_log_snr_it_was_not_trained_at():
    trained_under, sampled_under = SCHEDULES["cosine"](), SCHEDULES["linear"]()
    low, high = trained_under.log_snr(time([1.0, 0.0])).tolist()
    seen = []
    estimate = Estimate(
        recording_network(seen), sampled_under, TARGETS["image"], trained=(low, high)
    )
    for t in (1.0, 0.5, 0.001):
        estimate(normal(*SHAPE), time(t))
    first, middle, last = (log_snr[0].item() for log_snr in seen)
    assert (first, last) == (low, high)  # linear has both more noise and more signal
    assert middle == pytest.approx(sampled_under.log_snr(time(0.5)).item(), rel=1e-12)


@pytest.mark.parametrize(("t", "told"), [(0.0, 20.0), (1.0, -20.0)])
def test_the_network_sees_no_infinite_log_snr(t, told):
    seen = []
    schedule = SCHEDULES["linear"](zero_terminal_snr=True)
    Estimate(recording_network(seen), schedule, TARGETS["image"])(normal(*SHAPE), time(t))
    assert seen[0].tolist() == [told] * 6


def test_only_what_the_network_is_told_is_clamped_never_the_rates_themselves():
    schedule = SCHEDULES["linear"]()
    estimate = Estimate(
        recording_network([], answer=0.5), schedule, TARGETS["velocity"], trained=(-1.0, 1.0)
    )
    x, t = normal(*SHAPE), time(0.9)
    expected = schedule.alpha(t) * x - schedule.sigma(t) * 0.5  # Salimans & Ho 2022, appendix D
    torch.testing.assert_close(estimate(x, t), expected)


def test_a_velocity_is_the_image_with_its_sign_turned_where_no_signal_is_left():
    schedule = SCHEDULES["linear"](zero_terminal_snr=True)
    estimate = Estimate(recording_network([], answer=0.5), schedule, TARGETS["velocity"])
    assert torch.equal(estimate(normal(*SHAPE), time(1.0)), torch.full(SHAPE, -0.5).double())


def test_log_snrs_beyond_those_of_the_training_are_counted():
    trained = SCHEDULES["cosine"]().log_snr(time([1.0, 0.0])).tolist()
    low, high = trained
    assert outside(time([low, 0.0, high]), (low, high)) == 0
    assert outside(time([low - 1e-10, high + 1e-10]), (low, high)) == 0
    assert outside(time([low - 0.01, 0.0, high + 0.01, high + 3]), (low, high)) == 3
    assert outside(time([]), (low, high)) == 0
    assert outside(torch.tensor([low - 0.01, 1.0]), (low, high)) == 1


def test_what_no_network_is_told_apart_is_not_counted():
    # Beyond its limit of 20 a log SNR is 20 to the network, also to one trained at infinity.
    assert outside(time([math.inf, 25.0, -math.inf, -21.0]), (-20.0, 20.0)) == 0
    assert outside(time([math.inf, 25.0, -math.inf]), (-math.inf, math.inf)) == 0
    assert outside(time([math.inf, -math.inf]), (-20.0, 9.0)) == 1
    assert outside(time([math.inf, -math.inf]), (-9.0, 20.0)) == 1


# Counting and clipping.


def test_evaluations_are_counted(schedule):
    denoise = Denoiser(Estimate(recording_network([]), schedule, TARGETS["image"]))
    assert denoise.evaluations == 0
    for steps in (7, 10):
        ddim(denoise, schedule, normal(*SHAPE), SPACINGS["uniform"](schedule, steps), lambda: None)
    assert denoise.evaluations == 17


def test_a_denoiser_takes_any_estimate_of_the_image():
    denoise = Denoiser(lambda x, t: x * t)
    x = normal(*SHAPE)
    assert torch.equal(denoise(x, time(0.25)), x * 0.25)
    assert denoise.evaluations == 1


def test_the_estimate_is_clipped_to_the_range_of_the_data_where_asked():
    schedule, t = SCHEDULES["linear"](), time(0.9)
    x = torch.tensor([[-3.0], [0.01], [3.0]], dtype=torch.float64)
    alpha = schedule.alpha(t).item()
    estimate = Estimate(recording_network([]), schedule, TARGETS["noise"])
    torch.testing.assert_close(estimate(x, t), x / alpha)
    torch.testing.assert_close(Denoiser(estimate)(x, t), x / alpha)
    clipped = Denoiser(estimate, clip=CLIPS["static"])(x, t)
    torch.testing.assert_close(clipped, (x / alpha).clamp(-1, 1))
    assert clipped[[0, 2]].flatten().tolist() == [-1, 1]


def test_dynamic_thresholding_is_that_of_the_paper():
    # Saharia et al. 2022, appendix: s = percentile(|x_0|, p) of an image; s = max(s, 1);
    # x_0 = clip(x_0, -s, s) / s.
    x_0 = normal(5, 3, 4, 4) * torch.tensor([0.2, 0.5, 1, 2, 5]).double().view(-1, 1, 1, 1)
    for quantile in (0.9, 0.995, 1.0):
        found = CLIPS["dynamic"](x_0, (-1.0, 1.0), quantile=quantile)
        for image, clipped in zip(x_0.numpy(), found.numpy(), strict=True):
            s = max(np.percentile(np.abs(image), 100 * quantile), 1)
            np.testing.assert_allclose(clipped, np.clip(image, -s, s) / s, rtol=1e-12)
    assert torch.equal(CLIPS["dynamic"](x_0, (-1.0, 1.0), quantile=0.995),
                       CLIPS["dynamic"](x_0, (-1.0, 1.0)))  # fmt: skip


def test_dynamic_thresholding_is_that_of_diffusers():
    scheduler = DDPMScheduler(thresholding=True, sample_max_value=1e9)
    x_0 = 2 * normal(4, 3, 5, 5)
    expected = scheduler._threshold_sample(x_0)
    torch.testing.assert_close(CLIPS["dynamic"](x_0, (-1.0, 1.0)), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", CLIPS.names())
def test_clips_keep_to_the_bounds_they_are_given_channel_by_channel(name):
    x_0 = 3 * normal(4, 2, 3, 3)
    low, high = (torch.tensor(ends).double().view(2, 1, 1) for ends in ([-1, -3], [0.5, 2]))
    found = CLIPS[name](x_0, (low, high))
    # As in [-1, 1], and then moved.
    centre, half = (low + high) / 2, (high - low) / 2
    expected = centre + half * CLIPS[name]((x_0 - centre) / half, (-1.0, 1.0))
    torch.testing.assert_close(found, expected)
    assert ((found >= low - 1e-12) & (found <= high + 1e-12)).all()
