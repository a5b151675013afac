"""Where memory runs out: the same training in parts of a batch, or one line that says what is
lacking."""

import os
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from functools import partial

import made
import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from harness.diffusion.objective import TARGETS, WEIGHTINGS, training_losses
from harness.diffusion.samplers import SAMPLERS
from harness.diffusion.training_times import training_times
from harness.engine import measure as measure_module
from harness.engine import network as network_module
from harness.engine import steps as steps_module
from harness.engine import train as train_module
from harness.engine.memory import needed_by_a_step, said_in_one_line
from harness.engine.network import load_trained
from harness.engine.noise import Purpose, batch_at, generator, normal
from harness.engine.probe import BUSY_SECONDS, busy_batch, seconds_per_image
from harness.engine.reference import in_chunks
from harness.engine.scale import Scale
from harness.engine.score import ScoreJob, score
from harness.engine.state import State
from harness.engine.steps import Setting, step_of
from harness.engine.train import TrainJob, train
from harness.errors import MachineError
from harness.execute.here import outcome_of
from harness.execute.progress import Stopped
from harness.metrics.features import Pixels
from harness.store import WEIGHTS, Store
from harness.work.options import Workplace

CPU = torch.device("cpu")
TRAINING = replace(made.TRAINING, training_steps=20, batch_size=33, learning_rate=2e-3, seed=3)
ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes."),
    MemoryError(),
]


def quietly(progress):
    pass


def at(folder):
    return Workplace(folder, folder, "cpu")


def train_in(folder, report=quietly):
    return train(TrainJob(TRAINING, threads=1), at(folder), report)


def weights_in(folder):
    return load_file(Store(folder).model(TRAINING.key, WEIGHTS))


def tight(most, error=ERRORS[0], is_backward=False):
    """A `build` of networks for which memory runs out above so many images: in the forward pass, or
    late in the backward pass, when most gradients are there."""

    def built(*given):
        network, sizes = network_module.build(*given), [0]

        def refuse(*_):
            if sizes[-1] > most:
                raise error

        def look(_, images):
            is_real = type(images[0]) is torch.Tensor  # and not one without content
            sizes.append(len(images[0]) if is_real else 0)

        network.register_forward_pre_hook(look)
        if is_backward:
            next(network.parameters()).register_hook(refuse)
        else:
            next(network.children()).register_forward_hook(refuse)
        return network

    return built


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The folder of the training for which there was memory."""
    folder = tmp_path_factory.mktemp("plain")
    assert train_in(folder).provenance.micro_batches == 1
    return folder


def assert_alike(folder, other):
    for name, value in weights_in(other).items():
        torch.testing.assert_close(weights_in(folder)[name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("at_once", [33, 16, 5])
def test_gradients_of_parts_add_up_to_that_of_the_batch(tmp_path, monkeypatch, at_once):
    setting = Setting.of(TRAINING, at(tmp_path))
    state = setting.first_state(1)
    torch.manual_seed(0)
    for parameter in state.network.parameters():  # its last layers begin at zero and hide the rest
        nn.init.normal_(parameter, std=0.1)
    # The same by PyTorch alone: one mean over the whole batch, in float64.
    size, draw = TRAINING.batch_size, generator(Purpose.TRAINING, TRAINING.seed, 0, 0)
    network = deepcopy(state.network).double()
    images = torch.from_numpy(setting.images.train)
    x_0 = Scale().to_signal(images[batch_at(0, TRAINING.seed, len(images), size)]).double()
    eps = normal((size, 1, 8, 8), CPU, Purpose.TRAINING, TRAINING.seed, 0, 1).double()
    t = training_times(setting.schedule, torch.from_numpy(draw.random(size)))
    training_losses(
        network, setting.schedule, TARGETS["noise"], WEIGHTINGS["simple"], x_0, t, eps
    ).mean().backward()  # fmt: skip

    seen = []
    monkeypatch.setattr(
        steps_module.nn.utils,
        "clip_grad_norm_",
        lambda parameters, norm: seen.extend(one.grad.clone() for one in parameters),
    )
    state.at_once = at_once
    step_of(setting)(state)
    for found, parameter in zip(seen, network.parameters(), strict=True):
        scale = float(parameter.grad.abs().max())
        torch.testing.assert_close(found.double(), parameter.grad, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("is_backward", [False, True], ids=["forward", "backward"])
def test_a_batch_that_does_not_fit_trains_the_same_network(
    tmp_path, monkeypatch, plain, error, is_backward
):
    monkeypatch.setattr(steps_module, "build", tight(5, error, is_backward))
    result = train_in(tmp_path)
    assert result.provenance.micro_batches == 7  # of 5 images, after 33, 17 and 9
    assert_alike(tmp_path, plain)
    losses = [point.loss for point in result.loss_curve]
    whole = [point.loss for point in Store(plain).training_result(TRAINING.key).loss_curve]
    np.testing.assert_allclose(losses, whole, rtol=1e-4)


def test_what_is_resumed_goes_on_in_the_same_parts_to_the_same_bits(tmp_path, monkeypatch):
    def stop_half_way(progress):
        if progress.done == 10:
            raise Stopped

    with monkeypatch.context() as scarce:
        scarce.setattr(steps_module, "build", tight(5))
        train_in(tmp_path / "straight")
        with pytest.raises(Stopped):
            train_in(tmp_path / "stopped", stop_half_way)
    assert train_in(tmp_path / "stopped").provenance.micro_batches == 7  # with memory for all
    mine, theirs = weights_in(tmp_path / "stopped"), weights_in(tmp_path / "straight")
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    ("owner", "name"), [(steps_module.nn.utils, "clip_grad_norm_"), (State, "follow")]
)
def test_a_step_that_was_begun_is_not_made_again(tmp_path, monkeypatch, owner, name):
    work, calls = getattr(owner, name), []

    def once_too_large(*given):
        work(*given)
        calls.append(given)
        if len(calls) == 3:
            raise ERRORS[0]

    monkeypatch.setattr(owner, name, once_too_large)
    with pytest.raises(MachineError, match="memory ran out while training"):
        train_in(tmp_path)
    assert len(calls) == 3


def test_where_not_even_one_image_fits_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(steps_module, "build", tight(0))
    with pytest.raises(MachineError, match=r"takes about \d+ .B .* are free on cpu\. Use "):
        train_in(tmp_path)


class Squares(nn.Module):
    """(w w x)^2: the backward pass needs x, w x and w w x, and w, which is there anyway."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 8, 8))

    def forward(self, x, log_snr):
        return (self.weight * (self.weight * x)).square()


def test_the_memory_of_a_step_is_that_of_gradients_and_of_what_is_kept():
    images, weights = 4 * 5 * 64, 4 * 64  # bytes
    # x, w x, w w x, and the prediction, of which the loss is taken.
    assert needed_by_a_step(Squares(), "float32", (5, 1, 8, 8)) == 4 * images + weights


def test_a_picture_for_which_there_is_no_memory_is_left_out(tmp_path, monkeypatch, plain, caplog):
    def preview(trained):
        raise ERRORS[0]

    monkeypatch.setattr(train_module, "preview", preview)
    shown = []
    train_in(tmp_path, lambda progress: shown.extend(progress.files))
    assert shown == []
    assert caplog.text.count("no memory for samples") == 1
    assert all(
        torch.equal(one, weights_in(plain)[name]) for name, one in weights_in(tmp_path).items()
    )


def test_a_state_for_which_there_is_no_memory_is_not_taken_for_a_damaged_one(tmp_path, monkeypatch):
    def stop_at_once(progress):
        raise Stopped

    with pytest.raises(Stopped):
        train_in(tmp_path, stop_at_once)
    error = SafetensorError("I/O error: Cannot allocate memory (os error 12)")
    monkeypatch.setattr(State, "restore", lambda *_: raise_(error))
    with pytest.raises(MachineError, match="memory ran out"):
        train_in(tmp_path)
    assert Store(tmp_path).state(TRAINING).exists()


def raise_(error):
    raise error


def test_weights_for_which_there_is_no_memory_are_not_taken_for_damaged_ones(plain, monkeypatch):
    images = Setting.of(TRAINING, at(plain)).images
    monkeypatch.setattr(network_module, "with_weights", lambda *_: raise_(ERRORS[0]))
    with pytest.raises(torch.OutOfMemoryError):
        load_trained(TRAINING, Store(plain), images, CPU)


def test_a_cell_whose_metrics_run_out_of_memory_says_so_in_one_line(plain, monkeypatch):
    wanted = "Unable to allocate 32.0 GiB for an array"
    monkeypatch.setattr(measure_module, "evaluate", lambda *_, **__: raise_(MemoryError(wanted)))
    job = ScoreJob(replace(made.CELL, training=TRAINING, steps=2), ("kid",))
    failure = outcome_of(score, job, at(plain), quietly)
    assert f"memory ran out while cell {job.cell.key} was scored: 32.0 GiB more" in failure.reason
    assert failure.reason.endswith("its memory.")
    assert failure.details == ""


def test_threads_that_cannot_be_started_are_told_in_one_line():
    with (
        pytest.raises(MachineError, match=r"threads ran out while it worked: .* free on cpu"),
        said_in_one_line("it worked", "cpu"),
    ):
        raise_(RuntimeError("can't start new thread"))
    with pytest.raises(KeyError), said_in_one_line("it worked", "cpu"):
        raise_(KeyError("another error"))


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_part_is_not_blamed_for_want_of_memory(error):
    with pytest.raises(type(error)), SAMPLERS.blamed("ddim"):
        raise_(error)


def test_features_are_taken_of_fewer_images_where_a_chunk_does_not_fit():
    images = np.random.default_rng(0).integers(0, 256, (150, 1, 8, 8), dtype=np.uint8)
    pixels, tried = Pixels(None, "cpu"), []

    def extract(some):
        tried.append(len(some))
        return raise_(ERRORS[1]) if len(some) > 20 else pixels(some)

    np.testing.assert_array_equal(in_chunks(extract, images, "cpu", quietly), pixels(images))
    assert tried == [1, 64, 32, *[16] * 8, 16, 6]


def test_the_speed_is_measured_on_as_many_images_as_fit():
    tried = []

    def work_on(images):
        tried.append(images)
        return partial(raise_, MemoryError()) if images > 3 else lambda: None

    assert seconds_per_image(work_on, 16, CPU) >= 0
    assert tried == [8, 4, 2, 16, 8, 4, 2]


LIMITED = """
import resource, sys
from pathlib import Path
from dataclasses import replace
import made, psutil, torch
from harness.engine.train import TrainJob, train
from harness.work.cells import Part
from harness.work.options import Workplace

torch.set_num_threads(1)
folder, megabytes, width = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
def trained(width, batch_size):
    training = replace(made.TRAINING, model=Part.of("tiny", {"widths": (width,)}),
                       training_steps=1, batch_size=batch_size)
    return train(TrainJob(training, 1), Workplace(folder, folder, "cpu"), lambda progress: None)
trained(8, 2)  # loads what a training needs
limit = psutil.Process().memory_info().vms + megabytes * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    print(trained(width, 512).provenance.micro_batches)
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.faults
@pytest.mark.skipif(sys.platform != "linux", reason="no other system limits a process's memory")
def test_under_a_limit_of_the_system_a_training_goes_on_or_says_what_it_lacks(tmp_path):
    def said(megabytes, width=64):
        folder = tmp_path / f"{megabytes}-{width}"
        command = [sys.executable, "-c", LIMITED, folder, str(megabytes), str(width)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        ended = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=300, env=environment
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    assert int(said(4000)) == 1
    assert int(said(100)) > 1
    assert said(100, width=1024).startswith("MachineError memory ran out while training ")


def test_precisions_are_compared_on_as_many_images_as_fit_and_take_long_enough():
    def step_seconds(images):
        if images > 32:
            raise torch.OutOfMemoryError
        return images * each

    each = 1e-4
    assert busy_batch(step_seconds) == 32
    each = BUSY_SECONDS / 8
    assert busy_batch(step_seconds) == 8
