"""A network compiled for the shapes of its inputs where that pays, and as it is elsewhere.

On a GPU the compiled network runs as CUDA graphs, so that Python no longer has to feed it kernel by
kernel. On a CPU compiling takes a minute or two and gains about a tenth.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.engine.network import Predictor
from harness.execute import machine

GAIN = 0.1  # of the time of a training step or an evaluation on a CPU, and ...
COST = 90.0  # ... seconds that compiling takes there (measured: 8 % to 12 %, 20 to 110 s)


def pays(seconds: float, device: torch.device) -> bool:
    """Whether work that takes so long uncompiled is done sooner with a compiled network."""
    return device.type == "cuda" or GAIN * seconds > COST


@dataclass(frozen=True)
class Compiled:
    """A network ready to be called, the seconds that took, and why it is not compiled."""

    network: Callable[[Tensor, Tensor], Tensor]
    seconds: float = 0.0
    trouble: str = ""


def compiled(
    network: nn.Module,
    shapes: Sequence[tuple[int, ...]],
    precision: str,
    device: torch.device,
    *,
    for_training: bool,
) -> Compiled:
    """The network compiled and tried for inputs [N, C, H, W] of these shapes.

    Where it cannot be compiled (no C++ compiler, an unsupported device) it is returned as it is,
    with the reason. Weights and gradients are left as they were. Raises
    OutOfMemoryError where batches to be sampled are too large.
    """
    began = time.perf_counter()
    try:
        made = torch.compile(
            network, dynamic=False, mode="reduce-overhead" if device.type == "cuda" else "default"
        )
        for shape in shapes:
            _try(Predictor(made, precision), shape, device, for_training)
    except Exception as error:  # of the compiler, the linker or the driver: many kinds
        if isinstance(error, torch.OutOfMemoryError) and not for_training:
            raise  # smaller batches would do
        return Compiled(network, time.perf_counter() - began, _first_line(error))
    finally:
        network.zero_grad()
    machine.wait_for(device)
    seconds = time.perf_counter() - began
    if device.type == "cuda" and not for_training:
        # The next replay of a CUDA graph overwrites what this one returned, which samplers keep.
        return Compiled(lambda x, log_snr: made(x, log_snr).clone(), seconds)
    return Compiled(made, seconds)


def _try(
    network: Predictor, shape: tuple[int, ...], device: torch.device, for_training: bool
) -> None:
    x, log_snr = torch.zeros(shape, device=device), torch.zeros(shape[0], device=device)
    if for_training:
        torch.autograd.backward(network(x, log_snr).square().mean())
        return
    with torch.inference_mode():
        network(x, log_snr)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__
