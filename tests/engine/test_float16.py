"""Training and sampling in float16: the loss is scaled, and steps that overflow are left out."""

import json
import math
from dataclasses import replace
from pathlib import Path

import made
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from harness.data.datasets import DATASETS
from harness.engine import share as share_module
from harness.engine import steps
from harness.engine import train as train_module
from harness.engine.denoising import denoising
from harness.engine.network import Predictor, build, with_weights
from harness.engine.sample import NotFinite, sample
from harness.engine.share import ALONE, Share
from harness.engine.train import Diverged, TrainJob, train
from harness.errors import MachineError
from harness.execute import machine
from harness.execute.progress import Stopped
from harness.store import WEIGHTS, Store
from harness.work.cells import Part
from harness.work.execution import Format
from harness.work.options import Workplace

CPU = torch.device("cpu")
TRAINING = replace(
    made.TRAINING,
    model=Part.of("tiny", {"widths": (8, 16)}),
    training_steps=20,
    batch_size=16,
    learning_rate=2e-3,
    precision="float16",
)


def quietly(progress):
    pass


def train_in(folder, report=quietly, training=TRAINING, devices=1, format=None):
    at = Workplace(folder, folder, "cpu")
    return train(TrainJob(training, threads=1, devices=devices, format=format), at, report)


def weights_in(folder, training=TRAINING):
    return load_file(Store(folder).model(training.key, WEIGHTS))


def stop_at(step):
    def report(progress):
        if progress.done == step:
            raise Stopped

    return report


def state_with(scale, training=TRAINING):
    """A training before its first step, whose loss is multiplied by this, and its setting."""
    setting = steps.Setting.of(training, Workplace(Path("nowhere"), Path("nowhere"), "cpu"))
    state = setting.first_state(1)
    state.scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=3)
    return state, setting


@pytest.fixture(autouse=True)
def nothing_but_steps(monkeypatch):
    """No samples on the way, and no denoising errors: on a CPU, float16 is slow."""
    monkeypatch.setattr(train_module, "pictures", lambda *_: ())
    monkeypatch.setattr(train_module, "measured_denoising", lambda *_: None)


@pytest.fixture
def too_high(monkeypatch):
    """A first scale that float16 does not hold, and one that soon grows again."""

    class High(torch.amp.GradScaler):
        def __init__(self, device, enabled):
            super().__init__(device, init_scale=2.0**30, growth_interval=3, enabled=enabled)

    monkeypatch.setattr(torch.amp, "GradScaler", High)


def test_the_losses_are_those_of_float32(tmp_path):
    results = [
        train_in(tmp_path, training=replace(TRAINING, precision=one))
        for one in ("float16", "float32")
    ]
    assert [one.provenance.precision for one in results] == ["float16", "float32"]
    half, whole = ([point.loss for point in one.loss_curve] for one in results)
    assert half == pytest.approx(whole, rel=0.02)
    assert half != whole


def test_a_stopped_training_ends_in_the_same_bits_and_goes_on_with_its_scale(tmp_path, too_high):
    train_in(tmp_path / "whole")
    with pytest.raises(Stopped):
        train_in(tmp_path, stop_at(10))
    with safe_open(Store(tmp_path).state(TRAINING), "pt") as file:
        assert json.loads(file.metadata()["loss_scale"])["scale"] == 2.0**20
    train_in(tmp_path)
    weights, expected = weights_in(tmp_path), weights_in(tmp_path / "whole")
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


ANYWHERE = replace(TRAINING, precision="auto")


def test_a_training_goes_on_in_the_format_that_it_was_begun_in(tmp_path):
    """To the same bits, whatever is settled later."""
    begun, later = Format("float32", True), Format("bfloat16", False)
    train_in(tmp_path / "whole", training=ANYWHERE, format=begun)
    with pytest.raises(Stopped):
        train_in(tmp_path, stop_at(5), ANYWHERE, format=begun)
    result = train_in(tmp_path, training=ANYWHERE, format=later)
    made_in = Format(result.provenance.precision, result.provenance.channels_last)
    assert made_in == begun
    found, whole = weights_in(tmp_path, ANYWHERE), weights_in(tmp_path / "whole", ANYWHERE)
    assert all(torch.equal(found[name], whole[name]) for name in whole)


def test_a_training_goes_on_in_the_precision_of_another_machine(tmp_path, monkeypatch):
    formats = iter([("another", "float32", False), ("another", "float16", False)])
    for precision, step in (("float32", 5), ("float16", 9)):
        with pytest.raises(Stopped):
            train_in(tmp_path, stop_at(step), ANYWHERE, format=Format(precision, False))
        monkeypatch.setattr(Store, "saved_format", lambda *_: next(formats))
    result = train_in(tmp_path, training=ANYWHERE, format=Format("bfloat16", False))
    assert result.provenance.precision == "bfloat16"
    assert math.isfinite(result.loss)


def test_a_step_that_overflows_changes_nothing_but_the_scale():
    state, setting = state_with(2.0**40)
    for average in state.averages.values():
        for tensor in average.values():
            tensor.add_(1)  # else it is where the weights are
    before = {name: tensor.clone() for name, tensor in state._tensors().items()}
    one_step = steps.step_of(setting)
    _, losses = one_step(state)
    assert losses.isfinite().all()
    assert state.scaler.get_scale() == 2.0**39
    after = state._tensors()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    state.scaler.load_state_dict(state.scaler.state_dict() | {"scale": 2.0**10})
    one_step(state)
    after = state._tensors()
    moved = [name for name, tensor in before.items() if not torch.equal(after[name], tensor)]
    assert any(name.startswith("average") for name in moved)
    assert any(name.startswith("network") for name in moved)


def test_gradients_are_clipped_as_they_are_without_the_scale():
    moments = []
    for scale in (1.0, 2.0**16):
        state, setting = state_with(scale)
        steps.step_of(setting)(state)
        found = [each["exp_avg"].flatten() for each in state.optimizer.state.values()]
        moments.append(torch.cat(found))
    torch.testing.assert_close(moments[1], moments[0], rtol=0.05, atol=1e-4)
    assert float(moments[1].norm()) > 1e-3


def test_what_overflows_in_one_process_is_left_out_by_all(monkeypatch):
    state, setting = state_with(2.0**10)
    before = [parameter.detach().clone() for parameter in state.network.parameters()]
    overflows = lambda sums: sums[:1].fill_(torch.inf) if sums.is_floating_point() else sums  # noqa: E731
    monkeypatch.setattr(share_module.distributed, "all_reduce", overflows)
    steps.step_of(setting, share=Share(0, 2))(state)
    assert state.scaler.get_scale() == 2.0**9
    after = state.network.parameters()
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


@pytest.mark.slow
def test_two_processes_train_in_float16_as_one_does(tmp_path):
    alone = train_in(tmp_path / "alone")
    together = train_in(tmp_path / "together", devices=2)
    for one, other in zip(alone.loss_curve, together.loss_curve, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=0.02)


def test_gradients_that_are_never_numbers_end_the_training(tmp_path, monkeypatch):
    share = type("Overflowing", (Share,), {"average": lambda self, parameters: spoil(parameters)})

    def spoil(parameters):
        next(iter(parameters)).grad.fill_(torch.nan)

    monkeypatch.setattr(Share, "here", classmethod(lambda cls: share(*vars(ALONE).values())))
    long = replace(TRAINING, training_steps=50, batch_size=2)
    with pytest.raises(Diverged, match=r"gradient .* Use training.precision: float32"):
        train_in(tmp_path, training=long)


def spoilt_weights():
    """Of a network whose answers float16 does not hold."""
    weights = build(TRAINING, 1, 8, CPU).state_dict()
    last = [name for name in weights if name.endswith("bias")][-1]
    return weights | {last: torch.full_like(weights[last], 1e5)}


@pytest.mark.parametrize("clip", [False, True])
def test_a_network_that_float16_does_not_hold_gives_no_images(clip):
    """Also where clipping would make black and white of it."""
    trained = with_weights(TRAINING, spoilt_weights(), DATASETS["digits"](None), CPU)
    cell = replace(made.CELL, training=TRAINING, images=4, steps=2, clip=clip)
    with pytest.raises(NotFinite, match=r"Use training.precision: float32"):
        sample(cell, trained, quietly)


def test_an_error_that_is_no_number_is_left_out_and_said():
    trained = with_weights(TRAINING, spoilt_weights(), DATASETS["digits"](None), CPU)
    with pytest.raises(NotFinite, match=r"Use training.precision: float32"):
        denoising(trained, DATASETS["digits"](None))


def test_infinities_are_no_numbers_in_float16_alone():
    def infinite(x, log_snr):
        return torch.full_like(x, torch.inf)

    x = torch.zeros(1, 1, 2, 2)
    assert Predictor(infinite, "float16")(x, x[:, 0, 0, 0]).isnan().all()
    assert Predictor(infinite, "float32")(x, x[:, 0, 0, 0]).isinf().all()


def test_a_device_that_does_not_compute_in_a_precision_is_refused(monkeypatch):
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: False)
    machine._check_precision.cache_clear()
    try:
        with pytest.raises(MachineError, match=r"float16 here. Use training.precision: float32"):
            machine.find_precision("float16", CPU)
        assert machine.find_precision("float32", CPU) == "float32"
    finally:
        machine._check_precision.cache_clear()
