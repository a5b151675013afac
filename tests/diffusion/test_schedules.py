"""Schedules are tested against the betas and formulas of their papers, typed here again."""

import math

import pytest
import torch

from harness.diffusion.schedules import SCHEDULES
from harness.errors import BadOption

TABLE = torch.arange(1, 1001, dtype=torch.float64) / 1000
BETWEEN = torch.linspace(1e-4, 1, 777, dtype=torch.float64)


def tensor(value):
    return torch.tensor(value, dtype=torch.float64)


def abar(schedule, t):
    return schedule.alpha(tensor(t)).item() ** 2


@pytest.fixture(params=SCHEDULES.names())
def schedule(request):
    return SCHEDULES[request.param]()


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
    rates = torch.log(schedule.alpha(BETWEEN) ** 2 / schedule.sigma(BETWEEN) ** 2)
    torch.testing.assert_close(schedule.log_snr(BETWEEN), rates, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (2, 3), (2, 1, 1, 1), (0,)], ids=str)
def test_every_schedule_keeps_the_shape_and_dtype_of_its_times(schedule, shape, dtype):
    t = torch.rand(shape, dtype=dtype, generator=torch.Generator().manual_seed(0))
    for answer in (schedule.log_snr(t), schedule.alpha(t), schedule.sigma(t)):
        assert answer.shape == t.shape
        assert answer.dtype == dtype


def test_every_schedule_gives_each_time_its_own_rates_whatever_stands_beside_it(schedule):
    shuffled = TABLE[torch.randperm(1000, generator=torch.Generator().manual_seed(0))]
    alone = torch.stack([schedule.alpha(t) for t in shuffled[:20]])
    assert torch.equal(schedule.alpha(shuffled)[:20], alone)


def test_the_rates_of_every_schedule_lose_no_digits_in_float32(schedule):
    t = torch.cat([TABLE, BETWEEN]).float()
    for rate in (schedule.alpha, schedule.sigma):
        torch.testing.assert_close(rate(t).double(), rate(t.double()), rtol=1e-7, atol=0)


def test_every_schedule_starts_with_more_signal_and_ends_with_more_noise(schedule):
    assert abar(schedule, 0) >= 0.9
    assert abar(schedule, 1) <= 0.01


# Tables of betas.


@pytest.fixture(params=[name for name in SCHEDULES if SCHEDULES[name]().table_steps])
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


@pytest.mark.parametrize(
    "rates", [(0.5, 0.5), (0.02, 0.95), (0.95, 0.0), (1.5, 0.02), (0.95, -0.1), (math.nan, 0.02)]
)
def test_cosine_refuses_signal_rates_out_of_order(rates):
    most, least = rates
    with pytest.raises(BadOption, match="0 < min_signal < max_signal <= 1"):
        SCHEDULES["cosine"](max_signal=most, min_signal=least)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cosine", {"max_signal": 1.5}, "max_signal must be a number between 0 and 1, not 1.5"),
        ("cosine", {"max_signal": "high"}, "max_signal must be a number between 0 and 1"),
        ("cosine", {"offset": 0.1}, "has no option 'offset'. Available: max_signal, min_signal."),
        ("cosine", {"max_signa": 0.9}, "Did you mean 'max_signal'?"),
        ("linear", {"beta_end": 1.0}, "beta_end must be a number between 1e-06 and 0.999, not 1.0"),
        ("linear", {"beta_start": 0}, "beta_start must be a number between 1e-06 and 0.999, not 0"),
        ("cosine_discrete", {"max_beta": 1.0}, "max_beta must be a number between 0.5 and 0.9999"),
    ],
)
def test_an_option_that_a_schedule_cannot_take_is_refused(name, options, message):
    with pytest.raises(BadOption) as refused:
        SCHEDULES.check_options(name, options)
    assert message in str(refused.value)
