"""Solvers in log SNR: DPM-Solver, DPM-Solver++ and UniPC.

Those of several steps remember earlier estimates of x_0, at no further cost. Their first step has
nothing to remember and is DDIM's (or DDPM's); the step to time 0 is too.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

from harness.diffusion.levels import Level
from harness.diffusion.schedules import Schedule
from harness.diffusion.stepping import Denoise, DrawNoise, along, posterior, sampler, walk
from harness.lazy import torch
from harness.registry import Between

if TYPE_CHECKING:
    from torch import Tensor


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
