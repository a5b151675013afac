"""The energy counters of a machine, from a made-up folder of RAPL and a made-up NVML."""

import math
import sys
from types import SimpleNamespace

import pytest
import torch
from threadpoolctl import threadpool_info

from harness.execute import machine

CPU = torch.device("cpu")


@pytest.fixture
def powercap(tmp_path, monkeypatch):
    folder = tmp_path / "powercap"
    folder.mkdir()
    monkeypatch.setattr(machine, "POWERCAP", folder)
    return folder


def zone(folder, place, name, energy):
    """As the kernel lays them out: each zone in one flat folder, in microjoules."""
    (folder / place).mkdir()
    (folder / place / "name").write_text(f"{name}\n")
    (folder / place / "energy_uj").write_text(f"{energy}\n")


def test_the_packages_of_a_machine_are_added_up_in_joules(powercap):
    zone(powercap, "intel-rapl:0", "package-0", 2_500_000)
    zone(powercap, "intel-rapl:1", "package-1", 1_000_000)
    assert machine.joules(CPU) == pytest.approx(3.5)


def test_a_package_is_not_counted_again_in_its_parts_or_in_the_platform(powercap):
    (powercap / "intel-rapl").mkdir()  # the control type itself counts nothing
    zone(powercap, "intel-rapl:0", "package-0", 2_500_000)
    zone(powercap, "intel-rapl:0:0", "core", 2_000_000)
    zone(powercap, "intel-rapl:0:1", "dram", 300_000)
    zone(powercap, "intel-rapl:1", "psys", 9_000_000)
    zone(powercap, "intel-rapl-mmio:0", "package-0", 2_500_000)  # the same counter elsewhere
    assert machine.joules(CPU) == pytest.approx(2.5)


def test_a_machine_without_counters_does_not_tell(powercap):
    assert math.isnan(machine.joules(CPU))
    powercap.rmdir()
    assert math.isnan(machine.joules(CPU))


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
    assert math.isnan(machine.joules(CPU))


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
    assert machine.joules(torch.device(name)) == pytest.approx(joules)


def test_a_card_that_nvml_does_not_know_does_not_tell(gpus):
    del gpus["GPU-one"]
    assert math.isnan(machine.joules(torch.device("cuda:0")))


def test_without_nvml_a_card_does_not_tell(gpus, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)  # importing it raises ImportError
    assert math.isnan(machine.joules(torch.device("cuda:0")))


def test_gpus_are_those_that_this_process_may_see(monkeypatch):
    monkeypatch.setattr(machine.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(machine.torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert machine.gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-12ab")
    assert machine.gpus() == ["3", "GPU-12ab"]
    monkeypatch.setattr(machine.torch.cuda, "is_available", lambda: False)
    assert machine.gpus() == []


@pytest.mark.parametrize(
    ("instructions", "precision", "channels_last"),
    [
        (set(), "float32", True),
        ({"avx512_bf16"}, "bfloat16", False),
        ({"avx512_bf16", "amx_tile"}, "bfloat16", True),
    ],
)
def test_precision_and_layout_follow_from_what_the_processor_can(
    monkeypatch, instructions, precision, channels_last
):
    monkeypatch.setattr(machine, "_cpu_can", lambda what: what in instructions)
    cpu = torch.device("cpu")
    assert machine.find_precision("auto", cpu) == precision
    assert machine.find_precision("float32", cpu) == "float32"
    assert machine.likes_channels_last(64, precision, cpu) == channels_last
    assert not machine.likes_channels_last(8, precision, cpu)


def test_numpy_has_one_thread_for_small_matrices_alone():
    def threads():
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    usual = threads()
    with machine.numpy_threads_for(machine.SMALL_MATRIX):
        assert threads() == {1}
    assert threads() == usual
    with machine.numpy_threads_for(machine.SMALL_MATRIX + 1):
        assert threads() == usual
