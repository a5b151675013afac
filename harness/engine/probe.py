"""A few seconds of the real work, to tell beforehand what all of it will cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from harness.engine.network import Predictor
from harness.engine.sample import batches_of
from harness.engine.score import extractor
from harness.engine.train import Setting, step_of
from harness.plan.forecast import Speeds
from harness.plan.work import Cell
from harness.runtime import machine

REPEATS = 5
EXTRACTED = 16  # images


def probe(cell: Cell, data_dir: Path, device_name: str, workers: int) -> Speeds:
    """Time a training step, a network evaluation and the extractor on this machine."""
    training, device = cell.training, torch.device(device_name)
    setting = Setting.of(training, data_dir, device)
    images = setting.images
    if device.type == "cpu":
        torch.set_num_threads(machine.threads_for(images.train[0].size, workers))
    state, one_step = setting.first_state(threads=1), step_of(setting)
    a_step = seconds_of(lambda: one_step(state), device)

    batch = len(next(batches_of(cell.images, device)))
    x = torch.zeros(batch, *images.train.shape[1:], device=device)
    predict = Predictor(state.network.eval(), setting.precision)
    with torch.inference_mode():
        an_evaluation = seconds_of(lambda: predict(x, x[:, 0, 0, 0]), device)
    extract = extractor(data_dir, device_name, cell.extractor)
    features = seconds_of(lambda: extract(images.train[:EXTRACTED]), device, repeats=1)
    return Speeds(
        a_step / training.batch_size,
        an_evaluation / batch,
        features / EXTRACTED,
        "a short probe of this machine",
    )


def seconds_of(work: Callable[[], object], device: torch.device, repeats: int = REPEATS) -> float:
    """The median duration after a first call that does not count."""
    found = []
    for _ in range(repeats + 1):
        machine.wait_for(device)
        began = time.perf_counter()
        work()
        machine.wait_for(device)
        found.append(time.perf_counter() - began)
    return median(found[1:])
