"""The devices of a machine, and what each can do."""

import pytest
import torch
from threadpoolctl import threadpool_info

from harness.execute import machine


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
