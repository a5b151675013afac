"""The same work on an accelerator. Run with `tox -e gpu`: `pytest -m gpu --need-gpu`."""

import gc
from contextlib import contextmanager
from dataclasses import replace

import made
import numpy as np
import pytest
import torch

from harness.data.datasets import DATASETS
from harness.engine.network import build, with_weights
from harness.engine.sample import sample
from harness.engine.train import TrainJob, train
from harness.errors import MachineError
from harness.execute import machine
from harness.execute.progress import Stopped
from harness.store import Store
from harness.work.cells import Part
from harness.work.options import Workplace

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator here"),
]

TRAINING = replace(
    made.TRAINING,
    model=Part("tiny"),
    training_steps=200,
    batch_size=64,
    learning_rate=2e-3,
    ema=0.99,
    precision="auto",
)


def quietly(progress):
    pass


def cell(sampler):
    return replace(
        made.CELL,
        training=replace(TRAINING, precision="float32"),
        sampler=Part(sampler),
        images=100,
    )


def test_training_learns_and_goes_on_after_a_stop(tmp_path):
    job, at = TrainJob(TRAINING, threads=1), Workplace(tmp_path, tmp_path, "cuda")

    def stop_half_way(progress):
        if progress.done == 100:
            raise Stopped

    with pytest.raises(Stopped):
        train(job, at, stop_half_way)
    result = train(job, at, quietly)
    assert result.loss < 0.5
    assert result.provenance.machine == torch.cuda.get_device_name()
    assert result.provenance.precision == machine.find_precision("auto", torch.device("cuda"))
    assert Store(tmp_path).has_model(TRAINING.key)


def test_float16_has_the_losses_of_float32(tmp_path):
    """Also on a GPU that computes in bfloat16, where `auto` does not choose it."""
    half, whole = (
        train(
            TrainJob(replace(TRAINING, precision=precision), threads=1),
            Workplace(tmp_path, tmp_path, "cuda"),
            quietly,
        )
        for precision in ("float16", "float32")
    )
    assert half.provenance.precision == "float16"
    curves = [np.array([point.loss for point in one.loss_curve]) for one in (half, whole)]
    assert len(curves[0]) == 200
    means = [curve.reshape(10, 20).mean(1) for curve in curves]
    np.testing.assert_allclose(means[0], means[1], rtol=0.05)
    assert half.loss == pytest.approx(whole.loss, rel=0.05)


@contextmanager
def memory_of(amount):
    """Let torch have so many bytes of the GPU, none of which are in use."""
    torch.compiler.reset()  # CUDA graphs hold memory
    gc.collect()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(amount / total)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.parametrize("compile", [False, True])
def test_a_batch_that_does_not_fit_is_trained_in_parts(tmp_path, compile):
    """Where there is less memory than the whole batch takes: the batch is that large, gigabytes, so
    that what a compiled network takes for any number of images (workspaces of its CUDA graphs,
    inputs of the whole batch: 0.1 GB) is little beside it. There are few layers, for it is compiled
    once more each time that a batch is halved."""
    wide = Part.of("tiny", {"widths": (64,), "attention": ()})
    large = replace(TRAINING, model=wide, batch_size=32768, training_steps=5)
    job, at = TrainJob(large, 1, compile), Workplace(tmp_path / "roomy", tmp_path, "cuda")
    torch.cuda.reset_peak_memory_stats()
    roomy = train(job, at, quietly)
    assert roomy.provenance.micro_batches == 1
    with memory_of(0.6 * torch.cuda.max_memory_allocated()):
        tight = train(job, replace(at, store=tmp_path / "tight"), quietly)
    assert tight.provenance.micro_batches > 1
    assert tight.loss == pytest.approx(roomy.loss, rel=1e-2)


def test_a_training_of_which_not_even_one_image_fits_is_refused(tmp_path):
    """Uncompiled: it would be compiled once more for each half that is tried."""
    at = Workplace(tmp_path, tmp_path, "cuda")
    with memory_of(0.01e9), pytest.raises(MachineError, match="memory"):
        train(TrainJob(replace(TRAINING, model=Part("small")), 1), at, quietly)


def test_a_gpu_samples_the_images_that_a_cpu_samples():
    images = DATASETS["digits"](None)
    weights = build(TRAINING, 1, 8, torch.device("cpu")).state_dict()
    draw = torch.Generator().manual_seed(0)
    weights = {
        name: value + 0.05 * torch.randn(value.shape, generator=draw)
        for name, value in weights.items()
    }
    on_cpu, on_gpu = (
        sample(
            cell("ddim"),
            with_weights(cell("ddim").training, weights, images, torch.device(device)),
            quietly,
        ).images.astype(int)
        for device in ("cpu", "cuda")
    )
    assert np.abs(on_cpu - on_gpu).max() <= 2


def test_seconds_and_memory_are_measured(tmp_path):
    images = DATASETS["digits"](None)
    weights = build(TRAINING, 1, 8, torch.device("cpu")).state_dict()
    trained = with_weights(TRAINING, weights, images, torch.device("cuda"))
    samples = sample(cell("ddpm"), trained, quietly)
    assert len(samples.seconds_per_image) >= 3
    assert samples.peak_memory_bytes > 100 * 64 * 4
