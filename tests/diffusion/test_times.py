"""Spacings are tested against lists worked out by hand, in entries of the table of 1,000."""

import pytest
import torch

from harness.diffusion.schedules import SCHEDULES
from harness.diffusion.times import SPACINGS
from harness.errors import BadOption

FEWEST = {"leading": 2, "quadratic": 2}
FROM_SIGNAL = ("log_snr", "karras")  # not for a schedule that ends in pure noise
MOST = {"leading": 1000, "trailing": 1000, "linspace": 1000, "quadratic": 1000}


# `explicit` is no rule but a list, and `fitted` needs a network.
RULES = [name for name in SPACINGS if name not in ("explicit", "fitted")]


@pytest.fixture(params=RULES)
def name(request):
    return request.param


def times_of(name, steps, **options):
    return SPACINGS[name](SCHEDULES["linear"](), steps, **options)


def entries(name, steps):
    """The times in units of table entries, the final 0 left out."""
    return (times_of(name, steps)[:-1] * 1000).tolist()


# The contract of every spacing.


def numbers_of_steps(schedule_name):
    """All of them under one schedule, which costs seconds, and a share of them under each other."""
    if schedule_name == "cosine":
        return range(1, 1001)
    return [*range(1, 9), *range(10 + SCHEDULES.names().index(schedule_name), 1001, 16)]


@pytest.mark.parametrize("schedule_name", SCHEDULES.names())
def test_every_spacing_makes_as_many_steps_as_it_is_asked_and_each_goes_back_in_time(
    name, schedule_name
):
    schedule = SCHEDULES[schedule_name]()
    if schedule.ends_in_pure_noise and name in FROM_SIGNAL:
        return
    for steps in numbers_of_steps(schedule_name):
        if steps < FEWEST.get(name, 1):
            continue
        times = SPACINGS[name](schedule, steps)
        assert times.shape == (steps + 1,)
        assert times[0] <= 1
        assert (times.diff() < 0).all(), steps
        assert times[-1] == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_spacing_gives_the_dtype_it_is_asked(name, dtype):
    times = times_of(name, 13, dtype=dtype)
    assert times.dtype == dtype
    assert torch.equal(times, times_of(name, 13).to(dtype))


def test_every_spacing_is_exact_in_float64_unless_told_otherwise(name):
    assert times_of(name, 13).dtype == torch.float64


def test_no_two_times_of_any_spacing_meet_in_float32(name):
    for steps in (500, 1000):
        assert (times_of(name, steps, dtype=torch.float32).diff() < 0).all()


@pytest.mark.parametrize("steps", [0, -3])
def test_every_spacing_refuses_less_than_one_step(name, steps):
    with pytest.raises(BadOption, match=rf"'{name}' needs at least [12] steps, not {steps}"):
        times_of(name, steps)


@pytest.mark.parametrize("name", FEWEST)
def test_a_spacing_that_cannot_make_one_step_says_so(name):
    with pytest.raises(BadOption, match=f"spacing '{name}' needs at least 2 steps, not 1"):
        SPACINGS[name].check_steps(1)


@pytest.mark.parametrize("name", MOST)
def test_a_spacing_from_the_table_refuses_more_steps_than_the_table_has(name):
    with pytest.raises(BadOption) as refused:
        times_of(name, 1001)
    assert f"spacing '{name}' picks from a table of 1000 times: 1001 steps" in str(refused.value)
    assert "Use spacing 'uniform', which takes any number." in str(refused.value)


@pytest.mark.parametrize("name", sorted(set(RULES) - set(MOST)))
def test_the_other_spacings_make_more_steps_than_the_table_has(name):
    times = times_of(name, 2500)
    assert len(times) == 2501
    assert (times.diff() < 0).all()


def test_a_spacing_refuses_an_option_it_does_not_have():
    with pytest.raises(BadOption, match="spacing 'trailing' has no option 'rho'"):
        SPACINGS.check_options("trailing", {"rho": 7})


# The lists themselves.


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (1, [1000]),
        (4, [1000, 750, 500, 250]),
        (5, [1000, 800, 600, 400, 200]),
        (13, [1000 * (13 - k) / 13 for k in range(13)]),
        (61, [1000 * (61 - k) / 61 for k in range(61)]),
    ],
)
def test_uniform_takes_even_steps_from_one(steps, expected):
    assert entries("uniform", steps) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("steps", "first", "stride"),
    [
        (2, 501, 500),
        (3, 667, 333),
        (10, 901, 100),
        (13, 913, 76),
        (50, 981, 20),
        (61, 961, 16),
        (100, 991, 10),
        (500, 999, 2),
        (501, 501, 1),
        (1000, 1000, 1),
    ],
)
def test_leading_takes_every_so_many_entries_from_the_first(steps, first, stride):
    assert entries("leading", steps) == pytest.approx(list(range(first, 0, -stride)), rel=1e-12)


def test_leading_starts_below_half_from_501_steps_on():
    assert times_of("leading", 500)[0] > 0.99
    assert all(times_of("leading", steps)[0] == steps / 1000 for steps in (501, 700, 999))


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (1, [1000]),
        (3, [1000, 667, 333]),
        (10, [1000, 900, 800, 700, 600, 500, 400, 300, 200, 100]),
        (13, [1000, 923, 846, 769, 692, 615, 538, 462, 385, 308, 231, 154, 77]),
    ],
)
def test_trailing_takes_every_so_many_entries_from_the_last(steps, expected):
    assert entries("trailing", steps) == pytest.approx(expected, rel=1e-12)


def test_trailing_makes_61_steps_of_61():
    listed = entries("trailing", 61)
    assert listed[:6] == pytest.approx([1000, 984, 967, 951, 934, 918], rel=1e-12)
    assert listed[-5:] == pytest.approx([82, 66, 49, 33, 16], rel=1e-12)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        # Exactly 937.5, 875, 812.5, ...
        (16, [1000, 938, 875, 812, 750, 688, 625, 562, 500, 438, 375, 312, 250, 188, 125, 62]),
        # Every third of 48 is 937.5, 812.5, ...; floats that add up 20.8333 miss the half.
        (48, [1000, 979, 958, 938, 917, 896, 875, 854, 833, 812, 792, 771]),
    ],
)
def test_trailing_rounds_exact_halves_to_even(steps, expected):
    assert entries("trailing", steps)[: len(expected)] == pytest.approx(expected, rel=1e-12)


def test_trailing_rounds_the_exact_value_for_any_number_of_steps():
    for steps in range(1, 1001):
        expected = []
        for left in range(steps, 0, -1):
            whole, rest = divmod(1000 * left, steps)
            half, odd = 2 * rest == steps, whole % 2
            expected.append(whole + (odd if half else 2 * rest > steps))
        assert torch.equal(times_of("trailing", steps)[:-1], torch.tensor(expected).double() / 1000)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (1, [1000]),
        (2, [1000, 1]),
        (3, [1000, 500, 1]),
        (10, [1000, 889, 778, 667, 556, 445, 334, 223, 112, 1]),
        # 833.5, 500.5 and 167.5 are rounded to even.
        (13, [1000, 917, 834, 750, 667, 584, 500, 417, 334, 251, 168, 84, 1]),
    ],
)
def test_linspace_takes_even_steps_from_the_last_entry_to_the_first(steps, expected):
    assert entries("linspace", steps) == pytest.approx(expected, rel=1e-12)


def test_linspace_makes_61_steps_of_61():
    listed = entries("linspace", 61)
    assert listed[:5] == pytest.approx([1000, 983, 967, 950, 933], rel=1e-12)
    assert listed[-3:] == pytest.approx([34, 18, 1], rel=1e-12)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (2, [801, 1]),
        (3, [801, 201, 1]),
        (5, [801, 451, 201, 51, 1]),
        (11, [801, 649, 513, 393, 289, 201, 129, 73, 33, 9, 1]),
        (13, [1 + 800 * (12 - k) ** 2 / 144 for k in range(13)]),
        (61, [1 + 800 * (60 - k) ** 2 / 3600 for k in range(61)]),
    ],
)
def test_quadratic_takes_squares_of_even_steps_and_rounds_none(steps, expected):
    assert entries("quadratic", steps) == pytest.approx(expected, rel=1e-12)


def test_quadratic_starts_where_little_signal_is_left_under_linear_only():
    first = times_of("quadratic", 10)[0]
    assert first.item() == pytest.approx(0.801, rel=1e-12)
    left = {name: SCHEDULES[name]().alpha(first).item() ** 2 for name in SCHEDULES}
    assert left["linear"] == pytest.approx(0.0015, abs=5e-5)
    assert left["cosine_discrete"] == pytest.approx(0.093, abs=5e-4)
