"""The denoiser that a cell is sampled with: the network of its training with the weights that the
cell names, compiled where it is to be, or the exact denoiser in its place."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import torch

from harness.engine.compiled import compiled
from harness.engine.exact import ExactDenoiser
from harness.engine.inputs import images_of
from harness.engine.memory import half_of, tried
from harness.engine.network import Trained, load_pretrained, load_trained
from harness.engine.sample import batches_of
from harness.errors import DataError
from harness.execute import machine
from harness.store import CHECKPOINT, Store
from harness.work.cells import Cell, Training
from harness.work.options import Workplace


def denoiser_of(cell: Cell, at: Workplace, compile: bool = False) -> Trained | ExactDenoiser:
    """Raises StoreError where the store lacks the training, and DataError where it kept no
    checkpoint though the cell is of one."""
    if cell.weights != "final":
        return _at_checkpoint(cell, at)
    made = final_denoiser(cell.training, at)
    if not compile or isinstance(made, ExactDenoiser):
        return made
    sizes = {len(batch) for batch in batches_of(cell.images, made.device)}
    return compiled_once(made, tuple(sorted(sizes)))


@lru_cache(maxsize=1)
def final_denoiser(training: Training, at: Workplace) -> Trained | ExactDenoiser:
    """Kept for the next cell, since those of one training come together."""
    images, device = images_of(training, at), machine.find_device(at.device)
    if training.is_exact:
        return ExactDenoiser(training, images, device)
    if training.is_given:
        return load_pretrained(training, at, images, device)
    return load_trained(training, Store(at.store), images, device)


def _at_checkpoint(cell: Cell, at: Workplace) -> Trained:
    """Never compiled: one cell of each training would not pay."""
    training, store = cell.training, Store(at.store)
    if not store.has_checkpoint(training.key):
        raise DataError(
            f"training {training.key} ({training.title}) kept no checkpoint at 0.9 of its steps, "
            "which this cell is sampled with. Use --redo to train it again."
        )
    device = machine.find_device(at.device)
    return load_trained(training, store, images_of(training, at), device, CHECKPOINT)


@lru_cache(maxsize=1)
def compiled_once(trained: Trained, sizes: tuple[int, ...]) -> Trained:
    """The network compiled for batches of these sizes, and for as many threads as it will be
    given. The cells of one training come together and share it."""
    network, precision, device = trained.network, trained.precision, trained.device
    if device.type == "cpu":
        torch.set_num_threads(machine.threads_for(math.prod(trained.shape)))
    shapes = [(size, *trained.shape) for size in sizes]
    made = tried(
        lambda: compiled(
            network, shapes, precision, device,
            for_training=False, channels_last=trained.channels_last,
        )
    )  # fmt: skip
    if made is None:
        if max(sizes) == 1:
            return trained
        return compiled_once(trained, tuple(sorted({half_of(size) for size in sizes})))
    return replace(
        trained,
        compiled=None if made.trouble else made.network,
        compile_seconds=made.seconds,
        compile_trouble=made.trouble,
    )
