"""Flow matching: its Euler steps are DDIM under schedule `flow`, on the unit circle.

Flow's own variable is y_t = (1 - t) x_0 + t eps; ours is that divided by the root of (1 - t)^2 +
t^2.
"""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.schedulers import scheduling_flow_match_euler_discrete

from harness.diffusion.objective import TARGETS, Denoiser, Estimate
from harness.diffusion.samplers import SAMPLERS
from harness.diffusion.schedules import SCHEDULES
from harness.diffusion.times import SPACINGS


def normal(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def velocity(y, t):
    """u(y, t) that is not linear in y and depends on t."""
    return torch.tanh(1.3 * y + t) + 0.2 * torch.cos(3 * y)


def of_our_network(shift):
    """The same field as a network of target `flow`: it is shown x on the unit circle."""
    schedule = SCHEDULES["flow"](shift=shift)

    def network(x, log_snr):
        ratio = torch.exp(-log_snr / 2)  # sigma / alpha = u / (1 - u)
        u = (ratio / (1 + ratio)).nan_to_num(1.0)[:, None]
        return velocity(x * torch.hypot(1 - u, u), u)

    everything = -math.inf, math.inf
    return Denoiser(Estimate(network, schedule, TARGETS["flow"], trained=everything)), schedule


def sampled(name, shift, steps, spacing="uniform"):
    denoise, schedule = of_our_network(shift)
    times = SPACINGS[spacing](schedule, steps)
    return SAMPLERS[name](denoise, schedule, normal(6, 5), times, lambda: None)


@pytest.mark.parametrize("steps", [1, 2, 10, 37])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_ddim_under_flow_is_euler_in_the_time_of_flow(steps, shift):
    y = normal(6, 5)
    for k, following in pairwise(range(steps + 1)):
        t, s = (shift * v / (1 + (shift - 1) * v) for v in (1 - k / steps, 1 - following / steps))
        y = y + (s - t) * velocity(y, t)
    torch.testing.assert_close(sampled("ddim", shift, steps), y, rtol=0, atol=1e-10)


class InDouble:
    """A module in which float32 is float64."""

    def __init__(self, module):
        self._module = module

    def __getattr__(self, name):
        return getattr(self._module, "float64" if name == "float32" else name)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_ddim_under_flow_is_the_euler_sampler_of_diffusers(monkeypatch, shift):
    for name, module in (("torch", torch), ("np", np)):
        monkeypatch.setattr(scheduling_flow_match_euler_discrete, name, InDouble(module))
    theirs = FlowMatchEulerDiscreteScheduler(shift=shift)
    theirs.set_timesteps(sigmas=np.linspace(1, 1 / 20, 20))  # as the pipelines of SD3 ask
    y = normal(6, 5)
    for index, t in zip(theirs.timesteps, theirs.sigmas, strict=False):
        y = theirs.step(velocity(y, t), index, y).prev_sample
    torch.testing.assert_close(sampled("ddim", shift, 20), y.double(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m", "deis", "ipndm", "unipc"])
def test_every_solver_finds_the_same_end_of_the_flow(sampler):
    # Of the equation dy = u dt by Heun's method in t, whose error falls with the square of dt.
    y, times = normal(6, 5), torch.linspace(1, 0, 2001, dtype=torch.float64).tolist()
    for t, s in pairwise(times):
        first = velocity(y, t)
        y = y + (s - t) / 2 * (first + velocity(y + (s - t) * first, s))
    within = 2e-2 if sampler == "ddim" else 2e-3
    torch.testing.assert_close(sampled(sampler, 1.0, 200), y, rtol=0, atol=within)


@pytest.mark.parametrize("lam", [0.04, 1.0, 2.0])
@pytest.mark.parametrize("eta", [0.0, 0.6])
def test_the_variance_under_flow_follows_the_recursion_of_gaussian_data(lam, eta):
    schedule, steps = SCHEDULES["flow"](), 13
    path = [(1 - k / steps) for k in range(steps)]
    rates = [((1 - t) / math.hypot(1 - t, t), t / math.hypot(1 - t, t)) for t in path]
    variance = 1.0
    for (a_t, s_t), (a_s, s_s) in pairwise(rates):
        w = eta * s_s / s_t * math.sqrt(1 - (a_t / a_s) ** 2)
        kept = math.sqrt(s_s**2 - w**2)
        f = (a_s * a_t * lam + s_t * kept) / (a_t**2 * lam + s_t**2)
        variance = f**2 * variance + w**2
    steps_of = torch.eye(steps, dtype=torch.float64)
    drawn = iter(steps_of[1:])

    def denoise(x, t):
        a, s = schedule.alpha(t), schedule.sigma(t)
        return a * lam * x / (a**2 * lam + s**2)

    times = SPACINGS["uniform"](schedule, steps)[:-1]
    x = SAMPLERS["ddim"](denoise, schedule, steps_of[0], times, lambda: next(drawn), eta=eta)
    assert x.square().sum().item() == pytest.approx(variance, rel=1e-10)
