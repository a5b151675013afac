"""Whatever becomes of a grid file: within two seconds its cells, or one message to act on."""

import time

import pytest
import torch
from hostile import mutated_grids, unprintable
from hypothesis import HealthCheck, given, settings

from harness.errors import GridError
from harness.plan.grid import MOST_CELLS, expand, load_grid

SECONDS = 2.0
SCREEN = 5_000  # letters


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    load_grid("runs/smoke.yaml")  # what it loads is not the time of the first mutation ...
    assert torch.zeros(1) == 0  # ... nor what some schedules are looked at with
    return tmp_path_factory.mktemp("mutated") / "grid.yaml"


def answered(path, content):
    """That a file of this content is expanded, or refused in words."""
    path.write_bytes(content)
    began = time.process_time()
    try:
        assert 0 < len(expand(load_grid(path))) <= MOST_CELLS
    except GridError as refused:
        told = str(refused)
        assert told.startswith(("the grid ", str(path)))
        assert not unprintable(told), told
        assert len(told) < SCREEN, told
    assert time.process_time() - began < SECONDS


def fuzzed(count):
    return settings(
        max_examples=count, deadline=None, derandomize=True, database=None,
        suppress_health_check=[*HealthCheck],
    )  # fmt: skip


@given(content=mutated_grids())
@fuzzed(1_000)
def test_a_mutated_grid_has_an_answer(path, content):
    answered(path, content)


@pytest.mark.slow
@given(content=mutated_grids())
@fuzzed(10_000)
def test_ten_thousand_mutated_grids_have_an_answer(path, content):
    answered(path, content)
