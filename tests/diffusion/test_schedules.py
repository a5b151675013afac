"""What every schedule promises, and the tables of betas among them."""

import math

import pytest
import torch

from harness.diffusion.levels import levels, rates
from harness.diffusion.schedules import SCHEDULES

TABLE = torch.arange(1, 1001, dtype=torch.float64) / 1000
BETWEEN = torch.linspace(1e-4, 1, 777, dtype=torch.float64)
TABLES = [name for name in SCHEDULES if SCHEDULES[name]().table_steps]
ALL = [(name, {}) for name in SCHEDULES] + [(name, {"zero_terminal_snr": True}) for name in TABLES]


def tensor(value):
    return torch.tensor(value, dtype=torch.float64)


def abar(schedule, t):
    return schedule.alpha(tensor(t)).item() ** 2


def labelled(case):
    return case[0] + ("-zero" if case[1] else "")


@pytest.fixture(params=ALL, ids=labelled)
def schedule(request):
    name, options = request.param
    return SCHEDULES[name](**options)


# The contract of every schedule.


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_schedule_keeps_the_variance(schedule, dtype):
    t = torch.cat([torch.zeros(1), TABLE, BETWEEN]).to(dtype)
    torch.testing.assert_close(schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2, torch.ones_like(t))


@pytest.mark.parametrize("t", [TABLE, BETWEEN], ids=["table", "between"])
def test_every_schedule_loses_signal_all_the_time(schedule, t):
    assert (schedule.log_snr(t).diff() < 0).all()
    assert (schedule.alpha(t).diff() < 0).all()
    assert (schedule.sigma(t).diff() > 0).all()


def test_the_log_snr_of_every_schedule_is_that_of_its_rates(schedule):
    expected = torch.log(schedule.alpha(BETWEEN) ** 2 / schedule.sigma(BETWEEN) ** 2)
    torch.testing.assert_close(schedule.log_snr(BETWEEN), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (2, 3), (2, 1, 1, 1), (0,)], ids=str)
def test_every_schedule_keeps_the_shape_and_dtype_of_its_times(schedule, shape, dtype):
    t = torch.rand(shape, dtype=dtype, generator=torch.Generator().manual_seed(0))
    log_snr = torch.linspace(-25, 25, max(1, t.numel()))[: t.numel()].view(shape).to(dtype)
    answers = schedule.log_snr(t), schedule.alpha(t), schedule.sigma(t), schedule.t(log_snr)
    for answer in answers:
        assert answer.shape == t.shape
        assert answer.dtype == dtype


def test_every_schedule_gives_each_time_its_own_rates_whatever_stands_beside_it(schedule):
    shuffled = TABLE[torch.randperm(1000, generator=torch.Generator().manual_seed(0))]
    alone = torch.stack([schedule.alpha(t) for t in shuffled[:20]])
    # Not equal to the last digit: torch takes several tangents at once by another routine.
    torch.testing.assert_close(schedule.alpha(shuffled)[:20], alone, rtol=1e-14, atol=0)


def test_the_rates_of_every_schedule_lose_no_digits_in_float32(schedule):
    t = torch.cat([TABLE, BETWEEN]).float()
    for rate in (schedule.alpha, schedule.sigma):
        torch.testing.assert_close(rate(t).double(), rate(t.double()), rtol=1e-7, atol=0)


def test_every_schedule_starts_with_more_signal_and_ends_with_more_noise(schedule):
    assert abar(schedule, 0) >= 0.9
    assert abar(schedule, 1) <= 0.01


# The inverse, t(log SNR).


@pytest.mark.parametrize("t", [TABLE, BETWEEN], ids=["table", "between"])
def test_every_schedule_finds_its_times_again_from_their_log_snr(schedule, t):
    torch.testing.assert_close(schedule.t(schedule.log_snr(t)), t, rtol=0, atol=1e-11)


def test_every_schedule_finds_a_time_for_each_log_snr_between_its_ends(schedule):
    most, least = schedule.log_snr(tensor([0.0, 1.0])).tolist()
    wanted = torch.linspace(min(most, 9) - 0.01, max(least, -9) + 0.01, 301, dtype=torch.float64)
    t = schedule.t(wanted)
    assert (t.diff() > 0).all()
    torch.testing.assert_close(schedule.log_snr(t), wanted, rtol=0, atol=1e-7)


def test_a_log_snr_beyond_an_end_of_a_schedule_is_at_that_end(schedule):
    beyond = tensor([math.inf, 1000.0, -1000.0, -math.inf])
    first, second, third, last = schedule.t(beyond).tolist()
    assert (first, last) == (0, 1)
    # Where log SNR is infinite at an end, no number is beyond it.
    assert second == 0 if schedule.log_snr(tensor(0.0)).isfinite() else 0 <= second < 1e-12
    assert third == 1 if schedule.log_snr(tensor(1.0)).isfinite() else 1 - 1e-12 < third <= 1


def test_every_schedule_finds_its_ends_again(schedule):
    ends = tensor([0.0, 1.0])
    assert schedule.t(schedule.log_snr(ends)).tolist() == [0, 1]


def test_the_times_found_in_float32_are_near_those_in_float64(schedule):
    log_snr = torch.linspace(-8, 8, 33)
    near = schedule.t(log_snr.double())
    torch.testing.assert_close(schedule.t(log_snr).double(), near, rtol=1e-6, atol=1e-7)


# Levels: the rates of one time as numbers.


def test_a_level_holds_the_rates_of_its_time(schedule):
    t = torch.cat([tensor([0.9, 0.5]), TABLE[:1]])
    for level, time in zip(levels(schedule, t), t, strict=True):
        assert torch.equal(level.t, time)
        assert level.alpha == pytest.approx(schedule.alpha(time).item(), rel=1e-14)
        assert level.sigma == pytest.approx(schedule.sigma(time).item(), rel=1e-14)
        assert level.log_snr == pytest.approx(schedule.log_snr(time).item(), rel=1e-13)
        assert level.ratio == pytest.approx(math.exp(-level.log_snr / 2), rel=1e-12)
        assert rates(schedule, time) == pytest.approx((level.alpha, level.sigma), rel=1e-14)


def test_a_level_knows_log_abar_where_the_signal_is_almost_all_or_almost_nothing(schedule):
    for level in levels(schedule, tensor([1.0, 0.999, 0.5, 0.2])):
        expected = 2 * math.log(level.alpha) if level.alpha else -math.inf
        assert level.log_abar == pytest.approx(expected, rel=1e-12)
    # 2 log(alpha) would be wrong by 1e-9 of itself here.
    [first] = levels(schedule, tensor([1e-6]))
    assert -math.expm1(first.log_abar) == pytest.approx(first.sigma**2, rel=1e-12, abs=0)


def test_a_level_in_float32_is_exact_at_its_time_as_it_stands(schedule):
    t = torch.tensor([0.3, 0.7])
    for level, time in zip(levels(schedule, t), t, strict=True):
        assert level.t.dtype == torch.float32
        assert level.alpha == pytest.approx(schedule.alpha(time.double()).item(), rel=1e-14)


# Tables of betas.


@pytest.fixture(params=TABLES)
def table(request):
    return SCHEDULES[request.param]()


def test_a_table_starts_without_noise(table):
    assert table.alpha(tensor(0.0)) == 1
    assert table.sigma(tensor(0.0)) == 0
    assert table.log_snr(tensor(0.0)) == math.inf


def test_a_table_is_the_product_of_its_betas(table):
    product = torch.cumprod(1 - table.betas(), dim=0)
    torch.testing.assert_close(table.alpha(TABLE), product.sqrt(), rtol=1e-11, atol=0)


def test_the_first_noise_rate_of_a_table_is_exact_in_float32(table):
    # 1 - abar in float32 would be wrong by 1.7e-4 here.
    first_beta = table.betas()[0].item()
    assert table.sigma(torch.tensor(0.001)).item() == pytest.approx(first_beta**0.5, rel=1e-6)


def test_between_two_entries_the_logarithm_of_abar_is_interpolated(table):
    entries = table.alpha(torch.arange(0, 1001, dtype=torch.float64) / 1000) ** 2
    middle = (torch.arange(0, 1000, dtype=torch.float64) + 0.5) / 1000
    quarter = (torch.arange(0, 1000, dtype=torch.float64) + 0.25) / 1000
    torch.testing.assert_close(
        table.alpha(middle) ** 2, (entries[:-1] * entries[1:]).sqrt(), rtol=1e-9, atol=0
    )
    torch.testing.assert_close(
        table.alpha(quarter) ** 2, entries[:-1] ** 0.75 * entries[1:] ** 0.25, rtol=1e-9, atol=0
    )


def test_only_the_tables_have_a_number_of_steps():
    assert TABLES == ["cosine_discrete", "linear", "quad", "scaled_linear"]
    assert {SCHEDULES[name]().table_steps for name in TABLES} == {1000}
