"""Solvers in log SNR: DPM-Solver, DPM-Solver++ and UniPC.

Those of several steps remember earlier estimates of x_0, at no further cost. Their first step has
nothing to remember and is DDIM's (or DDPM's). The step to time 0 is DDIM's in all of them.

Shapes: x and estimates x_0 are shaped alike, [N, ...], batch first.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated

from harness.diffusion.levels import Level
from harness.diffusion.schedules import Schedule
from harness.diffusion.stepping import (
    Denoise,
    DrawNoise,
    along,
    leverage,
    middles,
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
    formula="a DDIM step to the middle in log SNR, whose ε̂ is that of the whole step; two "
    "evaluations a step but the last (DPM-Solver-2; Lu et al. 2022a)",
    order=2,
    evaluations=lambda steps: 2 * steps - 1,
    from_signal=True,
)
def dpm_solver_2(
    denoise: Denoise, schedule: Schedule, x: Tensor, times: Tensor, draw_noise: DrawNoise
) -> Tensor:
    """DPM-Solver-2 (Lu et al. 2022a, Algorithm 1 with r_1 = 1/2)."""
    between = middles(schedule, times)

    def step(x: Tensor, x_0: Tensor, t: Level, s: Level) -> Tensor:
        middle = between[t.t.item()]
        there = along(x, x_0, t, middle)
        change = noise_in(there, denoise(there, middle.t), middle) - noise_in(x, x_0, t)
        return along(x, x_0, t, s) + change * leverage(t, s)

    return walk(denoise, schedule, x, times, step)


@sampler(
    formula="DDIM's step towards x̂₀ + (x̂₀ − previous x̂₀)/(2r), r the ratio of the last step to "
    "this one in log SNR (DPM-Solver++ 2M; Lu et al. 2022b)",
    order=2,
    like="ddim",
)
def dpmpp_2m(
    denoise: Denoise, schedule: Schedule, x: Tensor, times: Tensor, draw_noise: DrawNoise
) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022b, Algorithm 2).

    DDIM's step towards an x_0 that is carried on from the last two estimates, along log SNR.
    """
    carry_on = Extrapolation()

    def step(x: Tensor, x_0: Tensor, t: Level, s: Level) -> Tensor:
        return along(x, carry_on(x_0, t, s), t, s)

    return walk(denoise, schedule, x, times, step)


@sampler(formula="DDPM's step from the same extrapolated x̂₀ (Lu et al. 2022b)", like="ddpm")
def dpmpp_2m_sde(
    denoise: Denoise, schedule: Schedule, x: Tensor, times: Tensor, draw_noise: DrawNoise
) -> Tensor:
    """SDE-DPM-Solver++(2M) in its midpoint form (Lu et al. 2022b, eq. 18).

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
    formula="DDPM's step with the x̂₀ of its middle in log SNR, to which a DDPM step leads; both "
    "noises are of one Brownian path; two evaluations a step but the last (SDE-DPM-Solver++; Lu et "
    "al. 2022b)",
    evaluations=lambda steps: 2 * steps - 1,
    draws=lambda: 2,
    from_signal=True,
)
def dpmpp_sde(
    denoise: Denoise, schedule: Schedule, x: Tensor, times: Tensor, draw_noise: DrawNoise
) -> Tensor:
    """SDE-DPM-Solver++ in single steps of order 2, r = 1/2 (after Lu et al. 2022b by k-diffusion).

    The noise of a step is an integral over Brownian motion whose variance grows as the SNR. That of
    the whole step is therefore the noise of its first half, with the share 1 / (1 + e^(h/2)) of the
    variance, h being the step in log SNR, and an independent one for the rest.
    """
    between = middles(schedule, times)

    def step(x: Tensor, x_0: Tensor, t: Level, s: Level) -> Tensor:
        first, second = draw_noise(), draw_noise()
        middle = between[t.t.item()]
        mean, spread, _ = posterior(x, x_0, t, middle)
        x_0_there = denoise(mean + spread * first, middle.t)
        mean, spread, _ = posterior(x, x_0_there, t, s)
        share = 1 / (1 + math.exp((s.log_snr - t.log_snr) / 2))
        return mean + spread * (math.sqrt(share) * first + math.sqrt(1 - share) * second)

    return walk(denoise, schedule, x, times, step)


@sampler(
    formula="DDIM's step along the parabola through the last three x̂₀ in log SNR, integrated "
    "exactly (DPM-Solver++ 3M; Lu et al. 2022b)",
    order=3,
    like="ddim",
)
def dpmpp_3m(
    denoise: Denoise,
    schedule: Schedule,
    x: Tensor,
    times: Tensor,
    draw_noise: DrawNoise,
    *,
    halved: bool = False,
) -> Tensor:
    """DPM-Solver++(3M) (Lu et al. 2022b, eq. 14 with two derivatives).

    `halved` counts half of the curvature, as the authors' code and those made after it do: it then
    converges with order 2.
    """
    curve = Curve(halved)

    def step(x: Tensor, x_0: Tensor, t: Level, s: Level) -> Tensor:
        h = (s.log_snr - t.log_snr) / 2
        return along(x, x_0, t, s) + s.alpha * curve(x_0, t, s, h)

    return walk(denoise, schedule, x, times, step)


@sampler(
    formula="DDPM's step along the parabola through the last three x̂₀ in log SNR, integrated "
    "exactly (SDE-DPM-Solver++ 3M; Lu et al. 2022b)",
    like="ddpm",
)
def dpmpp_3m_sde(
    denoise: Denoise,
    schedule: Schedule,
    x: Tensor,
    times: Tensor,
    draw_noise: DrawNoise,
    *,
    halved: bool = False,
) -> Tensor:
    """SDE-DPM-Solver++(3M) (k-diffusion, after Lu et al. 2022b); `halved` as for `dpmpp_3m`."""
    curve = Curve(halved)

    def step(x: Tensor, x_0: Tensor, t: Level, s: Level) -> Tensor:
        mean, spread, _ = posterior(x, x_0, t, s)
        h = s.log_snr - t.log_snr  # noise makes x forget twice as fast
        return mean + s.alpha * curve(x_0, t, s, h) + spread * draw_noise()

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


class Curve:
    """What the slope and the curvature of the estimates of x_0 add to a step that takes the newest
    for all of it. They are those of the parabola through the last three, in log SNR."""

    def __init__(self, halved: bool) -> None:
        self._known: list[tuple[Level, Tensor]] = []  # newest first
        self._curvature = 1 if halved else 2  # of the second difference

    def __call__(self, x_0: Tensor, t: Level, s: Level, h: float) -> Tensor | float:
        """The integral of e^(u - h) times what they add at u, from 0 to h along the step."""
        self._known = [(t, x_0), *self._known[:2]]
        points = list(pairwise(self._known))
        ratios = [(n.log_snr - o.log_snr) / (s.log_snr - t.log_snr) for (n, _), (o, _) in points]
        slopes = [(new - old) / r for ((_, new), (_, old)), r in zip(points, ratios, strict=True)]
        phi = math.expm1(-h) / h + 1
        if len(slopes) < 2:
            return phi * slopes[0] if slopes else 0.0
        bend = (slopes[0] - slopes[1]) / (ratios[0] + ratios[1])
        slope = slopes[0] + ratios[0] * bend
        return phi * slope + self._curvature * (0.5 - phi / h) * bend
