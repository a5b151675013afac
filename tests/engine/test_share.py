"""One training by several processes: the same losses and weights as by one, within rounding."""

import os
import signal
from dataclasses import replace

import made
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from harness.engine import share as share_module
from harness.engine import steps
from harness.engine.share import Share, in_processes
from harness.engine.train import Diverged, TrainJob, run_steps, train
from harness.errors import MachineError
from harness.execute.executor import Lost
from harness.execute.here import here
from harness.execute.progress import Stopped
from harness.store import Store
from harness.work.cells import Part
from harness.work.options import Workplace

TRAINING = replace(
    made.TRAINING,
    model=Part.of("tiny", {"widths": (8, 16)}),
    training_steps=30,
    batch_size=33,
    learning_rate=2e-3,
)
TOGETHER = TrainJob(TRAINING, threads=1, devices=2)


def quietly(progress):
    pass


def at(folder):
    return Workplace(folder, folder, "cpu")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The folder of the training that one process made."""
    folder = tmp_path_factory.mktemp("alone")
    train(TrainJob(TRAINING, threads=1), at(folder), quietly)
    return folder


def assert_trained_alike(folder, other):
    """Losses and weights are those of the other store, but for rounding."""
    losses, expected = (
        [point.loss for point in Store(each).training_result(TRAINING.key).loss_curve]
        for each in (folder, other)
    )
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    weights, expected = (
        load_file(Store(each).model(TRAINING.key, "weights.safetensors"))
        for each in (folder, other)
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
    parts = [share.mean(part, 7) for share in shares for part in losses[share.of(7)].split(2)]
    torch.testing.assert_close(sum(parts) / 3, losses.mean())


def test_gradients_are_averaged_whatever_their_layout(monkeypatch):
    network = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Linear(4, 5)).to(
        memory_format=torch.channels_last
    )
    used = [*network[0].parameters(), network[1].weight]  # a bias has no gradient
    mine, theirs = ([torch.randn_like(one) for one in used] for _ in range(2))
    for parameter, gradient in zip(used, mine, strict=True):
        parameter.grad = gradient.clone()
    others = torch.cat([one.reshape(-1) for one in theirs])
    monkeypatch.setattr(share_module.distributed, "all_reduce", lambda sum: sum.add_(others))
    Share(0, 2).average(network.parameters())
    for parameter, one, another in zip(used, mine, theirs, strict=True):
        torch.testing.assert_close(parameter.grad, (one + another) / 2)


def test_two_processes_train_as_one_does_from_inside_a_worker(tmp_path, alone):
    seen = []
    job = replace(TOGETHER)
    [(_, result)] = here(
        train, [job], at(tmp_path), lambda _, progress: seen.append(progress), lambda: False,
        workers=2,
    )  # fmt: skip
    assert result == Store(tmp_path).training_result(TRAINING.key)
    assert result.provenance.processes == 2
    assert_trained_alike(tmp_path, alone)
    sheets = [name for progress in seen for name in progress.files]
    assert len(sheets) == 10
    assert not Store(tmp_path).state(TRAINING).exists()


def test_what_is_stopped_together_is_gone_on_with(tmp_path, alone):
    before = signal.getsignal(signal.SIGINT)

    def stop_after_the_first_picture(progress):
        if progress.done >= 3:
            raise Stopped

    with pytest.raises(Stopped):
        train(TOGETHER, at(tmp_path), stop_after_the_first_picture)
    assert signal.getsignal(signal.SIGINT) == before  # which asks the work to stop
    with safe_open(Store(tmp_path).state(TRAINING), "pt") as file:
        assert 3 <= int(file.metadata()["step"]) < 30
    assert not Store(tmp_path).has_model(TRAINING.key)
    train(TOGETHER, at(tmp_path), quietly)
    assert_trained_alike(tmp_path, alone)


def test_what_fails_in_the_first_process_fails_the_job(tmp_path):
    wild = replace(TOGETHER, training=replace(TRAINING, learning_rate=1e8))
    with pytest.raises(Diverged, match="no longer a number"):
        train(wild, at(tmp_path), quietly)


def test_more_devices_than_images_in_a_batch_are_refused(tmp_path):
    small = replace(TOGETHER, training=replace(TRAINING, batch_size=1))
    with pytest.raises(MachineError, match=r"batch_size=1\. Use at most 1"):
        train(small, at(tmp_path), quietly)


def with_little_memory_in_the_second(job, at, report):
    build = steps.build

    def tight(*given):
        network = build(*given)
        network.register_forward_pre_hook(refuse)
        return network

    def refuse(network, images):
        if len(images[0]) > 6:
            raise torch.OutOfMemoryError("out of memory")

    if os.environ["RANK"] == "1":
        steps.build = tight
    return run_steps(job, at, report)


@pytest.mark.faults
def test_where_memory_runs_out_in_one_process_all_work_in_parts(tmp_path, alone):
    result = in_processes(
        2, "cpu", quietly, with_little_memory_in_the_second, TOGETHER, at(tmp_path)
    )
    assert result.provenance.micro_batches == 4  # 16 and 17 images, by 5: after 17 and 9
    assert_trained_alike(tmp_path, alone)


def lack_memory_in_the_second(report):
    if os.environ["RANK"] == "1":
        raise MachineError("memory ran out")
    torch.distributed.barrier()


@pytest.mark.faults
def test_an_error_for_the_user_in_any_process_ends_all_and_is_told(capfd):
    with pytest.raises(MachineError, match=r"^memory ran out$"):
        in_processes(2, "cpu", quietly, lack_memory_in_the_second)
    assert capfd.readouterr() == ("", "")


def die_in_the_second(report):
    if os.environ["RANK"] == "1":
        os._exit(7)
    torch.distributed.barrier()


def killed_in_the_second(report):
    if os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    torch.distributed.barrier()


def test_a_process_that_dies_ends_the_others_and_is_named():
    with pytest.raises(RuntimeError, match=r"process 1 of 2 .* ended"):
        in_processes(2, "cpu", quietly, die_in_the_second)


@pytest.mark.faults
def test_a_process_that_is_killed_is_no_failure_of_the_training():
    with pytest.raises(Lost, match="killed by SIGKILL"):
        in_processes(2, "cpu", quietly, killed_in_the_second)
