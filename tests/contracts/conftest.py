"""A bench, and fewer samplers on it."""

import pytest
import torch

from harness.contracts.check import Bench
from harness.diffusion.samplers import SAMPLERS


@pytest.fixture
def bench(tmp_path):
    return Bench(torch.float64, torch.device("cpu"), tmp_path)


@pytest.fixture
def few(monkeypatch):
    """Only the samplers that claims speak of by name: all of them take a quarter of a minute."""
    kept = {name: SAMPLERS[name] for name in ("ddim", "ddpm", "ddpm_large")}
    monkeypatch.setattr(SAMPLERS, "_builtin", kept)
