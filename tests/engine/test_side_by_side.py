"""The parts of a batch side by side: the same numbers, and nothing left changed."""

import threading

import numpy as np
import pytest
import torch

from harness.engine.reference import features_of
from harness.engine.side_by_side import SideBySide, _threads, sizes_of
from harness.execute import machine


@pytest.fixture(autouse=True)
def three_cores(monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda: 3)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("batch", "parts"), [(9, [3, 3, 3]), (8, [2, 3, 3]), (2, [1, 1]), (1, [1])]
)
def test_each_core_has_its_part_of_a_batch(batch, parts):
    assert sizes_of(batch) == parts


@pytest.mark.parametrize("batch", [1, 2, 7, 12])
def test_the_parts_come_back_in_their_order(batch):
    x, log_snr = torch.randn(batch, 1, 2, 2), torch.randn(batch)
    network = SideBySide(lambda x, log_snr: x * log_snr[:, None, None, None])
    assert torch.equal(network(x, log_snr), x * log_snr[:, None, None, None])


def test_parts_are_worked_on_by_threads_of_one_thread_each_in_the_callers_mode():
    _threads.cache_clear()
    torch.set_num_threads(2)
    seen = []
    meet = threading.Barrier(3, timeout=20)  # passed only where all three work at once

    def network(x, log_snr):
        meet.wait()
        seen.append((torch.get_num_threads(), torch.is_inference_mode_enabled()))
        return x

    for wanted in (True, False):
        with torch.inference_mode(wanted):
            SideBySide(network)(torch.zeros(6, 1, 1, 1), torch.zeros(6))
        assert seen[-3:] == [(1, wanted)] * 3
    assert torch.get_num_threads() == 2


def test_of_many_cores_each_thread_has_several(monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda: 17)
    seen = set()
    SideBySide(lambda x, log_snr: seen.add((len(x), torch.get_num_threads())) or x)(
        torch.zeros(80, 1, 1, 1), torch.zeros(80)
    )
    assert seen == {(10, 2)}
    assert sizes_of(5) == [1] * 5


def test_an_error_of_a_part_is_raised():
    def fails(x, log_snr):
        raise torch.OutOfMemoryError("too large")

    with pytest.raises(torch.OutOfMemoryError):
        SideBySide(fails)(torch.zeros(6, 1, 1, 1), torch.zeros(6))


class Counting:
    """An extractor that tells how it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, images):
        self.asked.append(len(images))
        return images.reshape(len(images), -1).astype(np.float64)


class Large(Counting):
    at_a_time = 4


@pytest.mark.parametrize(
    ("extract", "device", "asked"),
    [(Large(), "cpu", [2, 4, 4]), (Large(), "cuda", [10]), (Counting(), "cpu", [10])],
)
def test_a_large_extractor_is_asked_by_all_cores_of_a_processor(extract, device, asked):
    images = np.arange(10 * 4, dtype=np.uint8).reshape(10, 1, 2, 2)
    features = features_of(extract, images, device)
    np.testing.assert_array_equal(features, images.reshape(10, 4))
    assert sorted(extract.asked) == asked
