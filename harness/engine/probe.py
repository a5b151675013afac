"""A few seconds of the real work, to tell beforehand what all of it will cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch

from harness.engine.exact import Exact
from harness.engine.network import with_weights
from harness.engine.sample import batches_of, path_of
from harness.engine.score import CHUNK, extractor, features_of, image_set
from harness.engine.train import Setting, step_of
from harness.plan.work import Cell
from harness.runtime import machine

FEW = 8  # images: enough to see whether a full batch would take too long
PATIENCE_SECONDS = 0.5  # for a few images, after which the full batch is not tried
REPEATS = 5


class Probed(NamedTuple):
    """What a few seconds of the work told of all of it."""

    train: float  # seconds per image and training step; 0 for an exact denoiser
    evaluate: float  # seconds per image and evaluation
    features: float  # seconds per image
    memory: int  # bytes in use by then
    parameters: int
    width: int  # features of an image


def probe(cell: Cell, data_dir: Path, device_name: str, workers: int) -> Probed:
    """Do a little of each kind of work that a cell needs, now, on this machine."""
    training, device = cell.training, torch.device(device_name)
    if training.is_exact:
        return probe_exact(cell, data_dir, device_name)
    setting = Setting.of(training, data_dir, device)
    images = setting.images
    if device.type == "cpu":
        torch.set_num_threads(machine.threads_for(images.train[0].size, workers))
    state = setting.first_state(threads=1)

    def a_step(batch: int) -> Callable[[], object]:
        step = step_of(replace(setting, training=replace(training, batch_size=batch)))
        return lambda: step(state)

    predict = with_weights(training, state.average, images, device).predictor()

    def an_evaluation(batch: int) -> Callable[[], object]:
        x = torch.zeros(batch, *images.train.shape[1:], device=device)
        return torch.inference_mode()(lambda: predict(x, x[:, 0, 0, 0]))

    parameters = sum(parameter.numel() for parameter in state.network.parameters())
    train = seconds_per_image(a_step, training.batch_size, device)
    return probed(cell, data_dir, device, an_evaluation, train, parameters)


def probe_exact(cell: Cell, data_dir: Path, device_name: str) -> Probed:
    """The same where there is nothing to train."""
    device = torch.device(device_name)
    images = image_set(data_dir, cell.training.data)
    schedule, times = path_of(cell)
    denoise = Exact(cell.training, images, device).denoiser(schedule)

    def an_evaluation(batch: int) -> Callable[[], object]:
        x = torch.zeros(batch, *images.train.shape[1:], device=device)
        return lambda: denoise(x, times[0])

    return probed(cell, data_dir, device, an_evaluation)


def probed(
    cell: Cell,
    data_dir: Path,
    device: torch.device,
    an_evaluation: Callable[[int], Callable[[], object]],
    train: float = 0.0,
    parameters: int = 0,
) -> Probed:
    """What both kinds of model share: evaluations and features."""
    together = len(next(batches_of(cell.images, device)))
    evaluate = seconds_per_image(an_evaluation, together, device)
    images = image_set(data_dir, cell.training.data)
    extract = extractor(data_dir, str(device), cell.extractor)
    some = images.train[:CHUNK]
    width = extract(some[:1]).shape[1]  # loads the weights, too
    features = seconds_per_image(
        lambda number: lambda: features_of(extract, some[:number], device.type), len(some), device
    )
    return Probed(train, evaluate, features, machine.memory_in_use(device), parameters, width)


def seconds_per_image(
    work_on: Callable[[int], Callable[[], object]], batch: int, device: torch.device
) -> float:
    """The median over a few repeats at the full batch; where that would take long, one repeat on
    a few images, which is near enough."""
    few = min(FEW, batch)
    once = work_on(few)
    seconds(once, device)
    if (taken := seconds(once, device)) > PATIENCE_SECONDS:
        return taken / few
    work = work_on(batch)
    try:
        seconds(work, device)
        return median(seconds(work, device) for _ in range(REPEATS)) / batch
    except torch.OutOfMemoryError:  # batches of samples are halved then
        machine.free_spare_memory()
        return taken / few


def seconds(work: Callable[[], object], device: torch.device) -> float:
    machine.wait_for(device)
    began = time.perf_counter()
    work()
    machine.wait_for(device)
    return time.perf_counter() - began
