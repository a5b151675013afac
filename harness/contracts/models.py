"""What every model must satisfy: a network that can be built, heeds its inputs and can learn."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from harness.contracts.check import Bench, CannotCheck, Claims, check, refuses
from harness.errors import BadOption, Fault
from harness.lazy import torch
from harness.models.presets import MODELS
from harness.work.cells import UNTRAINED

SIDES = (8, 16, 32, 64, 28, 128, 256)  # pixels: the first that suits is taken
ODD = 7  # pixels, which can seldom be halved


def of_model(name: str, bench: Bench) -> Claims:
    about = partial(check, bench, f"model {name}")
    model = MODELS.make(name, bench.options)
    if name in UNTRAINED:
        refused = partial(refuses, BadOption, model.build, 1, 8)
        yield about("refuses to be built (1 if so)", 0, refused, 1.0)
        return
    side = next((side for side in SIDES if not refuses(BadOption, model.check, side)), None)
    if side is None:
        raise CannotCheck(f"it takes images of none of the sides {SIDES}")
    network = awake(model, 3, side, bench)
    yield about("answers in the shape of its images (faults)", 0, partial(misshapen, network, side))
    yield about("answers for each image alone (difference)", 0.01, partial(mixed, network, side))
    yield about("heeds the log SNR (1 if so)", 0, partial(heeds, network, side), 1.0)
    yield about("parameters that no gradient reaches", 0, partial(unreached, network, side))
    odd = partial(odd_misshapen, model, bench)
    yield about(f"takes images of {ODD} pixels, or refuses them (faults)", 0, odd)


def awake(model: Any, channels: int, side: int, bench: Bench) -> torch.nn.Module:
    """A network of this model. Parameters are moved at random from where they begin: many begin at
    zero, where nothing goes through."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network: torch.nn.Module = model.build(channels, side).to(bench.device, bench.dtype)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
    return network.eval()


def images_for(network: torch.nn.Module, side: int, channels: int = 3) -> torch.Tensor:
    like = next(network.parameters())
    images = np.random.default_rng(3).standard_normal((2, channels, side, side))
    return torch.as_tensor(images).to(like)


def misshapen(network: torch.nn.Module, side: int, channels: int = 3) -> int:
    x = images_for(network, side, channels)
    with torch.no_grad():
        answer = network(x, x.new_tensor([-2.0, 1.0]))
    if answer.shape != x.shape or answer.dtype != x.dtype:
        raise Fault(f"answers {list(answer.shape)} {answer.dtype} for {list(x.shape)} {x.dtype}")
    return int((~answer.isfinite()).sum())


def mixed(network: torch.nn.Module, side: int) -> float:
    """How far an answer depends on the other image of the batch."""
    x = images_for(network, side)
    log_snr = x.new_tensor([-2.0, 1.0])
    with torch.no_grad():
        together = network(x, log_snr)
        alone = torch.cat([network(x[i : i + 1], log_snr[i : i + 1]) for i in (0, 1)])
    return float((together - alone).abs().max() / together.abs().max())


def heeds(network: torch.nn.Module, side: int) -> bool:
    x = images_for(network, side)
    with torch.no_grad():
        noisy, clean = (network(x, x.new_full((2,), level)) for level in (-3.0, 3.0))
    return not torch.allclose(noisy, clean, rtol=1e-4, atol=1e-6)


def unreached(network: torch.nn.Module, side: int) -> int:
    x = images_for(network, side)
    network(x, x.new_tensor([-2.0, 1.0])).square().mean().backward()
    learning = [each for each in network.parameters() if each.requires_grad]
    if not learning:
        raise Fault("has no parameter that could be trained")
    return sum(each.grad is None or not bool(each.grad.any()) for each in learning)


def odd_misshapen(model: Any, bench: Bench) -> int:
    if refuses(BadOption, model.check, ODD):
        return 0
    return misshapen(awake(model, 1, ODD, bench), ODD, 1)
