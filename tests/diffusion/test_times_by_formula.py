"""Spacings that follow the schedule (log_snr, karras, angle), and times that are written out."""

import math

import pytest
import torch

from harness.diffusion.schedules import SCHEDULES
from harness.diffusion.times import SPACINGS
from harness.errors import BadOption

INFINITE_AT_ZERO = ["linear", "quad", "scaled_linear", "cosine_discrete", "sigmoid", "flow"]
FINITE_AT_ZERO = ["cosine", "laplace", "log_snr_linear", "noise_linear", "normal",
                  "shifted_cosine", "signal_linear"]  # fmt: skip
TO_PURE_NOISE = [name for name in SCHEDULES if SCHEDULES[name]().table_steps]
NUMBERS = [2, 3, 10, 61]


def tensor(value):
    return torch.tensor(value, dtype=torch.float64)


def ends_of(schedule):
    """The times of the last noise and of the image for `log_snr` and `karras`."""
    return (1.0, 0.0) if schedule.log_snr(tensor(0.0)).isfinite() else (1.0, 0.001)


def slack(schedule, times):
    """How much log SNR changes over one rounding of t: a time near 1 has no more digits, and one
    near 0 is found to within 2^-64."""
    below = (times * (1 - 4e-16) - 2**-63).clamp(min=0)
    return (schedule.log_snr(times) - schedule.log_snr(below)).abs() + 1e-9


def assert_log_snr(schedule, times, expected):
    off = (schedule.log_snr(times) - tensor(expected)).abs()
    assert (off <= slack(schedule, times)).all()


# log_snr.


def test_the_schedules_are_told_apart_by_their_log_snr_at_the_image():
    finite = [name for name in SCHEDULES if SCHEDULES[name]().log_snr(tensor(0.0)).isfinite()]
    assert sorted(finite) == FINITE_AT_ZERO
    assert sorted(set(SCHEDULES) - set(finite)) == sorted(INFINITE_AT_ZERO)


@pytest.mark.parametrize("steps", NUMBERS)
def test_log_snr_takes_even_steps_of_log_snr(schedule, steps):
    times = SPACINGS["log_snr"](schedule, steps)
    first, last = (schedule.log_snr(tensor(end)).item() for end in ends_of(schedule))
    # Where log SNR is infinite at 0 the last of N times is 1/T; else 0 ends the last of N steps.
    intervals = steps if ends_of(schedule)[1] == 0 else steps - 1
    expected = [first + (last - first) * k / intervals for k in range(steps)]
    assert_log_snr(schedule, times[:-1], expected)


@pytest.mark.parametrize(
    ("spacing", "options"),
    [("log_snr", {})] + [("karras", {"rho": rho}) for rho in (1.0, 2.5, 7.0, 19.0, 100.0)],
)
def test_both_ends_are_exact(schedule, spacing, options):
    times = SPACINGS[spacing](schedule, 10, **options).tolist()
    assert times[0] == 1
    assert times[-1] == 0
    last = ends_of(schedule)[1]
    assert times[-2] == last if last else times[-2] > 0


@pytest.mark.parametrize("spacing", ["log_snr", "karras", "angle"])
def test_one_step_goes_all_the_way(schedule, spacing):
    assert SPACINGS[spacing](schedule, 1).tolist() == [1, 0]


# karras: Karras et al. 2022, eq. 5.


@pytest.mark.parametrize("steps", NUMBERS)
@pytest.mark.parametrize("rho", [1.0, 3.0, 7.0])
def test_karras_follows_equation_5_of_the_paper(schedule, rho, steps):
    times = SPACINGS["karras"](schedule, steps, rho=rho)
    most, least = (
        schedule.sigma(tensor(end)).item() / schedule.alpha(tensor(end)).item()
        for end in ends_of(schedule)
    )
    n = steps + 1 if ends_of(schedule)[1] == 0 else steps  # sigma_(n-1) is the least
    ratios = [
        (most ** (1 / rho) + i / (n - 1) * (least ** (1 / rho) - most ** (1 / rho))) ** rho
        for i in range(steps)
    ]
    assert_log_snr(schedule, times[:-1], [-2 * math.log(ratio) for ratio in ratios])


def test_karras_has_the_rho_of_the_paper_unless_told_otherwise(schedule):
    seven = SPACINGS["karras"](schedule, 10, rho=7.0)
    assert torch.equal(SPACINGS["karras"](schedule, 10), seven)


def test_karras_draws_near_log_snr_as_rho_grows():
    schedule = SCHEDULES["linear"]()
    even = SPACINGS["log_snr"](schedule, 20)
    off = [
        (SPACINGS["karras"](schedule, 20, rho=rho) - even).abs().max() for rho in (7.0, 30.0, 100.0)
    ]
    assert off[0] > 2 * off[1] > 4 * off[2]


# angle.


@pytest.mark.parametrize("steps", [*NUMBERS, 1])
@pytest.mark.parametrize("spread", [0.25, 1.0, 3.0])
@pytest.mark.parametrize(
    ("name", "options"),
    [(name, {}) for name in SCHEDULES]
    + [(name, {"zero_terminal_snr": True}) for name in TO_PURE_NOISE],
)
def test_angle_turns_evenly_from_the_first_time_to_the_image(name, options, spread, steps):
    schedule = SCHEDULES[name](**options)

    def theta(t):
        alpha, sigma = schedule.alpha(tensor(t)).item(), schedule.sigma(tensor(t)).item()
        return math.atan2(sigma, alpha * spread)

    times = SPACINGS["angle"](schedule, steps, data_std=spread).tolist()
    expected = [theta(1) + k / steps * (theta(0) - theta(1)) for k in range(steps)]
    # To 1e-9: near t = 1 the angle of laplace turns by so much from one float to the next.
    assert [theta(t) for t in times[:-1]] == pytest.approx(expected, abs=1e-9)
    assert times[0] == 1


def test_angle_takes_the_spread_of_the_data_for_one_unless_told_otherwise(schedule):
    one = SPACINGS["angle"](schedule, 10, data_std=1.0)
    assert torch.equal(SPACINGS["angle"](schedule, 10), one)


def test_angle_is_uniform_where_the_schedule_is_made_of_even_angles():
    schedule = SCHEDULES["cosine"]()
    even = SPACINGS["uniform"](schedule, 13)
    torch.testing.assert_close(SPACINGS["angle"](schedule, 13), even, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("karras", {"rho": 0.5}, "rho must be a number between 1 and 100, not 0.5"),
        ("angle", {"data_std": 0}, "data_std must be a number between 0.001 and 100, not 0"),
        ("log_snr", {"rho": 7}, "spacing 'log_snr' has no option 'rho'. It has none."),
        ("explicit", {"times": 0.5}, "times must be a list of numbers, not 0.5"),
    ],
)
def test_an_option_that_a_spacing_cannot_take_is_refused(name, options, message):
    with pytest.raises(BadOption) as refused:
        SPACINGS.check_options(name, options)
    assert message in str(refused.value)


# explicit.


def test_explicit_times_are_those_that_are_listed(schedule):
    times = SPACINGS["explicit"](schedule, 3, times=(1.0, 0.6, 0.2))
    assert times.tolist() == [1.0, 0.6, 0.2, 0.0]
    assert times.dtype == torch.float64
    whole = SPACINGS["explicit"](schedule, 1, times=(1,), dtype=torch.float32)
    assert whole.tolist() == [1, 0]
    assert whole.dtype == torch.float32


def test_explicit_times_may_begin_after_the_last():
    times = SPACINGS["explicit"](SCHEDULES["linear"](), 2, times=(0.801, 1e-6))
    assert times.tolist() == [0.801, 1e-6, 0]


def test_a_grid_may_list_explicit_times():
    checked = SPACINGS.check_options("explicit", {"times": [1.0, 0.5]})
    assert checked == {"times": (1.0, 0.5)}
    SPACINGS["explicit"].check_steps(2, **checked)


@pytest.mark.parametrize(
    ("steps", "times", "message"),
    [
        (3, (), "times must fall from at most 1 and stay above 0"),
        (2, (0.5, 0.5), "times must fall from at most 1"),
        (2, (0.2, 0.5), "times must fall from at most 1"),
        (2, (1.1, 0.5), "times must fall from at most 1"),
        (2, (0.5, 0.0), "(the last step to 0 is not listed), not [0.5, 0.0]"),
        (2, (0.5, -0.1), "stay above 0"),
        (1, (math.inf,), "times must fall from at most 1"),
        (1, (math.nan,), "spacing 'explicit': times must"),
        (2, (1.0, math.nan), "spacing 'explicit': times must"),
        (1, ("0.5",), "times must be numbers, not ['0.5']"),
        (1, (None,), "times must be numbers, not [None]"),
        (1, (True,), "times must be numbers, not [True]"),
        (3, (1.0, 0.5), "lists 2 times, which make so many steps, not 3"),
        (1, (1.0, 0.5), "lists 2 times, which make so many steps, not 1"),
    ],
)
def test_explicit_times_that_cannot_be_taken_are_refused(steps, times, message):
    for ask in (
        lambda: SPACINGS["explicit"].check_steps(steps, times=times),
        lambda: SPACINGS["explicit"](SCHEDULES["linear"](), steps, times=times),
    ):
        with pytest.raises(BadOption) as refused:
            ask()
        assert message in str(refused.value)


def test_explicit_without_times_is_refused():
    with pytest.raises(BadOption, match="times must fall"):
        SPACINGS["explicit"](SCHEDULES["linear"](), 3)
    with pytest.raises(BadOption, match="times must fall"):
        SPACINGS["explicit"].check_steps(3)
