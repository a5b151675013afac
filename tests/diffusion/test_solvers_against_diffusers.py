"""Samplers of higher order against the schedulers of diffusers, in float64 throughout.

Those schedulers compute and keep their levels in float32. Here `float32` means float64 to their
modules, so that nothing is left between the two but the formulae.
"""

import importlib
import sys
from itertools import count
from types import ModuleType

import numpy as np
import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    KDPM2DiscreteScheduler,
    UniPCMultistepScheduler,
)
from diffusers.schedulers import (
    scheduling_dpmsolver_multistep,
    scheduling_euler_ancestral_discrete,
    scheduling_euler_discrete,
    scheduling_heun_discrete,
    scheduling_k_dpm_2_discrete,
    scheduling_unipc_multistep,
)

from harness.diffusion.samplers import SAMPLERS
from harness.diffusion.schedules import SCHEDULES
from harness.diffusion.times import SPACINGS

pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")  # its way to numpy

SETTINGS = {
    "linear": {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"},
    "scaled_linear": {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"},
}
SHAPE = (3, 2, 4)
# Of the numbers of steps it makes as asked: it accumulates a rounded stride (61 gives 62).
TRAILING = [1, 2, 3, 4, 10, 13, 30, 47, 100, 250]


class Doubled:
    """A module in which float32 is float64."""

    def __init__(self, module):
        self._module = module

    def __getattr__(self, name):
        return getattr(self._module, "float64" if name == "float32" else name)


@pytest.fixture(autouse=True)
def _in_float64(monkeypatch):
    for module in (
        scheduling_dpmsolver_multistep,
        scheduling_euler_ancestral_discrete,
        scheduling_euler_discrete,
        scheduling_heun_discrete,
        scheduling_k_dpm_2_discrete,
        scheduling_unipc_multistep,
    ):
        monkeypatch.setattr(module, "torch", Doubled(torch))
        monkeypatch.setattr(module, "np", Doubled(np))


@pytest.fixture(params=SETTINGS)
def schedule_name(request):
    return request.param


def normal(seed):
    return torch.randn(SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def image(x, entry):
    """Some estimate of x_0 that is not linear and depends on the time; entry counts from 1."""
    return torch.tanh(1.3 * x + entry / 1000) + 0.2 * torch.cos(3 * x)


def ours(name, schedule_name, steps, most=None, **options):
    """The image, or x after the first steps, at most so many."""
    schedule, fresh = SCHEDULES[schedule_name](), iter(range(100, 100 + steps))
    return SAMPLERS[name](
        lambda x, t: image(x, round(t.item() * 1000)),
        schedule,
        normal(7),
        SPACINGS["trailing"](schedule, steps)[: most and most + 1],
        lambda: normal(next(fresh)),
        **options,
    )


def make(scheduler, schedule_name, steps, **settings):
    made = scheduler(
        num_train_timesteps=1000, timestep_spacing="trailing", **SETTINGS[schedule_name], **settings
    )
    made.set_timesteps(steps)
    assert made.sigmas.dtype == torch.float64
    return made


def theirs_in_x_over_alpha(scheduler):
    """Theirs act on x / alpha, and are asked for the noise."""
    abar = scheduler.alphas_cumprod
    x = normal(7) / abar[-1].sqrt()
    for index in scheduler.timesteps:
        entry = round(index.item()) + 1
        alpha, sigma = abar[entry - 1].sqrt(), (1 - abar[entry - 1]).sqrt()
        scaled = scheduler.scale_model_input(x, index)
        noise = (scaled - alpha * image(scaled, entry)) / sigma
        x = scheduler.step(noise, index, x).prev_sample
    return x


def theirs_on_images(scheduler, most=None, **options):
    x = normal(7)
    for k, index in enumerate(scheduler.timesteps[:most]):
        given = {key: make(k) for key, make in options.items()}
        x = scheduler.step(image(x, index.item() + 1), index, x, **given).prev_sample
    return x


def difference(ours, theirs):
    assert ours.dtype == theirs.dtype == torch.float64
    assert theirs.std() > 0.1
    return (ours - theirs).abs().max().item()


@pytest.mark.parametrize("steps", TRAILING)
def test_euler_agrees(schedule_name, steps):
    theirs = theirs_in_x_over_alpha(make(EulerDiscreteScheduler, schedule_name, steps))
    assert difference(ours("euler", schedule_name, steps), theirs) < 1e-12


@pytest.mark.parametrize("steps", TRAILING)
def test_heun_agrees(schedule_name, steps):
    scheduler = make(HeunDiscreteScheduler, schedule_name, steps)
    assert len(scheduler.timesteps) == SAMPLERS["heun"].evaluations(steps)
    theirs = theirs_in_x_over_alpha(scheduler)
    assert difference(ours("heun", schedule_name, steps), theirs) < 2e-12


@pytest.mark.parametrize("steps", TRAILING)
def test_dpmpp_2m_agrees(schedule_name, steps):
    scheduler = make_dpmpp(
        schedule_name, steps, algorithm_type="dpmsolver++", solver_order=2, solver_type="midpoint"
    )
    theirs = theirs_on_images(scheduler)
    assert difference(ours("dpmpp_2m", schedule_name, steps), theirs) < 5e-14


@pytest.mark.parametrize("steps", TRAILING)
def test_dpmpp_2m_sde_agrees(schedule_name, steps):
    scheduler = make_dpmpp(
        schedule_name,
        steps,
        algorithm_type="sde-dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
    )
    theirs = theirs_on_images(scheduler, variance_noise=lambda k: normal(100 + k))
    assert difference(ours("dpmpp_2m_sde", schedule_name, steps), theirs) < 5e-13


@pytest.mark.parametrize("steps", TRAILING)
def test_dpmpp_3m_with_half_of_the_curvature_agrees(schedule_name, steps):
    scheduler = make_dpmpp(
        schedule_name, steps, algorithm_type="dpmsolver++", solver_order=3, solver_type="heun",
        lower_order_final=False,
    )  # fmt: skip
    theirs = theirs_on_images(scheduler)
    assert difference(ours("dpmpp_3m", schedule_name, steps, halved=True), theirs) < 1e-11


@pytest.mark.parametrize("steps", TRAILING)
def test_euler_ancestral_agrees(schedule_name, steps, monkeypatch):
    fresh = count(100)
    monkeypatch.setattr(
        scheduling_euler_ancestral_discrete, "randn_tensor", lambda *_, **__: normal(next(fresh))
    )
    theirs = theirs_in_x_over_alpha(make(EulerAncestralDiscreteScheduler, schedule_name, steps))
    assert difference(ours("euler_ancestral", schedule_name, steps), theirs) < 1e-11


# Those that ask between the times: of an estimate that depends on sigma / alpha, which they know.


def image_at(x, ratio):
    return torch.tanh(1.3 * x + ratio / (1 + ratio)) + 0.2 * torch.cos(3 * x)


def theirs_with_looks_between(scheduler, abar, steps):
    """x after all steps but the last, each of two evaluations."""
    x = normal(7) / abar[-1].sqrt()
    for index in scheduler.timesteps[: 2 * (steps - 1)]:
        scaled = scheduler.scale_model_input(x, index)
        ratio = ((x / scaled).mean() ** 2 - 1).sqrt()
        x = scheduler.step((x - image_at(scaled, ratio)) / ratio, index, x).prev_sample
    return x


def ours_with_looks_between(name, schedule, steps):
    fresh = count(100)
    times = SPACINGS["trailing"](schedule, steps)[:-1]
    x = SAMPLERS[name](
        lambda x, t: image_at(x, schedule.sigma(t) / schedule.alpha(t)),
        schedule, normal(7), times, lambda: normal(next(fresh)),
    )  # fmt: skip
    return x / schedule.alpha(times[-1])


class OneBrownianPath:
    """In the place of torchsde's: z of a step's half, then z of all of it, on a path whose variance
    grows as the SNR, sigma^-2."""

    def __init__(self):
        self.fresh, self.half = count(100), None

    def __call__(self, sigma, sigma_next):
        if self.half is None:
            self.half = sigma_next, normal(next(self.fresh))
            return self.half[1]
        (middle, first), self.half = self.half, None
        share = (middle**-2 - sigma**-2) / (sigma_next**-2 - sigma**-2)
        return share.sqrt() * first + (1 - share).sqrt() * normal(next(self.fresh))


@pytest.mark.parametrize("steps", [2, 3, 10, 47])
@pytest.mark.parametrize("name", ["dpm_solver_2", "dpmpp_sde"])
def test_samplers_that_look_between_agree(schedule_name, name, steps, monkeypatch):
    if name == "dpm_solver_2":
        scheduler = make(KDPM2DiscreteScheduler, schedule_name, steps)
    else:
        monkeypatch.setitem(sys.modules, "torchsde", ModuleType("torchsde"))
        module = importlib.import_module("diffusers.schedulers.scheduling_dpmsolver_sde")
        monkeypatch.setattr(module, "torch", Doubled(torch))
        monkeypatch.setattr(module, "np", Doubled(np))
        scheduler = make(module.DPMSolverSDEScheduler, schedule_name, steps)
        scheduler.noise_sampler = OneBrownianPath()
    theirs = theirs_with_looks_between(scheduler, scheduler.alphas_cumprod, steps)
    sampled = ours_with_looks_between(name, SCHEDULES[schedule_name](), steps)
    assert difference(sampled, theirs) < 1e-9


def make_dpmpp(schedule_name, steps, **settings):
    return make(
        DPMSolverMultistepScheduler,
        schedule_name,
        steps,
        prediction_type="sample",
        final_sigmas_type="zero",
        **settings,
    )


def make_unipc(schedule_name, steps, order):
    return make(
        UniPCMultistepScheduler,
        schedule_name,
        steps,
        prediction_type="sample",
        solver_order=order,
        solver_type="bh2",
        final_sigmas_type="zero",
    )


@pytest.mark.parametrize("steps", TRAILING)
@pytest.mark.parametrize("order", [1, 2])
def test_unipc_agrees(schedule_name, steps, order):
    theirs = theirs_on_images(make_unipc(schedule_name, steps, order))
    assert difference(ours("unipc", schedule_name, steps, order=order), theirs) < 5e-14


@pytest.mark.parametrize("steps", [n for n in TRAILING if n > 3])
def test_unipc_of_order_3_agrees_until_theirs_lowers_its_order_near_the_end(schedule_name, steps):
    theirs = theirs_on_images(make_unipc(schedule_name, steps, 3), most=steps - 2)
    sampled = ours("unipc", schedule_name, steps, most=steps - 2, order=3)
    assert difference(sampled, theirs) < 2e-13
