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
from harness.errors import is_out_of_memory
from harness.execute import machine

# Where a machine has not compiled the same network before:
GAIN = 0.1  # of the time of a training step or an evaluation on a CPU, and ...
COST = 90.0  # ... seconds that compiling takes there (measured: 8 % to 12 %, 20 to 110 s)


def pays(seconds: float, device: torch.device, gain: float = GAIN, cost: float = COST) -> bool:
    """Whether work that takes so long uncompiled is done sooner with a compiled network, which
    saves a share of that on a CPU, `gain`, and takes `cost` seconds to compile."""
    if device.type == "mps":  # for which torch's compiler is a prototype
        return False
    return device.type == "cuda" or gain * seconds > cost


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
    channels_last: bool | None = None,
) -> Compiled:
    """The network compiled and tried for inputs [N, C, H, W] of these shapes.

    Where it cannot be compiled (no C++ compiler, an unsupported device) it is returned as it is,
    with the reason. Weights and gradients are left as they were. What says that memory ran out goes
    through: smaller batches may fit.
    """
    began = time.perf_counter()
    try:
        mode = "reduce-overhead" if device.type == "cuda" else "default"
        made = torch.compile(network, dynamic=False, mode=mode)
        for shape in shapes:
            with torch.inference_mode(not for_training):  # inputs too, or it compiles once more
                x = torch.zeros(shape, device=device)
                prediction = Predictor(made, precision, channels_last)(
                    x, torch.zeros(shape[0], device=device)
                )
            if for_training:
                torch.autograd.backward(prediction.square().mean())
    except Exception as error:  # of the compiler, the linker or the driver: many kinds
        if is_out_of_memory(error):
            raise
        first_line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        return Compiled(network, time.perf_counter() - began, first_line[:200])
    finally:
        network.zero_grad()
    machine.wait_for(device)
    seconds = time.perf_counter() - began
    if device.type == "cuda" and not for_training:
        # The next replay of a CUDA graph overwrites what this one returned, which samplers keep.
        return Compiled(lambda x, log_snr: made(x, log_snr).clone(), seconds)
    return Compiled(made, seconds)
