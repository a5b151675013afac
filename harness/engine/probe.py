"""A few seconds of the real work, to tell beforehand what all of it will cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import torch

from harness.engine.exact import Exact
from harness.engine.inputs import extractor_of, images_of
from harness.engine.network import with_weights
from harness.engine.reference import CHUNK, features_of
from harness.engine.sample import batches_of, path_of
from harness.engine.steps import Setting, step_of
from harness.execute import machine
from harness.work.cells import Cell
from harness.work.options import Workplace
from harness.work.speeds import Speeds

FEW = 8  # images: enough to see whether a full batch would take too long
PATIENCE_SECONDS = 0.5  # for a few images, after which the full batch is not tried
REPEATS = 5

Piece = Callable[[int], Callable[[], object]]  # of so many images: a piece of work to be timed


def probe(cell: Cell, at: Workplace, workers: int = 1) -> Speeds:
    """Do a little of each kind of work that a cell needs, now, on this machine, as one of so many
    processes side by side."""
    if cell.training.is_exact:
        return _probed(cell, at, _evaluation_of_exact(cell, at))
    training, setting = cell.training, Setting.of(cell.training, at)
    images, device = setting.images, setting.device
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
    return _probed(cell, at, an_evaluation, train, parameters)


def _evaluation_of_exact(cell: Cell, at: Workplace) -> Piece:
    images, device = images_of(cell.training, at), machine.find_device(at.device)
    schedule, times = path_of(cell)
    denoise = Exact(cell.training, images, device).denoiser(schedule)

    def an_evaluation(batch: int) -> Callable[[], object]:
        x = torch.zeros(batch, *images.train.shape[1:], device=device)
        return lambda: denoise(x, times[0])

    return an_evaluation


def _probed(
    cell: Cell, at: Workplace, an_evaluation: Piece, train: float = 0.0, parameters: int = 0
) -> Speeds:
    """What both kinds of model share: evaluations and features."""
    device = machine.find_device(at.device)
    together = len(next(batches_of(cell.images, device)))
    evaluate = seconds_per_image(an_evaluation, together, device)
    extract = extractor_of(cell, at)
    some = images_of(cell.training, at).train[:CHUNK]
    width = extract(some[:1]).shape[1]  # loads the weights, too
    features = seconds_per_image(
        lambda number: lambda: features_of(extract, some[:number], device.type), len(some), device
    )
    memory = machine.memory_in_use(device)
    source = "a short probe of this machine"
    return Speeds(train, evaluate, features, source, memory, parameters, width)


def seconds_per_image(work_on: Piece, batch: int, device: torch.device) -> float:
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
