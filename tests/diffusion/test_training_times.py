"""Densities of training times against the formulas of Esser et al. 2024 (SD3), typed here."""

import math
from statistics import NormalDist

import pytest
import torch

from harness.diffusion.schedules import SCHEDULES
from harness.diffusion.training_times import TIME_DENSITIES, training_times

U = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)


@pytest.mark.parametrize("options", [{}, {"mean": 0.5, "std": 0.6}], ids=str)
def test_logit_normal_has_the_density_of_equation_19(options):
    times = TIME_DENSITIES["logit_normal"](U, **options)
    normal = NormalDist(options.get("mean", 0.0), options.get("std", 1.0))
    share = [normal.cdf(math.log(t / (1 - t))) for t in times.tolist()]
    assert share == pytest.approx(U.tolist(), abs=1e-9)


@pytest.mark.parametrize("scale", [-1.0, 0.0, 1.29, 1.75])
def test_mode_has_the_quantiles_of_equation_20_from_the_other_end(scale):
    times = TIME_DENSITIES["mode"](U, scale=scale)
    for u, t in zip(U.tolist(), times.tolist(), strict=True):
        v = 1 - u  # the paper's f falls with its u
        paper = 1 - v - scale * (math.cos(math.pi / 2 * v) ** 2 - 1 + v)
        assert t == pytest.approx(paper, abs=1e-12)


def test_cosmap_has_the_density_of_equation_21():
    times = TIME_DENSITIES["cosmap"](U)
    middle = (times[1:] + times[:-1]) / 2
    paper = 2 / (math.pi - 2 * math.pi * middle + 2 * math.pi * middle**2)
    torch.testing.assert_close(U.diff() / times.diff(), paper, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", TIME_DENSITIES)
def test_a_table_is_trained_at_its_entries_as_often_as_the_density_has_it(name):
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    table = SCHEDULES["linear"](T=50)
    times, counts = training_times(table, u, TIME_DENSITIES[name]).unique(return_counts=True)
    entries = torch.arange(1, 51, dtype=torch.float64) / 50
    assert torch.isin(times, entries).all()
    drawn = training_times(SCHEDULES["flow"](), u, TIME_DENSITIES[name])
    expected = [((drawn > t - 0.02) & (drawn <= t)).sum().item() for t in times]
    assert counts.tolist() == pytest.approx(expected, abs=4)


@pytest.mark.parametrize("name", TIME_DENSITIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_density_asks_for_time_zero_nor_for_later_than_one(name, dtype):
    ends = torch.tensor([0.0, 1 - torch.finfo(dtype).eps / 2], dtype=dtype)
    for schedule in ("flow", "linear"):
        times = training_times(SCHEDULES[schedule](), ends, TIME_DENSITIES[name])
        assert times.dtype == dtype
        assert ((times > 0) & (times <= 1)).all()
