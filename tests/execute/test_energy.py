"""The energy counters of a machine, from a made-up folder of RAPL and a made-up NVML."""

import math
import sys
from types import SimpleNamespace

import pytest
import torch

from harness.execute import energy

CPU = torch.device("cpu")


@pytest.fixture
def powercap(tmp_path, monkeypatch):
    folder = tmp_path / "powercap"
    folder.mkdir()
    monkeypatch.setattr(energy, "POWERCAP", folder)
    return folder


def zone(folder, place, name, energy):
    """As the kernel lays them out: each zone in one flat folder, in microjoules."""
    (folder / place).mkdir()
    (folder / place / "name").write_text(f"{name}\n")
    (folder / place / "energy_uj").write_text(f"{energy}\n")


def test_the_packages_of_a_machine_are_added_up_in_joules(powercap):
    zone(powercap, "intel-rapl:0", "package-0", 2_500_000)
    zone(powercap, "intel-rapl:1", "package-1", 1_000_000)
    assert energy.joules(CPU) == pytest.approx(3.5)


def test_a_package_is_not_counted_again_in_its_parts_or_in_the_platform(powercap):
    (powercap / "intel-rapl").mkdir()  # the control type itself counts nothing
    zone(powercap, "intel-rapl:0", "package-0", 2_500_000)
    zone(powercap, "intel-rapl:0:0", "core", 2_000_000)
    zone(powercap, "intel-rapl:0:1", "dram", 300_000)
    zone(powercap, "intel-rapl:1", "psys", 9_000_000)
    zone(powercap, "intel-rapl-mmio:0", "package-0", 2_500_000)  # the same counter elsewhere
    assert energy.joules(CPU) == pytest.approx(2.5)


def test_a_machine_without_counters_does_not_tell(powercap):
    assert math.isnan(energy.joules(CPU))
    powercap.rmdir()
    assert math.isnan(energy.joules(CPU))


@pytest.mark.parametrize("why", ["not allowed", "gone", "no number"])
def test_counters_that_cannot_be_read_do_not_tell(powercap, why):
    zone(powercap, "intel-rapl:0", "package-0", 2_500_000)
    zone(powercap, "intel-rapl:1", "package-1", 1_000_000)
    counter = powercap / "intel-rapl:1" / "energy_uj"
    counter.unlink()
    if why == "not allowed":
        counter.mkdir()  # an OSError for everyone, root too
    elif why == "no number":
        counter.write_text("not supported\n")
    assert math.isnan(energy.joules(CPU))


# A GPU.


@pytest.fixture
def gpus(monkeypatch):
    """Two cards, of which the second is the current one."""
    counters = {"GPU-one": 1_500, "GPU-two": 250_000}  # millijoules
    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetTotalEnergyConsumption=counters.__getitem__,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(
        torch.cuda,
        "get_device_properties",
        lambda place: SimpleNamespace(uuid=["one", "two"][place]),
    )
    return counters


@pytest.mark.parametrize(("name", "joules"), [("cuda:0", 1.5), ("cuda:1", 250), ("cuda", 250)])
def test_a_card_tells_its_own_energy_in_joules(gpus, name, joules):
    assert energy.joules(torch.device(name)) == pytest.approx(joules)


def test_a_card_that_nvml_does_not_know_does_not_tell(gpus):
    del gpus["GPU-one"]
    assert math.isnan(energy.joules(torch.device("cuda:0")))


def test_without_nvml_a_card_does_not_tell(gpus, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)  # importing it raises ImportError
    assert math.isnan(energy.joules(torch.device("cuda:0")))
