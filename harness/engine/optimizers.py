"""The optimisers of a training: AdamW, and Muon for the weights between hidden channels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from harness.engine.hyperparameters import (
    BETAS,
    EPSILON,
    MUON_MOMENTUM,
    MUON_SCALE,
    WEIGHT_DECAY,
)
from harness.work.cells import Training

# An odd polynomial of a matrix, a + b s^2 + c s^4 times s of each singular value s in (0, 1], that
# five times in a row brings nearly all between 0.7 and 1.2 (Jordan et al. 2024).
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
LEAST_NORM = 1e-7  # what a gradient of zeros is divided by


def adamw(parameters: list[nn.Parameter], learning_rate: float) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019)."""
    # A group, since a list of no parameters at all is refused.
    group = [{"params": parameters}]
    return torch.optim.AdamW(group, learning_rate, BETAS, EPSILON, WEIGHT_DECAY, fused=True)


class Muon(torch.optim.Optimizer):
    """Momentum with Nesterov's step, of which each matrix is replaced by the nearest orthogonal one
    (Jordan et al. 2024): all of its directions are learned alike, not the strongest alone. Steps
    have the size of AdamW's, so that both take the same learning rate (Liu et al. 2025, eq. 4).
    What is no matrix of hidden channels is left to AdamW.
    """

    def __init__(
        self, matrices: list[nn.Parameter], others: list[nn.Parameter], learning_rate: float
    ):
        self._adamw = adamw(others, learning_rate)
        super().__init__([{"params": matrices}], {"lr": learning_rate})
        self._adamw.state = self.state
        self.param_groups += self._adamw.param_groups

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every weight that has a gradient."""
        self._adamw.step()
        group = self.param_groups[0]
        alike: dict[tuple[int, ...], list[Tensor]] = {}
        for weight in group["params"]:
            if weight.grad is not None:
                alike.setdefault(tuple(weight.shape), []).append(weight)
        for shape, weights in alike.items():
            updates = orthogonal(self._averaged(weights).flatten(2))
            size = MUON_SCALE * max(updates.shape[1:]) ** 0.5
            torch._foreach_mul_(weights, 1 - group["lr"] * WEIGHT_DECAY)
            torch._foreach_add_(weights, [*updates.view(-1, *shape)], alpha=-group["lr"] * size)

    def _averaged(self, weights: list[Tensor]) -> Tensor:
        """The averages of the gradients of weights of one shape, each a step ahead, [n, *shape]."""
        for weight in weights:
            if not self.state[weight]:
                self.state[weight]["momentum"] = torch.zeros_like(weight)
        momenta = [self.state[weight]["momentum"] for weight in weights]
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        torch._foreach_lerp_(momenta, gradients, 1 - MUON_MOMENTUM)
        return torch.stack(torch._foreach_lerp(gradients, momenta, MUON_MOMENTUM))


def orthogonal(matrices: Tensor) -> Tensor:
    """Near each of the matrices [n, rows, columns] the orthogonal one, by Newton-Schulz iterations
    on its Gram matrix, which is never larger: singular vectors stay, and singular values come
    between 0.7 and 1.2, but for those that are hardly above 0."""
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonal(matrices.mT).mT
    a, b, c = NEWTON_SCHULZ
    matrices = matrices / (torch.linalg.matrix_norm(matrices)[:, None, None] + LEAST_NORM)
    gram = matrices @ matrices.mT
    one = torch.eye(gram.shape[1], device=gram.device, dtype=gram.dtype)
    product = one
    for _ in range(ITERATIONS):
        factor = a * one + b * gram + c * gram @ gram
        product = factor @ product
        gram = factor @ gram @ factor
    return product @ matrices


def muon(network: nn.Module, channels: int, learning_rate: float) -> Muon:
    """Muon for all weights between hidden channels of a network of images of so many channels: not
    for those that read or write the images, nor for biases and scales."""
    matrices, others = list[nn.Parameter](), list[nn.Parameter]()
    for parameter in network.parameters():
        is_hidden = parameter.ndim >= 2 and min(parameter.shape[:2]) > channels
        (matrices if is_hidden else others).append(parameter)
    return Muon(matrices, others, learning_rate)


OPTIMIZERS: dict[str, Callable[[nn.Module, int, float], torch.optim.Optimizer]] = {
    "adamw": lambda network, channels, rate: adamw([*network.parameters()], rate),
    "muon": muon,
}


def optimizer_of(training: Training, network: nn.Module, channels: int) -> torch.optim.Optimizer:
    """The optimiser of a training for its network of images of so many channels."""
    return OPTIMIZERS[training.optimizer](network, channels, training.learning_rate)
