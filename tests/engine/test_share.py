"""One training by several processes: the same losses and weights as by one, within rounding."""

import multiprocessing
import os
import socket
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from harness.engine import train as module
from harness.engine.share import Share
from harness.engine.train import TrainJob, train
from harness.plan.grid import expand, load_grid
from harness.runtime.progress import Stopped
from harness.runtime.store import Store
from harness.runtime.together import crew, lead

GRID = """
name: shared
data: digits
model: {name: tiny, widths: [8, 16]}
training: {steps: 30, batch_size: 33, learning_rate: 2e-3, ema: 0.9, precision: float32}
schedules: [cosine]
samplers: [ddim]
steps: [2]
images: 10
extractor: digits
"""


@pytest.fixture(scope="module")
def grid_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("grid") / "shared.yaml"
    path.write_text(GRID)
    return path


@pytest.fixture(scope="module")
def training(grid_file):
    return expand(load_grid(grid_file))[0].training


@pytest.fixture(scope="module")
def alone(tmp_path_factory, training):
    """The store of the training that one process made."""
    folder = tmp_path_factory.mktemp("alone")
    train(TrainJob(training, folder, folder, "cpu", threads=1), lambda progress: None)
    return folder


def assert_trained_alike(folder, other, key):
    """Losses and weights are those of the other store, but for rounding."""
    losses, expected = (
        pd.read_csv(Store(each).model(key, "loss.csv")).loss for each in (folder, other)
    )
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    weights, expected = (
        load_file(Store(each).model(key, "weights.safetensors")) for each in (folder, other)
    )
    for name, value in expected.items():
        torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-4)


def test_shares_are_the_whole_batch_each_image_once():
    for batch, size in ((32, 2), (33, 2), (7, 3), (5, 5)):
        images = [i for rank in range(size) for i in range(batch)[Share(rank, size).of(batch)]]
        assert images == list(range(batch))


def test_the_average_over_the_shares_is_the_mean_of_the_batch():
    losses = torch.arange(7, dtype=torch.float64)
    shares = [Share(rank, 3) for rank in range(3)]
    means = [share.mean(losses[share.of(7)], 7) for share in shares]
    torch.testing.assert_close(sum(means) / 3, losses.mean())


@pytest.mark.skipif(sys.platform == "win32", reason="torchrun needs libuv there")
def test_two_processes_that_torchrun_starts_train_as_one_does(
    tmp_path, store_folder, grid_file, training, alone
):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "harness", "run", str(grid_file), "--device", "cpu"]
    command += ["--store", str(store_folder), "--report-dir", str(tmp_path / "report")]
    told = subprocess.run(
        command, capture_output=True, text=True, timeout=240, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert told.returncode == 0, told.stderr[-3000:]
    assert told.stdout.count("1 of 1 cells are finished") == 1
    assert Store(store_folder).trained(training.key)["processes"] == 2
    assert_trained_alike(store_folder, alone, training.key)


def test_what_is_stopped_together_is_gone_on_with_and_what_fails_fails_once(
    tmp_path, training, alone
):
    """The first process stops at step 11 and goes on, after a training that cannot be shared and
    one that diverges; the other only does as it is told."""
    context = multiprocessing.get_context("spawn")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    told, ours = context.Pipe(duplex=False)
    pair = [
        context.Process(target=one_of_two, args=(rank, port, tmp_path, training, ours))
        for rank in range(2)
    ]
    for process in pair:
        process.start()
    assert told.poll(120), "nothing came of it"
    reasons, stopped_at, outcome = told.recv()
    for process in pair:
        process.join(60)
    assert [process.exitcode for process in pair] == [0, 0]
    assert reasons[0] == (
        "2 processes cannot share batches of training.batch_size=1. At most 1 would do, or a "
        "larger batch."
    )
    assert "is no longer a number" in reasons[1]
    assert stopped_at == 11
    assert outcome["processes"] == 2
    assert_trained_alike(tmp_path, alone, training.key)


def one_of_two(rank, port, folder, training, pipe):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "test"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    module.LOOK_SECONDS = 1000.0 if rank == 0 else 0.0  # whoever looks first, the first tells
    job = TrainJob(training, folder, folder, "cpu", threads=1)
    asked = []

    def after_eleven_steps():
        asked.append(True)  # once before the first step, and once after each
        return len(asked) > 11

    with crew("cpu"):  # in which the other process stays
        too_small = replace(job, training=replace(training, batch_size=1))
        wild = replace(job, training=replace(training, learning_rate=1e8))
        outcomes = lead(train, [too_small, wild], quietly, lambda: False)
        reasons = [failure.reason for _, failure in outcomes]
        with pytest.raises(Stopped):
            list(lead(train, [job], quietly, after_eleven_steps))
        with safe_open(Store(folder).model(training.key, "state.safetensors"), "pt") as file:
            stopped_at = int(file.metadata()["step"])
        [(_, outcome)] = lead(train, [job], quietly, lambda: False)
        pipe.send((reasons, stopped_at, outcome))


def quietly(job, progress):
    pass
