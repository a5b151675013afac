"""Train one network: Algorithm 1 of Ho et al. 2020, with AdamW and an average of the weights.

What step k does is a function of (training seed, k), so a training that was stopped, by whatever,
goes on from its last saved state and ends in the same weights, bit for bit on a CPU (by as many
processes as it began with, where they are several).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from harness.data.datasets import DATASETS
from harness.data.images import ImageSet
from harness.diffusion.objective import (
    LOSSES,
    TARGETS,
    WEIGHTINGS,
    training_losses,
    training_times,
)
from harness.diffusion.schedules import Schedule
from harness.engine.compiled import Compiled, compiled
from harness.engine.curves import write_curves, write_table
from harness.engine.network import (
    Predictor,
    build,
    make_schedule,
    memory_format,
    to_signal,
    with_weights,
)
from harness.engine.noise import Order, Purpose, generator, normal
from harness.engine.sample import preview
from harness.engine.share import ALONE, Share
from harness.engine.state import TIME_BINS, State, write_tensors
from harness.errors import HarnessError
from harness.plan.work import Training
from harness.runtime import machine
from harness.runtime.progress import Progress, Report, Stopped
from harness.runtime.store import Store, write_bytes, write_json

SAVE_SECONDS = 30.0  # between two saved states: what a killed process loses at most
LOOK_SECONDS = 1.0  # between two looks at the loss, each of which waits for the device
SHEETS = 10  # sample sheets over a training
CHECKPOINT = 0.9  # of the training, after which its average is kept: did the rest still help?
WARM_UP = 0.05  # share of the steps over which the learning rate rises
GRADIENT_NORM = 1.0
CURVE_POINTS = 200


class Diverged(HarnessError):
    """The loss is no longer a number."""


@dataclass(frozen=True)
class TrainJob:
    """A training and where it runs."""

    training: Training
    store: Path
    data_dir: Path
    device: str
    threads: int
    compile: bool = False

    @property
    def work(self) -> Training:
        return self.training


@dataclass(frozen=True)
class Setting:
    """What stays the same from the first step of a training to the last."""

    training: Training
    images: ImageSet
    schedule: Schedule
    precision: str
    device: torch.device

    @classmethod
    def of(cls, training: Training, data_dir: Path, device: torch.device) -> Self:
        return cls(
            training,
            DATASETS[training.data.name](data_dir, **training.data.keywords),
            make_schedule(training.schedule),
            machine.find_precision(training.precision, device),
            device,
        )

    def first_state(self, threads: int, is_compiled: bool = False) -> State:
        network = build(self.training, self.images.channels, self.images.size, self.device)
        state = State.first(network, self.training, threads, self.images.fingerprint)
        state.is_compiled = is_compiled
        return state


def train(job: TrainJob, report: Report) -> dict[str, Any]:
    """Train, saving as it goes; returns what came of it, as also written to `training.json`.

    Raises Stopped, its state saved, when `report` does; Diverged when the loss is not finite.
    """
    training, store = job.training, Store(job.store)
    share = Share.here(training.batch_size)
    setting = Setting.of(training, job.data_dir, torch.device(job.device))
    state = setting.first_state(job.threads, job.compile)
    state.processes = share.size
    saved = store.model(training.key, "state.safetensors")
    if saved.exists():
        try:
            state.restore(saved)
        except (SafetensorError, FileNotFoundError):  # half a file, after a power cut: begin again
            saved.unlink(missing_ok=True)
    if state.processes != share.size:  # it was begun by more or fewer, with other threads
        state.processes, state.threads = share.size, job.threads
    torch.set_num_threads(state.threads)
    network = ready(state, setting, share)
    one_step = step_of(setting, share.shared(network.network), share)

    clock = last_look = last_save = time.monotonic()
    steps_at_look = state.step
    while state.step < training.training_steps:
        t, losses = one_step(state)
        state.keep_losses(t, losses)
        state.step += 1
        values: dict[str, float] = {}
        files: tuple[str, ...] = ()
        done = state.step == training.training_steps
        # The first of several processes alone judges the loss, and tells the others.
        if looking := share.is_first and (done or time.monotonic() - last_look > LOOK_SECONDS):
            loss = float(state.losses[steps_at_look : state.step].mean())  # waits for the device
        now = time.monotonic()
        state.seconds += now - clock
        clock = now
        if looking:
            speed = (state.step - steps_at_look) * training.batch_size / (now - last_look)
            if not math.isfinite(loss):
                raise Diverged(
                    f"the loss of training {training.key} ({training.schedule}, seed "
                    f"{training.seed}) is no longer a number at step {state.step}; a smaller "
                    f"training.learning_rate than {training.learning_rate:g} would do"
                )
            values = {"loss": loss, "images_per_second": speed}
            last_look, steps_at_look = now, state.step
        if share.is_first:
            files = kept_on_the_way(setting, state, store)
        try:
            report(Progress(state.step, training.training_steps, values, files))
        except Stopped:
            if share.is_first:
                state.save(saved)
            raise
        if share.is_first and now - last_save > SAVE_SECONDS:
            state.save(saved)
            last_save = now
        clock += time.monotonic() - now  # sheets, saving and reporting are not training
    return finish(setting, state, store, network, share) if share.is_first else {}


def ready(state: State, setting: Setting, share: Share = ALONE) -> Compiled:
    """The state's network as its steps call it: compiled before the clock runs, where it is to
    be."""
    if not state.is_compiled:
        return Compiled(state.network)
    own = share.of(setting.training.batch_size)
    shape = (own.stop - own.start, *setting.images.train.shape[1:])
    return compiled(state.network, [shape], setting.precision, setting.device, for_training=True)


def step_of(
    setting: Setting,
    network: Callable[[Tensor, Tensor], Tensor] | None = None,
    share: Share = ALONE,
) -> Callable[[State], tuple[Tensor, Tensor]]:
    """The function that makes the state's next step, by `network` in the place of the state's own:
    returns its times and losses, one an image."""
    training, images, device = setting.training, setting.images, setting.device
    data = torch.from_numpy(images.train).to(device)
    order = Order(training.seed, len(data), training.batch_size)
    target, weighting = TARGETS[training.target], WEIGHTINGS[training.weighting.name]
    loss, layout = LOSSES[training.loss], memory_format(images.size, setting.precision, device)
    size, own = training.batch_size, share.of(training.batch_size)

    def weigh(log_snr: Tensor) -> Tensor:
        weight: Tensor = weighting(log_snr, **training.weighting.keywords)
        return weight

    def one_step(state: State) -> tuple[Tensor, Tensor]:
        draw = generator(Purpose.TRAINING, training.seed, state.step, 0)
        t = training_times(setting.schedule, torch.from_numpy(draw.random(size)))
        batch = to_signal(data[order(state.step)[own].to(device)]).contiguous(memory_format=layout)
        if images.flip:
            mirrored = torch.from_numpy(draw.random(size)[own] < 0.5).to(device)
            batch = torch.where(mirrored[:, None, None, None], batch.flip(3), batch)
        shape = (size, *batch.shape[1:])
        eps = normal(shape, device, Purpose.TRAINING, training.seed, state.step, 1)[own]

        predict = Predictor(state.network if network is None else network, setting.precision)
        losses = training_losses(predict, setting.schedule, target, weigh, batch, t[own], eps, loss)
        torch.autograd.backward(share.mean(losses, size))
        nn.utils.clip_grad_norm_(state.network.parameters(), GRADIENT_NORM)
        state.optimizer.param_groups[0]["lr"] = learning_rate(training, state.step)
        state.optimizer.step()
        state.optimizer.zero_grad()
        # Early on the average would remember the untrained weights for too long.
        state.follow(min(training.ema, (1 + state.step) / (10 + state.step)))
        return t, share.all_of(losses.detach(), size)

    return one_step


def learning_rate(training: Training, step: int) -> float:
    """A short rise, then half a cosine down to 0."""
    rise = max(1, round(WARM_UP * training.training_steps))
    if step < rise:
        return training.learning_rate * (step + 1) / rise
    fall = (step - rise) / max(1, training.training_steps - rise)
    return training.learning_rate * (1 + math.cos(math.pi * fall)) / 2


def kept_on_the_way(setting: Setting, state: State, store: Store) -> tuple[str, ...]:
    """Write what is kept of a training at the step just made, where anything is; returns the
    sheet's path if there is one."""
    training, step = setting.training, state.step
    if step == max(1, round(CHECKPOINT * training.training_steps)):
        write_tensors(store.checkpoint(training.key), state.average, {})
    if step * SHEETS // training.training_steps == (step - 1) * SHEETS // training.training_steps:
        return ()
    return (draw_sheet(setting, state, store),)


def draw_sheet(setting: Setting, state: State, store: Store) -> str:
    """A few samples from the averaged weights as they are now: a picture in the store."""
    training = setting.training
    picture = preview(with_weights(training, state.average, setting.images, setting.device))
    path = store.model(training.key, f"sheets/step_{state.step:07d}.png")
    write_bytes(path, picture)
    return str(path)


def finish(
    setting: Setting, state: State, store: Store, network: Compiled, share: Share
) -> dict[str, Any]:
    """Write what came of the training; the weights last, since they say that it is complete."""
    training = setting.training
    losses = state.losses.numpy(force=True)
    curve = [
        (int(block[-1]) + 1, float(losses[block].mean()))
        for block in np.array_split(np.arange(len(losses)), min(CURVE_POINTS, len(losses)))
    ]
    write_table(store.model(training.key, "loss.csv"), ["step", "loss"], curve)
    total, count = state.by_time.numpy(force=True)
    edges = np.linspace(0, 1, TIME_BINS + 1)
    bins = [
        (low, high, each / number)
        for low, high, each, number in zip(edges[:-1], edges[1:], total, count, strict=True)
        if number
    ]
    write_table(store.model(training.key, "loss_by_time.csv"), ["t_low", "t_high", "loss"], bins)
    write_curves(store.model(training.key, "schedule.csv"), setting.schedule)

    outcome = {
        "training": training.canonical(),
        "metrics": {
            "loss": float(losses[-max(1, len(losses) // 10) :].mean()),
            "seconds": state.seconds,
            "images_per_second": training.training_steps * training.batch_size / state.seconds,
            "parameters": sum(p.numel() for p in state.network.parameters()),
            "compile_seconds": network.seconds,
        },
        "compiled": network.trouble or str(state.is_compiled),
        "precision": setting.precision,
        "threads": state.threads,
        "processes": share.size,
        "machine": machine.name(setting.device),
        "versions": machine.versions(),
        "data_fingerprint": setting.images.fingerprint,
    }
    write_json(store.model(training.key, "training.json"), outcome)
    write_tensors(store.model(training.key, "weights.safetensors"), state.average, {})
    store.model(training.key, "state.safetensors").unlink(missing_ok=True)
    return outcome
