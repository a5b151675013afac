"""The table of the times that a cell is sampled along, against the equations of its schedules."""

import io
import math

import numpy as np
import pandas as pd
import pytest
import torch

from harness.diffusion.schedules import SCHEDULES
from harness.engine.curves import path_csv


def test_a_path_falls_from_noise_to_image_with_the_log_snr_of_its_betas():
    times = torch.tensor([1.0, 0.5, 0.001, 0.0])
    table = pd.read_csv(io.BytesIO(path_csv(SCHEDULES["linear"](), times)))
    assert list(table.columns) == ["t", "log_snr"]
    assert table["t"].tolist() == pytest.approx(times.tolist())
    abar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[[999, 499, 0]]  # Ho et al. 2020
    assert table["log_snr"][:3].to_numpy() == pytest.approx(np.log(abar / (1 - abar)), rel=1e-5)
    assert table["log_snr"][3] == math.inf  # at 0 no noise is left


def test_a_path_that_starts_without_signal_says_so():
    schedule = SCHEDULES["linear"](zero_terminal_snr=True)
    written = path_csv(schedule, torch.tensor([1.0, 0.5, 0.0]))
    first, middle, last = pd.read_csv(io.BytesIO(written))["log_snr"]
    assert (first, last) == (-math.inf, math.inf)
    assert math.isfinite(middle)
