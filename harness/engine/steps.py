"""The steps of a training: what stays the same over them, and how each is made."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Self

import torch
from torch import Tensor, nn

from harness.data.images import ImageSet
from harness.diffusion.objective import LOSSES, TARGETS, WEIGHTINGS, training_losses
from harness.diffusion.schedules import Schedule
from harness.diffusion.training_times import TIME_DENSITIES, training_times
from harness.engine.compiled import Compiled, compiled
from harness.engine.hyperparameters import (
    FLIPPED,
    GRADIENT_NORM,
    ema_decay,
    learning_rate,
)
from harness.engine.inputs import images_of
from harness.engine.memory import REMEDY, free_on, half_of, needed_by_a_step, tried
from harness.engine.network import Predictor, build, layout_of, make_schedule
from harness.engine.noise import Purpose, batch_at, generator, normal
from harness.engine.optimizers import optimizer_of
from harness.engine.scale import Scale
from harness.engine.share import ALONE, Share
from harness.engine.state import TIME_BINS, State
from harness.errors import MachineError
from harness.execute import machine
from harness.work.cells import Training
from harness.work.execution import Format
from harness.work.options import Workplace


@dataclass(frozen=True)
class Setting:
    """What stays the same from the first step of a training to the last."""

    training: Training
    images: ImageSet
    schedule: Schedule
    format: Format  # in which its network computes
    device: torch.device
    scale: Scale
    siblings: tuple[Training, ...] = ()  # of other decays, whose averages the same steps make

    @classmethod
    def of(
        cls,
        training: Training,
        at: Workplace,
        siblings: tuple[Training, ...] = (),
        format: Format | None = None,
    ) -> Self:
        """The setting of a training at this workplace, with those that the same steps make,
        computed in this format or else in that of the rule. Raises DataError where its images are
        not there, and MachineError for a device that is not."""
        device = machine.find_device(at.device)
        images = images_of(training, at)
        return cls(
            training,
            images,
            make_schedule(training.schedule),
            format or machine.format_for(training.precision, images.size, device),
            device,
            Scale.of(training.scale, images),
            siblings,
        )

    @property
    def precision(self) -> str:
        """In which its network computes."""
        return self.format.precision

    @property
    def trainings(self) -> tuple[Training, ...]:
        """All trainings that its steps make."""
        return self.training, *self.siblings

    def first_state(self, threads: int, is_compiled: bool = False) -> State:
        """The state before the first step, with an average of the weights for each decay."""
        images = self.images
        network = build(self.training, images.channels, images.size, self.device, self.format)
        first = network.state_dict()
        return State(
            network,
            {
                one.ema: {name: value.detach().clone() for name, value in first.items()}
                for one in self.trainings
            },
            optimizer_of(self.training, network, self.images.channels),
            torch.zeros(self.training.training_steps, device=self.device),
            torch.zeros(2, TIME_BINS, device=self.device),
            threads,
            self.images.fingerprint,
            self.training.batch_size,
            torch.amp.GradScaler(self.device.type, enabled=self.precision == "float16"),
            is_compiled=is_compiled,
        )


class BatchTooLarge(torch.OutOfMemoryError):
    """Memory ran out in one process at least, and no step was begun in any: it may be tried again
    in smaller parts. Of no other error is that known."""


class Steps:
    """The steps of a training, one at each call: returns its times and losses, one an image. Where
    memory runs out, the step is made with half as many images at once, and so are those that
    follow."""

    def __init__(self, state: State, setting: Setting, share: Share = ALONE):
        self._training = state, setting, share
        self.network = ready(*self._training)
        self._one_step = step_of(setting, self.network.network, share)

    def __call__(self) -> tuple[Tensor, Tensor]:
        state, setting, share = self._training
        while True:
            with suppress(BatchTooLarge):
                return self._one_step(state)
            del self._one_step, self.network  # which hold the images, and what was compiled
            halve(state, setting, share)
            self.network = ready(state, setting, share)
            self._one_step = step_of(setting, self.network.network, share)


def ready(state: State, setting: Setting, share: Share = ALONE) -> Compiled:
    """The state's network as its steps call it: compiled before the clock runs, where it is to be,
    for parts of a batch that fit into memory."""
    if not state.is_compiled:
        return Compiled(state.network)
    size = setting.training.batch_size
    own = torch.arange(size)[share.of(size)]
    while True:
        sizes = {len(part) for part in torch.split(own, state.at_once)}
        shapes = [(size, *setting.images.train.shape[1:]) for size in sorted(sizes)]
        made = tried(
            lambda shapes=shapes: compiled(
                state.network,
                shapes,
                setting.precision,
                setting.device,
                for_training=True,
                channels_last=setting.format.channels_last,
            )
        )
        if not share.any(made is None):
            assert made
            return made
        halve(state, setting, share)


def halve(state: State, setting: Setting, share: Share) -> None:
    """Take half as many images at once as did not fit. Raises MachineError where it was one."""
    most = min(state.at_once, share.most(setting.training.batch_size))
    if most == 1:
        raise MachineError(
            f"a training step of model {setting.training.model} does not fit into memory, even one "
            f"image at a time: {needed(state, setting)}{free_on(setting.device)}. {REMEDY}"
        )
    state.at_once = half_of(most)
    if state.is_compiled:
        # Its CUDA graphs hold the memory of larger parts, and cycles hold the graphs.
        torch.compiler.reset()
        gc.collect()
        machine.free_spare_memory()


def needed(state: State, setting: Setting) -> str:
    """How much memory a step on one image takes; nothing where the network does not let that be
    worked out."""
    with suppress(Exception):  # of a network of another package: many kinds
        one = (1, *setting.images.train.shape[1:])
        amount = needed_by_a_step(state.network, setting.precision, one)
        return f"that takes about {machine.size(amount)} beside the weights, and "
    return ""


def step_of(
    setting: Setting,
    network: Callable[[Tensor, Tensor], Tensor] | None = None,
    share: Share = ALONE,
) -> Callable[[State], tuple[Tensor, Tensor]]:
    """The function that makes the state's next step, by `network` in the place of the state's own:
    returns its times and losses, [N] each. Where the gradients do not fit into the memory of
    one process, it changes nothing in any of them and raises BatchTooLarge."""
    training, images, device = setting.training, setting.images, setting.device
    data = torch.from_numpy(images.train).to(device)
    target = TARGETS[training.target]
    weighting = partial(WEIGHTINGS[training.weighting.name], **training.weighting.keywords)
    density = partial(TIME_DENSITIES[training.times.name], **training.times.keywords)
    format, layout = setting.format, layout_of(setting.format)
    size, own = training.batch_size, share.of(training.batch_size)

    def gradients(state: State) -> tuple[Tensor, Tensor]:
        """Of the mean loss of the batch, added up over parts that fit into memory: each process
        has its share of them. Returns the times of the batch and the losses of the share."""
        # Nothing here waits for a GPU, which is at work on the step before.
        draw = generator(Purpose.TRAINING, training.seed, state.step, 0)
        t = training_times(setting.schedule, torch.from_numpy(draw.random(size)), density)
        chosen = batch_at(state.step, training.seed, len(data), size)[own]
        chosen = chosen.to(device, non_blocking=True)
        batch = setting.scale.to_signal(data[chosen]).contiguous(memory_format=layout)
        if images.flip:
            mirrored = torch.from_numpy(draw.random(size)[own] < FLIPPED)
            mirrored = mirrored.to(device, non_blocking=True)
            batch = torch.where(mirrored[:, None, None, None], batch.flip(3), batch)
        shape = (size, *batch.shape[1:])
        eps = normal(shape, device, Purpose.TRAINING, training.seed, state.step, 1)[own]

        used = state.network if network is None else network
        predict = Predictor(used, format.precision, format.channels_last)
        losses = []
        parts = (torch.split(value, state.at_once) for value in (batch, t[own], eps))
        for x_0, times, noise in zip(*parts, strict=True):
            loss = training_losses(
                predict, setting.schedule, target, weighting, x_0, times, noise,
                LOSSES[training.loss],
            )  # fmt: skip
            torch.autograd.backward(state.scaler.scale(share.mean(loss, size)))
            if state.is_compiled and len(loss) < len(batch):
                # The next replay of a CUDA graph would overwrite the gradients that this one left.
                for parameter in state.network.parameters():
                    if parameter.grad is not None:
                        parameter.grad = parameter.grad.clone()
            losses.append(loss.detach())
        return t, torch.cat(losses)

    def one_step(state: State) -> tuple[Tensor, Tensor]:
        found = tried(gradients, state)
        if share.any(found is None):
            state.optimizer.zero_grad()
            machine.free_spare_memory()
            raise BatchTooLarge("out of memory, in one of the processes at least")
        assert found
        t, losses = found
        # Averaged first: what overflowed in one process is then no number in any, and all of them
        # leave the step out, and change their scale, together.
        share.average(state.network.parameters())
        state.scaler.unscale_(state.optimizer)
        norm = nn.utils.clip_grad_norm_(state.network.parameters(), GRADIENT_NORM)
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(training, state.step)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        state.optimizer.zero_grad()
        is_made = norm.isfinite() if state.scaler.is_enabled() else None
        state.follow({one.ema: ema_decay(one, state.step) for one in setting.trainings}, is_made)
        return t, share.all_of(losses, size)

    return one_step
