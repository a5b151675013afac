"""Adams-Bashforth methods: they carry on the noise that earlier steps found, at no further cost.

Their first step has nothing to remember and is DDIM's; the step to time 0 is too.

Shapes: x and estimates x_0 are shaped alike, [N, ...], batch first; integrands are [NODES].
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated

from harness.diffusion.levels import Level, levels
from harness.diffusion.schedules import Schedule
from harness.diffusion.stepping import (
    Denoise,
    DrawNoise,
    along,
    leverage,
    noise_in,
    sampler,
    walk,
)
from harness.lazy import torch
from harness.registry import Between

if TYPE_CHECKING:
    from torch import Tensor


@sampler(
    formula="Adams-Bashforth steps of two values of ε̂ in x/α against σ/α, weighted by the "
    "lengths of the steps: (1 + r/2) ε̂_n − (r/2) ε̂_n₋₁, r the length in σ/α of this step over "
    "that of the last (Zhang & Chen 2023)",
    order=2,
    like="ddim",
    from_signal=True,
)
def ab2(
    denoise: Denoise, schedule: Schedule, x: Tensor, times: Tensor, draw_noise: DrawNoise
) -> Tensor:
    """Adams-Bashforth of two steps, weighted by their lengths (Zhang & Chen 2023, rho-AB-DEIS).

    (1 + r/2) of this noise less r/2 of the last one, r the ratio of the steps in sigma / alpha.
    """
    before: list[tuple[Tensor, float]] = []

    def step(x: Tensor, x_0: Tensor, t: Level, s: Level) -> Tensor:
        noise, length = noise_in(x, x_0, t), s.ratio - t.ratio
        arrived = along(x, x_0, t, s)
        if before:
            last, last_length = before.pop()
            arrived = arrived + length / last_length / 2 * (noise - last) * leverage(t, s)
        before.append((noise, length))
        return arrived

    return walk(denoise, schedule, x, times, step)


ADAMS_BASHFORTH = {
    1: (1,),
    2: (3 / 2, -1 / 2),
    3: (23 / 12, -16 / 12, 5 / 12),
    4: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}


@sampler(
    formula="DDIM along an Adams-Bashforth mean of the last ε̂ (four unless said otherwise), with "
    "the weights of equal steps (Liu et al. 2022; Zhang & Chen 2023)",
    order=2,
    like="ddim",
)
def ipndm(
    denoise: Denoise,
    schedule: Schedule,
    x: Tensor,
    times: Tensor,
    draw_noise: DrawNoise,
    *,
    order: Annotated[int, Between(1, 4)] = 4,
) -> Tensor:
    """iPNDM (Liu et al. 2022, eq. 9, without its warm-up; Zhang & Chen 2023).

    DDIM's step along an Adams-Bashforth mean of up to `order` noises, with the weights for equal
    steps whatever the steps are.
    """
    noises: list[Tensor] = []

    def step(x: Tensor, x_0: Tensor, t: Level, s: Level) -> Tensor:
        noises.insert(0, noise_in(x, x_0, t))
        del noises[order:]
        weights = ADAMS_BASHFORTH[len(noises)]
        arrived = along(x, x_0, t, s)
        for weight, earlier in zip(weights[1:], noises[1:], strict=True):  # they sum to 1
            arrived = arrived + weight * (earlier - noises[0]) * leverage(t, s)
        return arrived

    return walk(denoise, schedule, x, times, step)


@sampler(
    formula="DDIM along the integral over σ/α of the polynomial through the last ε̂ (four unless "
    "said otherwise): Adams-Bashforth weights for the steps as they are (Zhang & Chen 2023)",
    order=4,
    like="ddim",
    from_signal=True,
)
def ipndm_v(
    denoise: Denoise,
    schedule: Schedule,
    x: Tensor,
    times: Tensor,
    draw_noise: DrawNoise,
    *,
    order: Annotated[int, Between(1, 4)] = 4,
) -> Tensor:
    """iPNDM with weights for uneven steps: rho-AB-DEIS (Zhang & Chen 2023, eq. 15 in rho).

    Equals `ipndm` where the steps are even in sigma / alpha, and `ab2` at order 2.
    """
    known: list[tuple[float, Tensor]] = []  # sigma / alpha and the noise found there, newest first

    def step(x: Tensor, x_0: Tensor, t: Level, s: Level) -> Tensor:
        noise, arrived = noise_in(x, x_0, t), along(x, x_0, t, s)
        known.insert(0, (t.ratio, noise))
        del known[order:]
        at = [ratio for ratio, _ in known]
        # Simpson's rule is exact for polynomials up to the third degree.
        places = torch.tensor([t.ratio, (t.ratio + s.ratio) / 2, s.ratio], dtype=torch.float64)
        for j, (_, earlier) in enumerate(known[1:], start=1):
            first, middle, last = lagrange(at, j, places).tolist()
            weight = (first + 4 * middle + last) / 6
            arrived = arrived + weight * (earlier - noise) * leverage(t, s)
        return arrived

    return walk(denoise, schedule, x, times, step)


NODES = 65  # of Simpson's rule, in one step


@sampler(
    formula="ε̂ along a polynomial in t through its last values (three unless said otherwise), "
    "its integral over σ/α worked out (tAB-DEIS; Zhang & Chen 2023)",
    order=3,
    like="ddim",
)
def deis(
    denoise: Denoise,
    schedule: Schedule,
    x: Tensor,
    times: Tensor,
    draw_noise: DrawNoise,
    *,
    order: Annotated[int, Between(1, 4)] = 3,
) -> Tensor:
    """t-AB-DEIS: the noise along a polynomial in time (Zhang & Chen 2023, eq. 14 and 15).

    The polynomial goes through its last `order` values; the linear part of the equation is solved
    exactly.
    """
    path = levels(schedule, times)
    between = times_between(schedule, path)
    known: list[tuple[Level, Tensor]] = []  # newest first

    def step(x: Tensor, x_0: Tensor, t: Level, s: Level) -> Tensor:
        noise, arrived = noise_in(x, x_0, t), along(x, x_0, t, s)
        known.insert(0, (t, noise))
        del known[order:]
        at = [float(level.t) for level, _ in known]
        for j, (_, earlier) in enumerate(known[1:], start=1):
            share = integral(lagrange(at, j, between[t.t.item()]), t, s)
            arrived = arrived + s.alpha * share * (earlier - noise)
        return arrived

    return walk(denoise, schedule, x, times, step)


def times_between(schedule: Schedule, path: list[Level]) -> dict[float, Tensor]:
    """By the time at which a step begins, NODES times from its end to its beginning, even in log
    SNR; they mean nothing where that is infinite, which no correction asks about."""
    ends = torch.tensor([[s.log_snr, t.log_snr] for t, s in pairwise(path)], dtype=torch.float64)
    share = torch.linspace(0, 1, NODES, dtype=torch.float64)
    even = ends[:, :1] + share * (ends[:, 1:] - ends[:, :1])
    return dict(zip([level.t.item() for level in path[:-1]], schedule.t(even), strict=True))


def lagrange(at: list[float], j: int, places: Tensor) -> Tensor:
    """The polynomial that is 1 at the j-th of `at` and 0 at the others, at these places."""
    value = torch.ones_like(places)
    for i, other in enumerate(at):
        if i != j:
            value = value * (places - other) / (at[j] - other)
    return value


def integral(values: Tensor, t: Level, s: Level) -> float:
    """The integral over sigma / alpha from t to s of a function given at `times_between`, by
    Simpson's rule in log SNR, where sigma / alpha = exp(-log SNR / 2)."""
    log_snr = torch.linspace(s.log_snr, t.log_snr, NODES, dtype=torch.float64)
    weights = torch.full((NODES,), 2.0, dtype=torch.float64)
    weights[1::2] = 4
    weights[0] = weights[-1] = 1
    width = (s.log_snr - t.log_snr) / (NODES - 1)
    area = float((weights * values * torch.exp(-log_snr / 2)).sum()) * width / 3
    return -area / 2  # d ratio = -ratio / 2 d log SNR
