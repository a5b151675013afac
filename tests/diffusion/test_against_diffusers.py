"""DDIM, DDPM, step spacings and betas against diffusers, the code most published figures come from.

Its schedulers keep abar in float32 and count table entries from 0; here abar is replaced by
float64. Each is used only where it is right: with `trailing` its DDIM steps back by a rounded
stride, wrong unless the number of steps divides 1,000, and for some numbers (61) it makes one
step too many.
"""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler

from harness.diffusion.samplers import ddim, ddpm, ddpm_large
from harness.diffusion.schedules import SCHEDULES
from harness.diffusion.times import SPACINGS

BASE = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
}
BETAS = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)  # Ho et al. 2020, section 4
ABAR = torch.cumprod(1 - BETAS, dim=0)
SHAPE = (3, 2, 4)


def in_float64(scheduler, steps, timesteps=None):
    scheduler.alphas_cumprod = ABAR
    scheduler.final_alpha_cumprod = scheduler.one = torch.tensor(1.0, dtype=torch.float64)
    if timesteps is None:
        scheduler.set_timesteps(steps)
    else:
        scheduler.set_timesteps(timesteps=timesteps)
    return scheduler


def make_ddim(spacing, steps):
    settings = BASE | {"clip_sample": False, "set_alpha_to_one": True, "steps_offset": 0}
    return in_float64(DDIMScheduler(**settings, timestep_spacing=spacing), steps)


def make_ddpm(variance, spacing, steps, timesteps=None):
    settings = BASE | {"clip_sample": False, "variance_type": variance}
    return in_float64(DDPMScheduler(**settings, timestep_spacing=spacing), steps, timesteps)


def network(x, entry):
    """Some noise prediction that is not linear and depends on the time; entry counts from 1."""
    abar = ABAR[entry - 1]
    image = torch.tanh(1.3 * x + entry / 1000) + 0.2 * torch.cos(3 * x)
    return (x - abar.sqrt() * image) / (1 - abar).sqrt()


def denoise(x, t):
    entry = round(t.item() * 1000)
    abar = ABAR[entry - 1]
    return (x - (1 - abar).sqrt() * network(x, entry)) / abar.sqrt()


def starting_noise():
    return torch.randn(SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(7))


def noise_source():
    generator = torch.Generator().manual_seed(11)
    return lambda: torch.randn(SHAPE, dtype=torch.float64, generator=generator)


def sample(sampler, spacing, steps, **options):
    schedule = SCHEDULES["linear"]()
    times = SPACINGS[spacing](schedule, steps)
    return sampler(denoise, schedule, starting_noise(), times, noise_source(), **options)


def sample_with_diffusers(scheduler, **options):
    x = starting_noise()
    for index in scheduler.timesteps.tolist():
        x = scheduler.step(network(x, index + 1), index, x, **options).prev_sample
    return x


def difference(ours, theirs):
    assert ours.dtype == theirs.dtype == torch.float64
    assert theirs.std() > 0.1
    return (ours - theirs).abs().max().item()


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(
    ("spacing", "steps"),
    [("leading", steps) for steps in (10, 13, 50, 100, 1000)]
    + [("trailing", steps) for steps in (4, 10, 50, 125, 1000)],
)
def test_ddim_agrees(spacing, steps, eta):
    draw_noise = noise_source()
    x, scheduler = starting_noise(), make_ddim(spacing, steps)
    for index in scheduler.timesteps.tolist():
        # Its last step multiplies the noise by 0: ours draws none there.
        fresh = draw_noise() if index != scheduler.timesteps[-1] else torch.zeros_like(x)
        predicted = network(x, index + 1)
        x = scheduler.step(predicted, index, x, eta=eta, variance_noise=fresh).prev_sample
    assert difference(sample(ddim, spacing, steps, eta=eta), x) < 1e-10


@pytest.mark.parametrize("steps", [10, 13, 50, 100, 1000])
@pytest.mark.parametrize(("sampler", "variance"), [(ddpm, "small"), (ddpm_large, "large")])
def test_ddpm_agrees_on_leading_steps(sampler, variance, steps):
    generator = torch.Generator().manual_seed(11)
    scheduler = make_ddpm(f"fixed_{variance}", "leading", steps)
    theirs = sample_with_diffusers(scheduler, generator=generator)
    assert difference(sample(sampler, "leading", steps), theirs) < 1e-10


@pytest.mark.parametrize("steps", [10, 13, 61, 250])
def test_ddpm_agrees_on_trailing_steps(steps):
    scheduler = make_ddpm("fixed_small", "trailing", steps, trailing_entries(steps))
    theirs = sample_with_diffusers(scheduler, generator=torch.Generator().manual_seed(11))
    # Its variance is never below 1e-20, so its last step adds 1e-10 of noise.
    assert difference(sample(ddpm, "trailing", steps), theirs) < 1e-9


@pytest.mark.parametrize("steps", [10, 13, 61, 250])
def test_ddpm_large_agrees_on_trailing_steps_where_it_too_adds_the_last_noise(steps):
    scheduler = make_ddpm("fixed_large", "trailing", steps, trailing_entries(steps))
    theirs = sample_with_diffusers(scheduler, generator=torch.Generator().manual_seed(11))
    assert difference(sample(ddpm_large, "trailing", steps, last_noise=True), theirs) < 1e-10
    assert difference(sample(ddpm_large, "trailing", steps), theirs) > 0.01


def trailing_entries(steps):
    """Lin et al. 2024, table 2, counted from 0, for numbers of steps that meet no exact half."""
    return [(2 * 1000 * left + steps) // (2 * steps) - 1 for left in range(steps, 0, -1)]


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # its way to numpy
@pytest.mark.parametrize("steps", [3, 10, 13, 30, 47, 100, 333])
def test_ddim_agrees_with_euler_on_any_number_of_trailing_steps(steps):
    scheduler = EulerDiscreteScheduler(**BASE, timestep_spacing="trailing")
    in_float64(scheduler, steps)
    assert len(scheduler.timesteps) == steps
    x = starting_noise() / ABAR[-1].sqrt()
    for index in scheduler.timesteps:
        predicted = network(scheduler.scale_model_input(x, index), round(index.item()) + 1)
        x = scheduler.step(predicted, index, x).prev_sample
    assert difference(sample(ddim, "trailing", steps), x) < 1e-5  # its sigmas are float32


@pytest.mark.parametrize(
    ("spacing", "numbers"),
    [
        ("leading", range(2, 1001)),
        ("trailing", [n for n in range(1, 1001) if 1000 % n == 0] + [3, 6, 7, 13, 30, 47]),
        ("linspace", range(2, 1001, 2)),  # no exact halves there: it rounds them one entry lower
    ],
)
def test_the_steps_are_those_of_diffusers(spacing, numbers):
    scheduler = DDIMScheduler(**BASE, timestep_spacing=spacing, steps_offset=0)
    schedule = SCHEDULES["linear"]()
    for steps in numbers:
        scheduler.set_timesteps(steps)
        theirs = (scheduler.timesteps + 1).double() / 1000
        assert torch.equal(SPACINGS[spacing](schedule, steps)[:-1], theirs), steps


def test_the_betas_of_cosine_discrete_agree():
    theirs = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2").betas
    ours = SCHEDULES["cosine_discrete"]().betas()
    assert (ours - theirs.double()).abs().max() < 2.3e-8  # theirs are rounded to float32


def test_the_betas_of_linear_agree():
    theirs = DDPMScheduler(**BASE).betas
    assert (SCHEDULES["linear"]().betas() - theirs.double()).abs().max() < 2e-9
