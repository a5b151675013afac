"""Schedules of each kind, under which samplers and targets are tried."""

import pytest
import torch

from harness.diffusion.schedules import SCHEDULES

torch.set_num_threads(1)  # small tensors: more threads only get in each other's way
# The contracts try every part under all. `flow`, where no signal is left, has tests of its own.
OF_EACH_KIND = ["cosine", "cosine_discrete", "laplace", "linear", "normal", "shifted_cosine",
                "sigmoid"]  # fmt: skip


@pytest.fixture(params=OF_EACH_KIND)
def schedule(request):
    return SCHEDULES[request.param]()
