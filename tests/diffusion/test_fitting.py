"""Steps fitted to a network: on Gaussian data, where what a step costs is known, and the best."""

import math
from itertools import combinations, pairwise

import pytest
import torch

from harness.diffusion.analytic import finite_denoiser, gaussian_denoiser
from harness.diffusion.fitting import Departures, candidate_times, least_costly
from harness.diffusion.schedules import SCHEDULES
from harness.diffusion.times import SPACINGS, Fitting, fitting_of
from harness.errors import BadOption

CANDIDATES = 100


def normal(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def fitted_to_gaussian(schedule, lam, x=None, candidates=CANDIDATES):
    times = candidate_times(schedule, candidates)
    denoise = gaussian_denoiser(schedule, 0.0, lam)
    return times, Departures.of(denoise, schedule, normal(64, 1) if x is None else x, times)


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_the_path_is_the_cheapest_of_all(steps):
    for seed in range(5):
        made = torch.Generator().manual_seed(seed)
        costs = torch.rand(9, 9, generator=made, dtype=torch.float64)
        costs[torch.ones(9, 9).tril().bool()] = math.inf
        between = combinations(range(1, 8), steps - 1)
        every = [[0, *inner, 8] for inner in between]
        cheapest = min(every, key=lambda path: sum(float(costs[i, j]) for i, j in pairwise(path)))
        assert least_costly(costs, steps) == cheapest


@pytest.mark.parametrize("lam", [1.0, 0.25])
@pytest.mark.parametrize("name", ["linear", "cosine_discrete"])
def test_a_step_costs_what_its_closed_form_misses(name, lam):
    # One step multiplies by (alpha_s alpha_t lam + sigma_s sigma_t) / V_t, the path by all of its.
    schedule = SCHEDULES[name]()
    x = normal(50, 1)
    times, found = fitted_to_gaussian(schedule, lam, x, 12)
    alpha, sigma = schedule.alpha(times).tolist(), schedule.sigma(times).tolist()
    alpha[-1], sigma[-1] = 1.0, 0.0  # the last step returns the estimate of x_0

    def gain(t, s):
        variance = alpha[t] ** 2 * lam + sigma[t] ** 2
        return (alpha[s] * alpha[t] * lam + sigma[s] * sigma[t]) / variance

    size = float(x.square().mean().sqrt() / x.std(correction=0))
    for i, j in combinations(range(13), 2):
        whole = math.prod(gain(k, k + 1) for k in range(i, j))
        expected = abs(gain(i, j) / whole - 1) * size
        assert float(found.costs[i, j]) == pytest.approx(expected, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("steps", [5, 10])
@pytest.mark.parametrize("lam", [1.0, 0.25, 4.0])
@pytest.mark.parametrize("name", ["linear", "cosine_discrete", "cosine", "shifted_cosine"])
def test_on_gaussian_data_the_steps_turn_through_even_angles(name, lam, steps):
    # The angle of (alpha sqrt(lam), sigma), down to 0; where the schedule ends further from the
    # image than an even step, the last step is that long and the others are even among themselves.
    schedule = SCHEDULES[name]()
    times, found = fitted_to_gaussian(schedule, lam)

    def angle(t):
        return torch.atan2(schedule.sigma(t), schedule.alpha(t) * math.sqrt(lam))

    first, last = angle(torch.tensor([1.0, 0.0], dtype=torch.float64)).tolist()
    even = first / steps
    rest = (first - last) / (steps - 1) if last > even else even
    best = torch.tensor([first - k * rest for k in range(steps)], dtype=torch.float64)
    apart = float((angle(times[:-1]).diff()).abs().max())  # of the candidates
    path = least_costly(found.costs, steps)
    assert float((angle(times[path][:-1]) - best).abs().max()) < 1.5 * apart


@pytest.mark.parametrize("steps", [3, 7, 20])
def test_no_other_spacing_costs_less(steps):
    schedule = SCHEDULES["linear"]()
    times, found = fitted_to_gaussian(schedule, 0.3)
    cost = found.costs

    def spent(path):
        return sum(float(cost[i, j]) for i, j in pairwise(path))

    for name in ("trailing", "angle", "uniform"):
        other = SPACINGS[name](schedule, steps)
        nearest = (times[:, None] - other).abs().argmin(dim=0).tolist()
        assert spent(least_costly(cost, steps)) <= spent(nearest)


def test_images_that_all_agree_still_have_a_path():
    """Of a single training image, which the exact denoiser answers everywhere."""
    schedule, only = SCHEDULES["cosine"](), torch.zeros(1, 3, dtype=torch.float64)
    times = candidate_times(schedule, 10)
    x = torch.zeros(4, 3, dtype=torch.float64)
    seen = Departures.of(finite_denoiser(schedule, only), schedule, x, times)
    path = least_costly(seen.costs, 3)
    assert (path[0], path[-1], len(set(path))) == (0, 10, 4)


def test_batches_add_up():
    schedule, x = SCHEDULES["cosine"](), normal(10, 3, 2)
    _, whole = fitted_to_gaussian(schedule, 0.5, x, 20)
    parts = [fitted_to_gaussian(schedule, 0.5, part, 20)[1] for part in x.split([7, 3])]
    torch.testing.assert_close((parts[0] + parts[1]).costs, whole.costs)


@pytest.mark.parametrize("name", SCHEDULES.names())
def test_candidates_fall_from_pure_noise_to_the_image_within_what_was_trained(name):
    for options in [{}, {"zero_terminal_snr": True}]:
        if options.keys() <= {option.name for option in SCHEDULES.options(name)}:
            schedule = SCHEDULES.make(name, options)
            times = candidate_times(schedule, CANDIDATES)
            assert times.shape == (CANDIDATES + 1,)
            assert (times[0], times[-1]) == (1, 0)
            assert (times.diff() < 0).all()
            assert times[-2] > (0.999 / schedule.table_steps if schedule.table_steps else 0)


def test_steps_are_fitted_from_where_no_signal_is_left():
    schedule = SCHEDULES.make("linear", {"zero_terminal_snr": True})
    times, found = fitted_to_gaussian(schedule, 0.25)
    path = times[least_costly(found.costs, 10)]
    assert path[0] == 1
    assert (path.diff() < 0).all()


def test_without_a_network_there_are_no_times():
    with pytest.raises(BadOption, match=r"no times without a denoiser.* Use .*explicit"):
        SPACINGS["fitted"](SCHEDULES["linear"](), 5)


def test_more_steps_than_candidates_are_refused():
    SPACINGS["fitted"].check_steps(100)
    with pytest.raises(BadOption, match="among 20 times: 21 steps"):
        SPACINGS["fitted"].check_steps(21, candidates=20)


def test_it_says_what_fitting_takes():
    assert fitting_of("trailing") is None
    assert fitting_of("fitted", images=10) == Fitting(images=10)
    assert fitting_of("fitted", images=10).evaluations == 1000
