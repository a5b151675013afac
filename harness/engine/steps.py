"""The steps of a training: what stays the same over them, and how each is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Self

import torch
from torch import Tensor, nn

from harness.data.images import ImageSet
from harness.diffusion.objective import LOSSES, TARGETS, WEIGHTINGS, training_losses, training_times
from harness.diffusion.schedules import Schedule
from harness.engine.compiled import Compiled, compiled
from harness.engine.hyperparameters import (
    BETAS,
    EPSILON,
    FLIPPED,
    GRADIENT_NORM,
    WEIGHT_DECAY,
    ema_decay,
    learning_rate,
)
from harness.engine.inputs import images_of
from harness.engine.network import Predictor, build, make_schedule, memory_format, to_signal
from harness.engine.noise import Purpose, batch_at, generator, normal
from harness.engine.share import ALONE, Share
from harness.engine.state import TIME_BINS, State
from harness.execute import machine
from harness.work.cells import Training
from harness.work.options import Workplace


@dataclass(frozen=True)
class Setting:
    """What stays the same from the first step of a training to the last."""

    training: Training
    images: ImageSet
    schedule: Schedule
    precision: str
    device: torch.device

    @classmethod
    def of(cls, training: Training, at: Workplace) -> Self:
        device = machine.find_device(at.device)
        return cls(
            training,
            images_of(training, at),
            make_schedule(training.schedule),
            machine.find_precision(training.precision, device),
            device,
        )

    def first_state(self, threads: int, is_compiled: bool = False) -> State:
        network = build(self.training, self.images.channels, self.images.size, self.device)
        return State(
            network,
            {name: value.detach().clone() for name, value in network.state_dict().items()},
            torch.optim.AdamW(
                network.parameters(),
                self.training.learning_rate,
                BETAS,
                EPSILON,
                WEIGHT_DECAY,
                fused=True,
            ),
            torch.zeros(self.training.training_steps, device=self.device),
            torch.zeros(2, TIME_BINS, device=self.device),
            threads,
            self.images.fingerprint,
            is_compiled=is_compiled,
        )


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
    target = TARGETS[training.target]
    weighting = partial(WEIGHTINGS[training.weighting.name], **training.weighting.keywords)
    layout = memory_format(images.size, setting.precision, device)
    size, own = training.batch_size, share.of(training.batch_size)

    def one_step(state: State) -> tuple[Tensor, Tensor]:
        draw = generator(Purpose.TRAINING, training.seed, state.step, 0)
        t = training_times(setting.schedule, torch.from_numpy(draw.random(size)))
        chosen = batch_at(state.step, training.seed, len(data), size)[own].to(device)
        batch = to_signal(data[chosen]).contiguous(memory_format=layout)
        if images.flip:
            mirrored = torch.from_numpy(draw.random(size)[own] < FLIPPED).to(device)
            batch = torch.where(mirrored[:, None, None, None], batch.flip(3), batch)
        shape = (size, *batch.shape[1:])
        eps = normal(shape, device, Purpose.TRAINING, training.seed, state.step, 1)[own]

        predict = Predictor(state.network if network is None else network, setting.precision)
        losses = training_losses(
            predict, setting.schedule, target, weighting, batch, t[own], eps, LOSSES[training.loss]
        )
        torch.autograd.backward(share.mean(losses, size))
        nn.utils.clip_grad_norm_(state.network.parameters(), GRADIENT_NORM)
        state.optimizer.param_groups[0]["lr"] = learning_rate(training, state.step)
        state.optimizer.step()
        state.optimizer.zero_grad()
        state.follow(ema_decay(training, state.step))
        return t, share.all_of(losses.detach(), size)

    return one_step
