"""How often a sampler evaluates the network: what it says beforehand, and what it does."""

import pytest
import torch

from harness.diffusion.samplers import SAMPLERS, evaluations, steps_within
from harness.diffusion.schedules import SCHEDULES
from harness.diffusion.times import SPACINGS

TWICE_A_STEP = ["dpm_solver_2", "dpmpp_sde", "edm", "heun", "predictor_corrector"]  # but the last


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
@pytest.mark.parametrize("name", SAMPLERS.names())
def test_every_sampler_makes_as_many_network_evaluations_as_it_says(name, steps):
    asked = []

    def denoise(x, t):
        asked.append(t)
        return torch.tanh(x + t)

    x, schedule = torch.ones(6, dtype=torch.float64), SCHEDULES["linear"]()
    times = SPACINGS["uniform"](schedule, steps)
    SAMPLERS[name](denoise, schedule, x, times, lambda: torch.zeros_like(x))
    assert len(asked) == SAMPLERS[name].evaluations(steps) == evaluations(name, steps)
    assert len(asked) == (2 * steps - 1 if name in TWICE_A_STEP else steps)


@pytest.mark.parametrize("steps", [1, 4])
def test_evaluations_that_depend_on_an_option_are_counted_with_it(steps):
    asked, x, schedule = [], torch.ones(6, dtype=torch.float64), SCHEDULES["linear"]()
    times, options = SPACINGS["uniform"](schedule, steps), {"corrector_steps": 3, "snr": 0.1}
    SAMPLERS["predictor_corrector"](
        lambda x, t: asked.append(t) or x, schedule, x, times, lambda: x, **options
    )
    assert len(asked) == evaluations("predictor_corrector", steps, **options) == 4 * steps - 3
    assert steps_within("predictor_corrector", 4 * steps, **options) == steps


@pytest.mark.parametrize(
    ("name", "bought"),
    [
        ("ddim", {0: 1, 1: 1, 2: 2, 10: 10}),
        ("dpmpp_2m", {0: 1, 1: 1, 2: 2, 7: 7}),
        ("heun", {0: 1, 1: 1, 2: 1, 3: 2, 10: 5, 99: 50}),
    ],
)
def test_a_budget_of_evaluations_buys_so_many_steps_and_at_least_one(name, bought):
    assert {budget: steps_within(name, budget) for budget in bought} == bought


def test_a_sampler_of_another_package_that_does_not_say_is_taken_to_evaluate_once_a_step(
    monkeypatch,
):
    def plain(denoise, schedule, x, times, draw_noise):
        """Some sampler."""

    monkeypatch.setattr(type(SAMPLERS), "__getitem__", lambda self, name: plain)
    assert evaluations("plain", 12) == 12
    assert steps_within("plain", 12) == 12
