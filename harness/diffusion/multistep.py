"""Samplers of several steps: they remember what earlier evaluations said, at no further cost.

Their first step has nothing to remember and is DDIM's (or DDPM's); the step to time 0 is too.
"""

from __future__ import annotations

import math
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
    posterior,
    sampler,
    walk,
)
from harness.lazy import torch
from harness.registry import Between

if TYPE_CHECKING:
    from torch import Tensor


@sampler(
    formula="Adams-Bashforth steps of two values of ε̂ in x/α against σ/α, weighted by the "
    "lengths of the steps: (1 + r/2) ε̂_n − (r/2) ε̂_n₋₁ (Zhang & Chen 2023)",
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


@sampler(
    formula="DDIM's step towards x̂₀ + (x̂₀ − previous x̂₀)/(2r), r the ratio of the last step to "
    "this one in log SNR (DPM-Solver++ 2M; Lu et al. 2022)",
    order=2,
    like="ddim",
)
def dpmpp_2m(
    denoise: Denoise, schedule: Schedule, x: Tensor, times: Tensor, draw_noise: DrawNoise
) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, Algorithm 2).

    DDIM's step towards an x_0 that is carried on from the last two estimates, along log SNR.
    """
    carry_on = Extrapolation()

    def step(x: Tensor, x_0: Tensor, t: Level, s: Level) -> Tensor:
        return along(x, carry_on(x_0, t, s), t, s)

    return walk(denoise, schedule, x, times, step)


@sampler(formula="DDPM's step from the same extrapolated x̂₀ (Lu et al. 2022)", like="ddpm")
def dpmpp_2m_sde(
    denoise: Denoise, schedule: Schedule, x: Tensor, times: Tensor, draw_noise: DrawNoise
) -> Tensor:
    """SDE-DPM-Solver++(2M) in its midpoint form (Lu et al. 2022, eq. 18).

    DDPM's step from an x_0 that is carried on as in `dpmpp_2m`.
    """
    carry_on = Extrapolation()

    def step(x: Tensor, x_0: Tensor, t: Level, s: Level) -> Tensor:
        mean, spread, _ = posterior(x, carry_on(x_0, t, s), t, s)
        return mean + spread * draw_noise()

    return walk(denoise, schedule, x, times, step)


@sampler(
    formula="a predictor and corrector in log SNR on the last x̂₀ (order 2 unless said "
    "otherwise), one evaluation a step (UniPC with B(h) = e^h − 1; Zhao et al. 2023)",
    order=3,
    like="ddim",
)
def unipc(
    denoise: Denoise,
    schedule: Schedule,
    x: Tensor,
    times: Tensor,
    draw_noise: DrawNoise,
    *,
    order: Annotated[int, Between(1, 3)] = 2,
) -> Tensor:
    """UniPC with B(h) = e^h - 1 on estimates of x_0 (Zhao et al. 2023, Algorithms 1 and 2).

    Each new estimate first corrects the step that led to it, then predicts the next step.
    """
    known: list[tuple[Level, Tensor]] = []  # estimates at earlier levels, newest first
    origin: list[Tensor] = []  # the corrected x that the last step began from

    def step(x: Tensor, x_0: Tensor, t: Level, s: Level) -> Tensor:
        if known:
            x = unified(origin.pop(), known, t, arrived=x_0)
        origin.append(x)
        known.insert(0, (t, x_0))
        del known[order:]
        return unified(x, known, s)

    return walk(denoise, schedule, x, times, step)


def unified(
    x: Tensor, known: list[tuple[Level, Tensor]], s: Level, arrived: Tensor | None = None
) -> Tensor:
    """x at s from x at the newest level known: the predictor UniP, or with the estimate that
    `arrived` at s the corrector UniC (Zhao et al. 2023, eq. 3 and 8; B(h) R rho = phi)."""
    t, x_0 = known[0]
    h = (s.log_snr - t.log_snr) / 2
    # An estimate from where no signal was left stands infinitely far away: it counts for nothing.
    others = [(level, other) for level, other in known[1:] if math.isfinite(level.log_snr)]
    places = [(level.log_snr - t.log_snr) / 2 / h for level, _ in others]
    changes = [(other - x_0) / r for (_, other), r in zip(others, places, strict=True)]
    if arrived is not None:
        places, changes = [*places, 1.0], [*changes, arrived - x_0]
    moved = along(x, x_0, t, s)
    if not changes:
        return moved
    if len(changes) == 1:
        weights = [0.5]  # for a single change the published rule is this and not the exact weight
    else:
        powers = torch.tensor(places, dtype=torch.float64) ** torch.arange(len(places))[:, None]
        weights = torch.linalg.solve(powers, _phis(h, len(places))).tolist()
    combined = sum(w * change for w, change in zip(weights, changes, strict=True))
    return moved - s.alpha * math.expm1(-h) * combined


def _phis(h: float, count: int) -> Tensor:
    """The right-hand sides n! phi_{n+1} / B of the conditions for orders 1 .. count."""
    base = math.expm1(-h)
    phi, sides = base / -h - 1, []
    for n in range(1, count + 1):
        sides.append(phi * math.factorial(n) / base)
        phi = phi / -h - 1 / math.factorial(n + 1)
    return torch.tensor(sides, dtype=torch.float64)


class Extrapolation:
    """An estimate of x_0 for the middle of a step, from the estimates at its beginning and one
    step before, linear in log SNR."""

    def __init__(self) -> None:
        self._last: tuple[Level, Tensor] | None = None

    def __call__(self, x_0: Tensor, t: Level, s: Level) -> Tensor:
        last, self._last = self._last, (t, x_0)
        if last is None:
            return x_0
        before, earlier = last
        r = (t.log_snr - before.log_snr) / (s.log_snr - t.log_snr)
        return x_0 + (x_0 - earlier) / (2 * r)


def times_between(schedule: Schedule, path: list[Level]) -> dict[float, Tensor]:
    """By the time at which a step begins, NODES times from its end to its beginning, even in log
    SNR; they mean nothing where that is infinite, which no correction asks about."""
    ends = torch.tensor([[s.log_snr, t.log_snr] for t, s in pairwise(path)], dtype=torch.float64)
    share = torch.linspace(0, 1, NODES, dtype=torch.float64)
    even = ends[:, :1] + share * (ends[:, 1:] - ends[:, :1])
    return dict(zip([level.t.item() for level in path[:-1]], schedule.t(even), strict=True))


def lagrange(at: list[float], j: int, times: Tensor) -> Tensor:
    """The polynomial that is 1 at the j-th of these times and 0 at the others."""
    value = torch.ones_like(times)
    for i, other in enumerate(at):
        if i != j:
            value = value * (times - other) / (at[j] - other)
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
