"""Each schedule against the betas and formulas of its paper, typed here again."""

import math
from statistics import NormalDist

import pytest
import torch
from diffusers import DDPMScheduler

from harness.diffusion.schedules import SCHEDULES
from harness.errors import BadOption

TABLE = torch.arange(1, 1001, dtype=torch.float64) / 1000
INSIDE = [k / 97 for k in range(1, 97)] + [1e-4, 0.999, 0.9999]


def tensor(value):
    return torch.tensor(value, dtype=torch.float64)


def abar(schedule, t):
    return schedule.alpha(tensor(t)).item() ** 2


def log_snr(schedule, t):
    return schedule.log_snr(tensor(t)).item()


# linear: Ho et al. 2020, section 4.


def test_linear_is_the_product_of_the_betas_of_the_paper():
    betas = [1e-4 + (0.02 - 1e-4) * i / 999 for i in range(1000)]
    product, expected = 1.0, []
    for beta in betas:
        product *= 1 - beta
        expected.append(math.sqrt(product))
    torch.testing.assert_close(SCHEDULES["linear"]().alpha(TABLE), tensor(expected))


def test_linear_ends_with_almost_no_signal():
    assert abar(SCHEDULES["linear"](), 1) == pytest.approx(4.036e-5, rel=1e-4)


def test_linear_takes_other_ends_of_its_betas():
    schedule = SCHEDULES["linear"](beta_start=0.001, beta_end=0.003)
    assert abar(schedule, 0.001) == pytest.approx(0.999, rel=1e-12)
    # The mean of log(1 - beta) over even betas, by its integral from 0.001 to 0.003.
    mean_log = ((1 - 0.001) * math.log(1 - 0.001) - (1 - 0.003) * math.log(1 - 0.003)) / 0.002 - 1
    assert math.log(abar(schedule, 1)) == pytest.approx(1000 * mean_log, rel=1e-5)


# scaled_linear: Rombach et al. 2022.


def test_scaled_linear_is_the_product_of_the_squares_of_even_roots():
    first, last = math.sqrt(0.00085), math.sqrt(0.012)
    product, expected = 1.0, []
    for i in range(1000):
        product *= 1 - (first + (last - first) * i / 999) ** 2
        expected.append(math.sqrt(product))
    torch.testing.assert_close(SCHEDULES["scaled_linear"]().alpha(TABLE), tensor(expected))


def test_scaled_linear_leaves_some_signal_at_the_end():
    assert abar(SCHEDULES["scaled_linear"](), 1) == pytest.approx(4.660e-3, rel=2e-4)


def test_scaled_linear_has_the_betas_of_diffusers():
    settings = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    theirs = DDPMScheduler(num_train_timesteps=1000, **settings).betas
    ours = SCHEDULES["scaled_linear"]().betas()
    assert ours.dtype == torch.float64
    assert (ours - theirs.double()).abs().max() < 5e-9  # theirs are rounded to float32


def test_scaled_linear_takes_other_ends_of_its_betas():
    betas = SCHEDULES["scaled_linear"](beta_start=0.0004, beta_end=0.01).betas()
    assert betas[[0, -1]].tolist() == pytest.approx([0.0004, 0.01], rel=1e-12)
    assert betas[333].item() == pytest.approx((0.02 + (0.1 - 0.02) / 3) ** 2, rel=1e-12)


# cosine_discrete: Nichol & Dhariwal 2021, eq. 17.


def squared_cosine(t, offset=0.008):
    return math.cos((t + offset) / (1 + offset) * math.pi / 2) ** 2


def test_cosine_discrete_follows_the_formula_of_the_paper_until_beta_is_cut():
    schedule = SCHEDULES["cosine_discrete"]()
    for i in range(1, 999):
        expected = squared_cosine(i / 1000) / squared_cosine(0)
        assert abar(schedule, i / 1000) == pytest.approx(expected, rel=1e-9)


def test_cosine_discrete_cuts_the_last_beta_so_that_some_signal_is_left():
    schedule = SCHEDULES["cosine_discrete"]()
    assert abar(schedule, 1) == pytest.approx(2.43e-9, rel=2e-3)
    assert abar(schedule, 1) / abar(schedule, 0.999) == pytest.approx(0.001, rel=1e-9)


def test_cosine_discrete_takes_another_offset_and_cut():
    schedule = SCHEDULES["cosine_discrete"](offset=0.1, max_beta=0.9)
    expected = squared_cosine(0.3, 0.1) / squared_cosine(0, 0.1)
    assert abar(schedule, 0.3) == pytest.approx(expected, rel=1e-9)
    assert schedule.betas().max().item() == 0.9


# cosine: the Keras DDIM example.


def test_cosine_turns_the_angle_evenly_between_two_signal_rates():
    schedule = SCHEDULES["cosine"]()
    for i in range(101):
        t = i / 100
        angle = (1 - t) * math.acos(0.95) + t * math.acos(0.02)
        assert schedule.alpha(tensor(t)).item() == pytest.approx(math.cos(angle), abs=1e-14)
        assert schedule.sigma(tensor(t)).item() == pytest.approx(math.sin(angle), abs=1e-14)


@pytest.mark.parametrize("ends", [(0.95, 0.02), (0.999, 0.001), (1.0, 0.3)], ids=str)
def test_cosine_starts_and_ends_at_its_signal_rates(ends):
    most, least = ends
    schedule = SCHEDULES["cosine"](max_signal=most, min_signal=least)
    assert schedule.alpha(tensor(0.0)).item() == pytest.approx(most, abs=1e-14)
    assert schedule.alpha(tensor(1.0)).item() == pytest.approx(least, abs=1e-14)


def test_cosine_defaults_to_the_signal_rates_of_the_example():
    schedule = SCHEDULES["cosine"]()
    assert schedule.alpha(tensor([0.0, 1.0])).tolist() == pytest.approx([0.95, 0.02], abs=1e-14)


@pytest.mark.parametrize("name", ["cosine", "signal_linear", "noise_linear"])
@pytest.mark.parametrize(
    "rates", [(0.5, 0.5), (0.02, 0.95), (0.95, 0.0), (1.5, 0.02), (0.95, -0.1), (math.nan, 0.02)]
)
def test_signal_rates_out_of_order_are_refused(name, rates):
    most, least = rates
    with pytest.raises(BadOption, match="0 < min_signal < max_signal <= 1"):
        SCHEDULES[name](max_signal=most, min_signal=least)


# sigmoid: Jabri et al. 2022, algorithm 1.


def sigmoid_abar(t, start=-3.0, end=3.0, tau=1.0):
    def s(value):
        return 1 / (1 + math.exp(-value))

    left = s(end / tau) - s((t * (end - start) + start) / tau)
    return max(left / (s(end / tau) - s(start / tau)), 1e-9)


@pytest.mark.parametrize(
    "options", [{}, {"start": 0.0, "tau": 0.3}, {"start": -3.0, "end": 1.0, "tau": 1.1}], ids=str
)
def test_sigmoid_follows_the_formula_of_the_paper(options):
    schedule = SCHEDULES["sigmoid"](**options)
    for t in INSIDE:
        expected = sigmoid_abar(t, **options)
        assert abar(schedule, t) == pytest.approx(expected, rel=1e-10, abs=1e-15)
        assert schedule.sigma(tensor(t)).item() ** 2 == pytest.approx(1 - expected, rel=1e-10)


def test_sigmoid_has_lost_little_after_a_quarter_of_the_time_and_half_after_half():
    schedule = SCHEDULES["sigmoid"]()
    assert abar(schedule, 0.25) == pytest.approx(0.8509, abs=5e-5)
    assert abar(schedule, 0.5) == pytest.approx(0.5, rel=1e-12)


def test_sigmoid_starts_at_the_image_and_ends_at_its_floor():
    schedule = SCHEDULES["sigmoid"]()
    assert log_snr(schedule, 0.0) == math.inf
    assert abar(schedule, 1.0) == pytest.approx(1e-9, rel=1e-6)


@pytest.mark.parametrize("ends", [(3.0, -3.0), (1.0, 1.0), (math.nan, 3.0)], ids=str)
def test_sigmoid_refuses_ends_out_of_order(ends):
    start, end = ends
    with pytest.raises(BadOption, match=r"schedule 'sigmoid' needs start < end, .* not start"):
        SCHEDULES["sigmoid"](start=start, end=end)


# laplace: Hang et al. 2024, table 1.


def laplace_log_snr(t, mu=0.0, b=0.5):
    quantile = -b * math.copysign(1, 0.5 - t) * math.log(1 - 2 * abs(t - 0.5))
    return min(max(mu + quantile, -15), 15)


@pytest.mark.parametrize("options", [{}, {"mu": 1.5, "b": 0.8}, {"mu": -3.0, "b": 1.0}], ids=str)
def test_laplace_follows_the_formula_of_the_paper(options):
    schedule = SCHEDULES["laplace"](**options)
    for t in INSIDE:
        assert log_snr(schedule, t) == pytest.approx(laplace_log_snr(t, **options), abs=1e-11)


@pytest.mark.parametrize("options", [{}, {"mu": 4.0, "b": 1.0}, {"mu": -4.0}], ids=str)
def test_laplace_is_cut_where_its_quantiles_go_on_to_infinity(options):
    schedule = SCHEDULES["laplace"](**options)
    assert schedule.log_snr(tensor([0.0, 1.0])).tolist() == [15, -15]
    assert log_snr(schedule, 0.5) == options.get("mu", 0)


# shifted_cosine: Hoogeboom et al. 2023, section 3.1.


def shifted_cosine_log_snr(t, side):
    first, last = math.atan(math.exp(-7.5)), math.atan(math.exp(7.5))
    return -2 * math.log(math.tan(first + t * (last - first))) + 2 * math.log(64 / side)


@pytest.mark.parametrize("side", [28, 32, 64, 256])
def test_shifted_cosine_follows_the_formula_of_the_paper(side):
    schedule = SCHEDULES["shifted_cosine"](image_size=side)
    for t in [0.0, *INSIDE, 1.0]:
        assert log_snr(schedule, t) == pytest.approx(shifted_cosine_log_snr(t, side), abs=1e-10)


@pytest.mark.parametrize(("side", "middle"), [(32, 1.386), (64, 0.0), (128, -1.386)])
def test_shifted_cosine_gives_larger_images_more_noise(side, middle):
    schedule = SCHEDULES["shifted_cosine"](image_size=side)
    assert log_snr(schedule, 0.5) == pytest.approx(middle, abs=5e-4)
    ends = schedule.log_snr(tensor([0.0, 1.0])).tolist()
    assert ends == pytest.approx([15 + middle, -15 + middle], abs=5e-4)


def test_shifted_cosine_is_for_64_pixels_unless_told_otherwise():
    assert log_snr(SCHEDULES["shifted_cosine"](), 0.5) == pytest.approx(0, abs=1e-12)


# quad: the code of Song et al. 2021; any number of steps.


@pytest.mark.parametrize("steps", [1000, 50, 4000])
def test_quad_is_the_product_of_the_squares_of_even_roots_of_linears_ends(steps):
    first, last = 0.0001**0.5, 0.02**0.5
    product, expected = 1.0, []
    for i in range(steps):
        product *= 1 - (first + (last - first) * i / (steps - 1)) ** 2
        expected.append(math.sqrt(product))
    at = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    torch.testing.assert_close(SCHEDULES["quad"](T=steps).alpha(at), tensor(expected))


@pytest.mark.parametrize("name", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("steps", [10, 300, 4000])
def test_a_table_of_another_number_of_steps_has_the_betas_of_diffusers(name, steps):
    ends = {"linear": (1e-4, 0.02), "scaled_linear": (0.00085, 0.012)}.get(name, (0.1, 0.2))
    theirs = DDPMScheduler(steps, *ends, beta_schedule=name).betas.double()
    ours = SCHEDULES["cosine_discrete" if name == "squaredcos_cap_v2" else name](T=steps)
    assert ours.table_steps == steps
    torch.testing.assert_close(ours.betas(), theirs, rtol=0, atol=6e-8)  # rounded to float32
    at = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    torch.testing.assert_close(ours.alpha(at) ** 2, (1 - ours.betas()).cumprod(0))
    zero = SCHEDULES["linear"](T=steps, zero_terminal_snr=True)
    assert zero.alpha(tensor([1 / steps, 1.0])).tolist() == pytest.approx([0.9999**0.5, 0])


# signal_linear and noise_linear: the rates of `cosine` at both ends, even in between.


@pytest.mark.parametrize("ends", [(0.95, 0.02), (1.0, 1e-4)], ids=str)
def test_one_of_the_rates_moves_evenly_between_its_ends(ends):
    most, least = ends
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    alpha = SCHEDULES["signal_linear"](max_signal=most, min_signal=least).alpha(t)
    torch.testing.assert_close(alpha, (1 - t) * most + t * least, rtol=1e-12, atol=0)
    sigma = SCHEDULES["noise_linear"](max_signal=most, min_signal=least).sigma(t)
    first, last = math.sqrt(1 - most**2), math.sqrt(1 - least**2)
    torch.testing.assert_close(sigma, (1 - t) * first + t * last, rtol=1e-12, atol=1e-14)
    rates = SCHEDULES["noise_linear"](max_signal=most, min_signal=least)
    assert rates.alpha(t)[[0, -1]].tolist() == pytest.approx(ends, rel=1e-12)


# log_snr_linear: Kingma et al. 2021, the learned schedule before it has learned.


def test_log_snr_linear_falls_evenly():
    schedule = SCHEDULES["log_snr_linear"]()
    for t in [0.0, *INSIDE, 1.0]:
        assert log_snr(schedule, t) == pytest.approx(13.3 - 18.3 * t, rel=1e-12, abs=1e-12)


def test_log_snr_linear_refuses_ends_out_of_order():
    with pytest.raises(BadOption, match="needs min_log_snr < max_log_snr"):
        SCHEDULES["log_snr_linear"](max_log_snr=-3.0, min_log_snr=-3.0)


# normal: EDM's density and SD3's, by the quantiles of Python's own normal distribution.


@pytest.mark.parametrize("t", [0.001, 0.2, 0.5, 0.9, 0.999])
def test_normal_is_the_density_of_edm_and_of_sd3(t):
    noise = NormalDist(-1.2, 1.2).inv_cdf(t)  # ln sigma, Karras et al. 2022, table 1
    assert log_snr(SCHEDULES["normal"](), t) == pytest.approx(-2 * noise, abs=1e-9)
    u = NormalDist(0.5, 0.6).inv_cdf(t)  # Esser et al. 2024, eq. 19: logit of flow's t
    at = 1 / (1 + math.exp(-u))
    logit_normal = SCHEDULES["normal"](mean=-1.0, std=1.2)
    assert log_snr(logit_normal, t) == pytest.approx(2 * math.log((1 - at) / at), abs=1e-9)


@pytest.mark.parametrize("options", [{}, {"mean": -4.0, "std": 3.5}, {"std": 0.1}], ids=str)
def test_normal_is_cut_where_its_quantiles_go_on_to_infinity(options):
    schedule = SCHEDULES["normal"](**options)
    first, last = schedule.log_snr(tensor([0.0, 1.0])).tolist()
    assert first == -last >= 15
    assert (schedule.log_snr(torch.linspace(0, 1, 100_001).double()).diff() < 0).all()


# flow: Lipman et al. 2023; Liu et al. 2023; the shift of Esser et al. 2024, eq. 23.


@pytest.mark.parametrize("shift", [1.0, 3.0, 0.2])
def test_flow_is_the_straight_path_on_the_unit_circle(shift):
    schedule = SCHEDULES["flow"](shift=shift)
    for t in [0.0, *INSIDE, 1.0]:
        u = shift * t / (1 + (shift - 1) * t)
        length = math.hypot(1 - u, u)
        assert schedule.alpha(tensor(t)).item() == pytest.approx((1 - u) / length, rel=1e-12)
        assert schedule.sigma(tensor(t)).item() == pytest.approx(u / length, rel=1e-12)


# Options.


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cosine", {"max_signal": 1.5}, "max_signal must be a number between 0 and 1, not 1.5"),
        ("cosine", {"max_signal": "high"}, "max_signal must be a number between 0 and 1"),
        ("cosine", {"offset": 0.1}, "has no option 'offset'. Available: max_signal, min_signal."),
        ("cosine", {"max_signa": 0.9}, "Did you mean 'max_signal'?"),
        ("cosine", {"zero_terminal_snr": True}, "has no option 'zero_terminal_snr'"),
        ("linear", {"beta_end": 1.0}, "beta_end must be a number between 1e-06 and 0."),
        ("linear", {"beta_start": 0}, "beta_start must be a number between 1e-06 and 0."),
        ("linear", {"zero_terminal_snr": 1}, "zero_terminal_snr must be true or false, not 1"),
        ("cosine_discrete", {"max_beta": 1.0}, "max_beta must be a number between 0.5 and 0.9999"),
        ("laplace", {"b": 0}, "b must be a number between 0"),
        ("sigmoid", {"tau": 0}, "tau must be a number between 0"),
        ("shifted_cosine", {"image_size": 0}, "image_size must be a whole number between 1 and"),
        ("shifted_cosine", {"image_size": 32.5}, "image_size must be a whole number"),
    ],
)
def test_an_option_that_a_schedule_cannot_take_is_refused(name, options, message):
    with pytest.raises(BadOption) as refused:
        SCHEDULES.check_options(name, options)
    assert message in str(refused.value)
