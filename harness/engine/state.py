"""What an unfinished training is: everything its next step depends on, in one file."""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from harness.errors import DataError
from harness.execute import machine
from harness.store import DECAYS, FORMAT, TRAININGS, replacing
from harness.work.execution import Format
from harness.work.results import LossBin, LossPoint

TIME_BINS = 20
CURVE_POINTS = 200
DIGEST = "sha256"  # among the metadata of a saved state
LOSS_SCALE = "loss_scale"  # too, of one in float16
AVERAGE = "average"  # how the names of its tensors begin in a saved state
KEPT_FIELDS = ("step", "seconds", "threads", "data", "at_once", "is_compiled", "processes")


class LacksAverage(Exception):
    """A saved state has no average of a decay that is asked for."""


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors of any shape as safetensors, which holds them row by row whatever their memory
    format."""
    # One by one, so that a device that is full of them does not have to hold copies.
    packed = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        try:
            save_file(packed, temporary, metadata=metadata)
        except SafetensorError as error:  # has the system's error as text alone
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]) if number else errno.EIO, str(error)) from error


def digest_of(key: str, tensors: Mapping[str, Tensor], kept: Mapping[str, str]) -> str:
    """sha256 of the tensors of a training, of any shape, and of what is kept with them."""
    digest = hashlib.sha256(json.dumps([key, dict(kept)], sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


@dataclass
class State:
    """A training after `step` steps."""

    network: nn.Module
    # By its decay, each exponential moving average of the weights, which is what is sampled.
    averages: dict[float, dict[str, Tensor]]
    optimizer: torch.optim.Optimizer
    losses: Tensor  # [training_steps] mean loss of each step
    by_time: Tensor  # [2, TIME_BINS] sum and count of the losses of the last tenth, by time
    threads: int  # on a CPU, sums depend on it in their last bits
    data: str  # fingerprint of the images
    at_once: int  # images at most that go through the network together: what fits into memory
    # Multiplies the loss in float16, so that small gradients are not rounded to 0, and leaves a
    # step out whose gradients are too large for it. In other precisions it is off.
    scaler: torch.amp.GradScaler
    step: int = 0
    seconds: float = 0.0
    is_compiled: bool = False  # as the threads: a resumed training ends in the same bits
    processes: int = 1  # that make each step together
    # By decay, pictures of samples drawn on the way, as `pictures.with_look` makes them.
    looks: dict[float, bytes] = field(default_factory=dict)

    def follow(self, decays: Mapping[float, float], is_made: Tensor | None = None) -> None:
        """Move each average towards the weights: average = decay average + (1 - decay) weights,
        with what its decay is at this step; not at all where the optimiser made none (`is_made`,
        a 0-d tensor, is false)."""
        weights = [value.detach() for value in self.network.state_dict().values()]
        for decay, now in decays.items():
            average = list(self.averages[decay].values())
            if is_made is None:
                torch._foreach_lerp_(average, weights, 1 - now)
                continue
            # The same without waiting for the device to tell whether it was made.
            apart = torch._foreach_sub(weights, average)
            torch._foreach_mul_(apart, (1 - now) * is_made.float())
            torch._foreach_add_(average, apart)

    def keep_losses(self, t: Tensor, losses: Tensor) -> None:
        """Note the losses [N] of the step that was just made, at the times t [N], without waiting
        for the device."""
        self.losses[self.step] = losses.mean()
        if self.step >= 0.9 * len(self.losses):
            bins = (t * TIME_BINS).ceil().long().clamp(1, TIME_BINS) - 1
            bins = bins.to(losses.device, non_blocking=True)
            self.by_time[0].index_add_(0, bins, losses)
            self.by_time[1].index_add_(0, bins, torch.ones_like(losses))

    def loss_curve(self) -> tuple[LossPoint, ...]:
        """The losses so far, averaged over stretches of steps."""
        losses = self.losses.numpy(force=True)
        blocks = np.array_split(np.arange(len(losses)), min(CURVE_POINTS, len(losses)))
        return tuple(LossPoint(int(block[-1]) + 1, float(losses[block].mean())) for block in blocks)

    def loss_by_time(self) -> tuple[LossBin, ...]:
        """The losses of the last tenth of the training by time, where there are any, with the
        digits that float32 has."""
        total, count = self.by_time.numpy(force=True)
        edges = np.linspace(0, 1, TIME_BINS + 1)
        return tuple(
            LossBin(float(low), float(high), float(str(each / number)))
            for low, high, each, number in zip(edges[:-1], edges[1:], total, count, strict=True)
            if number
        )

    def save(self, path: Path, trainings: Sequence[str] = (), format: Format | None = None) -> None:
        """Write this state, the keys of the trainings that it is of, and in what they are computed;
        safetensors, so that reading it back can run no code."""
        pictures = {
            _look(decay): torch.frombuffer(bytearray(picture), dtype=torch.uint8)
            for decay, picture in self.looks.items()
        }
        tensors = self._tensors() | pictures
        kept = {name: json.dumps(getattr(self, name)) for name in KEPT_FIELDS}
        kept |= {DECAYS: json.dumps([*self.averages]), TRAININGS: json.dumps([*trainings])}
        if format:
            where = machine.name(self.losses.device)
            computed = where, format.precision, format.channels_last
            kept[FORMAT] = json.dumps(computed)
        if self.scaler.is_enabled():
            kept[LOSS_SCALE] = json.dumps(self.scaler.state_dict())
        write_tensors(path, tensors, kept | {DIGEST: digest_of(path.parent.name, tensors, kept)})

    def restore(self, path: Path, nameless: float | None = None) -> None:
        """Go on from a saved state, with all of its averages; an earlier version wrote one of them
        without its decay, which is `nameless`. Raises LacksAverage where one that is asked for is
        not in it; SafetensorError, FileNotFoundError, KeyError, TypeError or ValueError where it
        cannot be read whole, of which a part may then have been taken over; and DataError where it
        was trained on other images."""
        with safe_open(path, framework="pt") as file:
            kept = file.metadata()
            if json.loads(kept["data"]) != self.data:
                raise DataError(
                    f"the unfinished training in {path} saw other images than there are now. Use "
                    "the old ones again, or remove that file to begin anew."
                )
            saved = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if kept.pop(DIGEST) != digest_of(path.parent.name, saved, kept):
                raise ValueError("it is not what was saved for this training")
            if DECAYS not in kept:
                saved = {
                    re.sub(f"^{AVERAGE}[.]", f"{_average(nameless)}.", name): tensor
                    for name, tensor in saved.items()
                }
            for decay in json.loads(kept.get(DECAYS, "[]")):
                first = self.network.state_dict().items()
                self.averages.setdefault(
                    decay, {name: torch.empty_like(value) for name, value in first}
                )
            own = self._tensors(fill_optimizer=True)
            if any(name.startswith(AVERAGE) and name not in saved for name in own):
                raise LacksAverage
            for name, tensor in own.items():
                if (shape := saved[name].shape) != tensor.shape:
                    raise ValueError(f"{name} has shape {[*shape]}, not {[*tensor.shape]}")
                tensor.copy_(saved[name])
        for name in KEPT_FIELDS:
            setattr(self, name, json.loads(kept[name]))
        if LOSS_SCALE in kept:  # else it was saved on a device that computed in another precision
            self.scaler.load_state_dict(json.loads(kept[LOSS_SCALE]))
        self.looks = {
            decay: saved[name].numpy().tobytes()
            for decay in self.averages
            if (name := _look(decay)) in saved  # an earlier version kept none
        }

    @torch.no_grad()
    def _tensors(self, fill_optimizer: bool = False) -> dict[str, Tensor]:
        """Every tensor of the state under a name of its own, sharing memory with it."""
        if fill_optimizer:
            self._fill_optimizer()
        named = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for decay, average in self.averages.items():
            named |= {f"{_average(decay)}.{name}": value for name, value in average.items()}
        for name, parameter in self.network.named_parameters():
            for moment, value in self.optimizer.state[parameter].items():
                named[f"optimizer.{name}.{moment}"] = value
        return named | {"losses": self.losses, "by_time": self.by_time}

    def _fill_optimizer(self) -> None:
        """An optimiser makes its moments at its first step: let it make them, to be overwritten."""
        for parameter in self.network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self.optimizer.step()
        self.optimizer.zero_grad()


def _average(decay: float | None) -> str:
    """How the names of the tensors of an average begin in a saved state."""
    return f"{AVERAGE} {decay!r}"


def _look(decay: float) -> str:
    return f"looks {decay!r}"
