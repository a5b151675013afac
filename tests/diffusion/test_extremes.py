"""At the ends of what options may be, schedules still fall and samplers still give numbers."""

import pytest
import torch

from harness.diffusion.analytic import gaussian_denoiser
from harness.diffusion.samplers import SAMPLERS
from harness.diffusion.schedules import SCHEDULES
from harness.diffusion.times import SPACINGS
from harness.errors import BadOption

EXTREMES = [
    ("linear", {"beta_end": 0.5}),
    ("linear", {"beta_start": 1e-6, "beta_end": 1e-6}),
    ("scaled_linear", {"beta_start": 0.5, "beta_end": 0.5}),
    ("cosine", {"max_signal": 1.0, "min_signal": 1e-6}),
    ("cosine_discrete", {"offset": 0.0, "max_beta": 0.9999}),
    ("sigmoid", {"start": -3.0, "end": 3.0, "tau": 0.2}),
    ("sigmoid", {"start": -15.0, "end": 15.0}),
    ("sigmoid", {"tau": 10.0}),
    ("laplace", {"b": 0.1, "mu": 4.0}),
    ("laplace", {"b": 1.0, "mu": -4.0}),
    ("quad", {"beta_end": 0.02, "T": 10_000}),
    ("linear", {"T": 2}),
    ("signal_linear", {"max_signal": 1.0, "min_signal": 1e-6}),
    ("noise_linear", {"max_signal": 1.0, "min_signal": 1e-6}),
    ("normal", {"mean": 4.0, "std": 3.5}),
    ("normal", {"mean": -4.0, "std": 0.1}),
    ("log_snr_linear", {"max_log_snr": 20.0, "min_log_snr": -20.0}),
    ("shifted_cosine", {"image_size": 1}),
    ("shifted_cosine", {"image_size": 16_384}),
]


@pytest.mark.parametrize(("name", "options"), EXTREMES, ids=str)
@pytest.mark.parametrize("spacing", ["uniform", "trailing", "leading"])
def test_every_sampler_gives_numbers(name, options, spacing):
    SCHEDULES.check_options(name, options)
    schedule = SCHEDULES[name](**options)
    x = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for steps in (3, 10, 100):
        if spacing != "uniform" and steps > (schedule.table_steps or steps):
            continue
        times = SPACINGS[spacing](schedule, steps)
        for sampler in SAMPLERS:
            for eta in (0.0, 1.0) if sampler == "ddim" else (None,):
                given = {} if eta is None else {"eta": eta}
                denoise = gaussian_denoiser(schedule, 0.1, 0.25)
                draw = torch.zeros_like(x)
                images = SAMPLERS[sampler](denoise, schedule, x, times, lambda d=draw: d, **given)
                assert images.isfinite().all(), (sampler, steps)


@pytest.mark.parametrize(("name", "options"), EXTREMES, ids=str)
def test_every_schedule_falls_and_finds_its_times_again(name, options):
    schedule = SCHEDULES[name](**options)
    times = torch.linspace(0.002, 0.998, 499, dtype=torch.float64)
    log_snr = schedule.log_snr(times)
    assert (log_snr.diff() < 0).all()
    torch.testing.assert_close(schedule.log_snr(schedule.t(log_snr)), log_snr, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "options", [{"tau": 0.1}, {"start": -20.0, "end": 20.0}, {"start": 0.0, "end": 7.0, "tau": 0.2}]
)
def test_a_sigmoid_that_its_floor_would_flatten_is_refused(options):
    with pytest.raises(BadOption, match="tau of at most 30"):
        SCHEDULES["sigmoid"](**options)


@pytest.mark.parametrize("shift", [0.01, 1.0, 100.0])
def test_flow_falls_and_finds_its_times_again_however_it_is_shifted(shift):
    schedule, times = SCHEDULES["flow"](shift=shift), torch.linspace(0, 1, 1001).double()
    assert (schedule.log_snr(times).diff() < 0).all()
    torch.testing.assert_close(schedule.t(schedule.log_snr(times)), times, rtol=0, atol=1e-9)


def test_more_steps_of_large_betas_than_leave_a_signal_are_refused():
    with pytest.raises(BadOption, match="Use fewer steps T, or smaller beta_start and beta_end"):
        SCHEDULES["linear"](T=10_000, beta_end=0.2)


@pytest.mark.parametrize("name", ["linear", "scaled_linear"])
def test_betas_that_leave_no_signal_at_all_are_refused(name):
    with pytest.raises(BadOption, match="beta_end must be a number between 1e-06 and 0"):
        SCHEDULES.check_options(name, {"beta_end": 0.9})
