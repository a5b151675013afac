"""Every registered part keeps the contract of its kind: being registered is being tested."""

from dataclasses import replace

import pytest
import torch

from harness.contracts import closed_forms
from harness.contracts.check import Check, NotChecked
from harness.contracts.verify import CONTRACTS, of_part
from harness.parts import REGISTRIES

EVERY = [(kind, name) for kind, contract in CONTRACTS.items() for name in contract.registry]
NEEDS_FILES = {"cifar10", "diffusers", "fashion_mnist", "flowers102", "folder", "mnist", "clip",
               "dinov2", "inception"}  # fmt: skip
PRECISIONS = [torch.float64, torch.float32]


def broken(checks):
    return [each for each in checks if isinstance(each, Check) and not each.holds]


@pytest.fixture(autouse=True)
def no_weights(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_a_part_keeps_the_contract_of_its_kind(kind, name, bench):
    checks = of_part(kind, name, bench)
    assert broken(checks) == []
    assert {type(each) for each in checks} == {NotChecked if name in NEEDS_FILES else Check}
    assert {each.part.partition(",")[0] for each in checks} == {name}


def test_what_needs_a_package_that_is_not_installed_is_not_checked(bench, monkeypatch):
    monkeypatch.setattr("harness.metrics.vision_transformers.find_spec", lambda name: None)
    [told] = of_part("extractor", "dinov2", bench)
    assert isinstance(told, NotChecked)
    assert "pip install" in told.reason


@pytest.mark.parametrize(
    ("kind", "name"), [each for each in EVERY if not CONTRACTS[each[0]].precision]
)
def test_a_part_that_computes_in_float32_keeps_it_there_too(kind, name, bench):
    assert broken(of_part(kind, name, replace(bench, dtype=torch.float32))) == []


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
def test_the_closed_forms_hold(dtype, bench):
    assert broken(closed_forms.claims(replace(bench, dtype=dtype))) == []


def test_every_kind_that_a_grid_can_name_has_a_contract():
    kinds = {registry.kind for registry in REGISTRIES} - {"finding", "plot"}
    assert kinds == {*CONTRACTS}
    assert all(contract.registry.kind == kind for kind, contract in CONTRACTS.items())
