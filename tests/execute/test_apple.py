"""Apple's GPU (MPS), of which there is none here: torch is replaced by what it would have there."""

import re
import traceback
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import made
import pytest
import torch
from torch.overrides import TorchFunctionMode

from harness.diffusion.samplers import SAMPLERS
from harness.engine import compiled, share
from harness.engine.denoisers import denoiser_of
from harness.engine.sample import batches_of, sample
from harness.engine.train import TrainJob, train
from harness.errors import MachineError
from harness.execute import energy, machine
from harness.work.cells import Part
from harness.work.options import Workplace

MPS = torch.device("mps")
HARNESS = Path(machine.__file__).parent.parent
ACCELERATORS = {"execute/machine.py", "execute/energy.py", "engine/share.py"}


@pytest.fixture
def apple(monkeypatch):
    """What is called of torch on a Mac, where any use of `torch.cuda` but to look for it fails."""
    called = []

    def noting(name, value=None):
        return lambda *given: called.append(name) or value

    fake = SimpleNamespace(
        device=torch.device,
        float16=torch.float16,
        bfloat16=torch.bfloat16,
        cuda=SimpleNamespace(is_available=lambda: False),
        xpu=SimpleNamespace(is_available=lambda: False),
        backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: True)),
        mps=SimpleNamespace(
            synchronize=noting("synchronize"),
            empty_cache=noting("empty_cache"),
            driver_allocated_memory=lambda: 3_000_000_000,
            recommended_max_memory=lambda: 5_000_000_000,
        ),
    )
    for module in (machine, energy):
        monkeypatch.setattr(module, "torch", fake)
    monkeypatch.setattr(machine, "_processor", lambda: "Apple M2 Pro")
    return called


def test_auto_chooses_it_and_results_name_it(apple):
    found = machine.find_device("auto")
    assert found == MPS
    assert machine.name(found) == "Apple M2 Pro (MPS)"
    assert machine.find_precision("auto", found) == "float32"
    assert machine.gpus() == []
    with pytest.raises(MachineError, match="Use one of auto, cpu, mps"):
        machine.find_device("cuda")


def test_its_clocks_wait_for_it_and_its_memory_is_its_own(apple):
    machine.wait_for(MPS)
    machine.free_spare_memory()
    machine.forget_peak(MPS)
    assert apple == ["synchronize", "empty_cache"]
    assert machine.memory_in_use(MPS) == 3_000_000_000
    free, whole = machine.memory(MPS)
    assert free <= 2_000_000_000 < whole <= 5_000_000_000
    assert energy.joules(MPS) != energy.joules(MPS)  # it has no counter


def test_it_is_not_compiled_for_and_trains_alone(monkeypatch):
    assert not compiled.pays(1e6, MPS)
    assert {len(batch) for batch in batches_of(1024, MPS)} == {256}
    monkeypatch.setattr(share.machine, "find_device", lambda name: MPS)
    with pytest.raises(MachineError, match=r"training\.devices: 1"):
        share.check_devices(2, "auto")


def test_no_other_module_calls_one_make_of_accelerator():
    """A call of `torch.cuda` fails, or does nothing, where the device is another."""
    calls = re.compile(r"torch\.(cuda|mps|xpu)\.(?!is_available)")
    found = {
        path.relative_to(HARNESS).as_posix()
        for path in HARNESS.rglob("*.py")
        if calls.search(path.read_text())
    }
    assert found <= ACCELERATORS


class Moves(TorchFunctionMode):
    """Notes each tensor in float64 that is sent to a device, or made on one that is named."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_function__(self, function, types, given=(), named=None):
        named = named or {}
        made = function(*given, **named)
        where = [named.get("device"), *(one for one in given if isinstance(one, torch.device))]
        if any(where) and isinstance(made, torch.Tensor):
            sent = given[0] if given and isinstance(given[0], torch.Tensor) else made
            if torch.float64 in (sent.dtype, made.dtype):
                self.found.append(traceback.format_stack(limit=4))
        return made


def test_nothing_is_sent_to_a_device_in_float64_which_apples_has_not(tmp_path):
    at = Workplace(tmp_path, tmp_path, "cpu")
    training = replace(made.TRAINING, training_steps=2, scale="unit")
    cells = [
        replace(made.CELL, training=training, sampler=Part(name), images=4, steps=4, clip=True)
        for name in SAMPLERS
    ]
    exact = replace(training, model=Part("exact"))
    with Moves() as moves:
        train(TrainJob(training, threads=1), at, lambda progress: None)
        for cell in cells:
            sample(cell, denoiser_of(cell, at), lambda progress: None)
        of_exact = replace(cells[0], training=exact)
        sample(of_exact, denoiser_of(of_exact, at), lambda progress: None)
    assert moves.found == []


def test_the_name_of_a_mac_is_asked_of_its_system(monkeypatch):
    told = SimpleNamespace(stdout="Apple M2 Pro\n")
    monkeypatch.setattr(machine.sys, "platform", "darwin")
    monkeypatch.setattr(machine.subprocess, "run", lambda *_, **__: told)
    assert machine._processor.__wrapped__() == "Apple M2 Pro"
