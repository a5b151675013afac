"""A network at work: its first weights, its precision, and reading back what was trained."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from harness.data.images import ImageSet
from harness.diffusion.objective import LOG_SNR_LIMIT, TARGETS, Denoiser
from harness.diffusion.schedules import SCHEDULES, Schedule
from harness.engine.noise import Purpose, generator
from harness.errors import StoreError
from harness.models.presets import MODELS
from harness.plan.work import Part, Training
from harness.runtime import machine
from harness.runtime.store import Store


def build(training: Training, channels: int, size: int, device: torch.device) -> nn.Module:
    """The untrained network; its weights are a function of the training seed."""
    seed = int(generator(Purpose.WEIGHTS, training.seed).integers(2**31))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        shape = MODELS[training.model.name](**training.model.keywords)
        network = shape.build(channels, size)
    return network.to(device, memory_format=memory_format(size))


def memory_format(size: int) -> torch.memory_format:
    """Channels-last is up to twice as fast from 32 pixels on, and slower on tiny images."""
    return torch.channels_last if size >= 32 else torch.contiguous_format


@dataclass(frozen=True)
class Predictor:
    """The network as the mathematics calls it: float32 in and out, computed in `precision`."""

    network: nn.Module
    precision: str

    def __call__(self, x: Tensor, log_snr: Tensor) -> Tensor:
        x = x.contiguous(memory_format=memory_format(x.shape[-1]))
        with autocast(self.precision, x.device):
            prediction: Tensor = self.network(x, log_snr)
        return prediction.float()


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager[object]:
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, precision))


def load(
    training: Training, store: Store, images: ImageSet, device: torch.device
) -> tuple[nn.Module, str]:
    """A finished training's network with its averaged weights, and its precision."""
    outcome = store.trained(training.key)
    if outcome is None:
        raise StoreError(
            f"the store {store.root} has no finished training {training.key}; run its grid first"
        )
    network = build(training, images.channels, images.size, device)
    network.load_state_dict(load_file(store.model(training.key, "weights.safetensors")))
    return network.eval().requires_grad_(False), machine.find_precision(training.precision, device)


def denoiser(
    training: Training,
    schedule: Schedule,
    network: nn.Module,
    precision: str,
    clip: bool = False,
) -> Denoiser:
    """`denoise(x, t)` of a trained network under a schedule, which need not be its own."""
    return Denoiser(
        Predictor(network, precision),
        schedule,
        TARGETS[training.target],
        trained=log_snr_range(make_schedule(training.schedule)),
        clip=clip,
    )


def make_schedule(part: Part) -> Schedule:
    schedule: Schedule = SCHEDULES[part.name](**part.keywords)
    return schedule


def log_snr_range(schedule: Schedule) -> tuple[float, float]:
    """The log SNRs that a network trained under this schedule has been asked about."""
    first = 0.0 if schedule.table_steps is None else 1 / schedule.table_steps
    ends = schedule.log_snr(torch.tensor([1.0, first], dtype=torch.float64))
    low, high = ends.clamp(-LOG_SNR_LIMIT, LOG_SNR_LIMIT).tolist()
    return low, high


def to_signal(images: Tensor) -> Tensor:
    """uint8 0..255 -> float32 -1..1."""
    return images.float() / 127.5 - 1


def to_bytes(signal: Tensor) -> np.ndarray:
    """float -1..1 (clipped) -> uint8 0..255, as a file would hold it."""
    return ((signal + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
