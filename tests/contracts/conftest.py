"""A bench, and parts that are offered as another package would offer them."""

import sys
from importlib.metadata import EntryPoint
from types import ModuleType

import pytest
import torch

from harness import registry
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


@pytest.fixture
def offered(monkeypatch):
    """Offers a part under the name `wrong`."""

    def offered(kind, part):
        module = ModuleType("somebodys")
        module.part = part
        monkeypatch.setitem(sys.modules, "somebodys", module)
        point = EntryPoint("wrong", "somebodys:part", f"harness.{registry.plural(kind)}")
        monkeypatch.setattr(
            registry,
            "_installed",
            lambda group, *_: {"wrong": [point]} if group == point.group else {},
        )

    return offered
