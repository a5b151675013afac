"""Samplers: from pure noise to images.

Every sampler is one function with the same signature:

    sampler(denoise, schedule, x, times, draw_noise, **options) -> x_0

denoise(x, t)  estimates the clean image x_0; one call is one network evaluation
x              noise at times[0], any shape, batch first; its dtype is kept
times          falling; where they end at 0 the last step returns the estimate of x_0, otherwise
               x at the last time is returned
draw_noise()   fresh standard normal noise shaped like x, called at most once per step

A step goes from level t to the earlier level s. What the network predicts, clipping, devices,
progress and random state are settled outside. To add a sampler, write the function, give `walk`
its step, and name it in SAMPLERS; `@sampler` says what must be known of it beforehand.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import update_wrapper
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

from harness.diffusion.schedules import Level, Schedule, levels
from harness.errors import BadOption
from harness.lazy import torch
from harness.registry import Between, Registry

if TYPE_CHECKING:
    from torch import Tensor

Denoise = Callable[["Tensor", "Tensor"], "Tensor"]
DrawNoise = Callable[[], "Tensor"]
Step = Callable[["Tensor", "Tensor", Level, Level], "Tensor"]


class Sampler:
    """A sampling function, how many network evaluations it makes, and where it can begin."""

    def __init__(
        self,
        function: Callable[..., Tensor],
        evaluations: Callable[[int], int],
        from_signal: bool,
    ):
        self.evaluations = evaluations  # of so many steps, the last of them to time 0
        self.from_signal = from_signal
        self._function = function
        update_wrapper(self, function)

    def check_start(self, log_snr: float) -> None:
        """Raises BadOption where this sampler cannot begin at this log SNR."""
        if self.from_signal and log_snr == -math.inf:
            raise BadOption(
                f"sampler '{self._function.__name__}' divides by the signal rate, and no signal "
                "is left at its first time (zero terminal SNR). Spacing 'leading' begins later; "
                "ddim and dpmpp_2m begin anywhere."
            )

    def __call__(
        self,
        denoise: Denoise,
        schedule: Schedule,
        x: Tensor,
        times: Tensor,
        draw_noise: DrawNoise,
        **options: Any,
    ) -> Tensor:
        self.check_start(float(schedule.log_snr(times[0].double())))
        return self._function(denoise, schedule, x, times, draw_noise, **options)


def sampler(
    *, evaluations: Callable[[int], int] = lambda steps: steps, from_signal: bool = False
) -> Callable[[Callable[..., Tensor]], Sampler]:
    """Says of a sampling function how many evaluations its steps make, if not one each, and with
    `from_signal` that it cannot begin where no signal is left."""
    return lambda function: Sampler(function, evaluations, from_signal)


def evaluations(name: str, steps: int) -> int:
    """How often the sampler of this name evaluates the network in so many steps down to 0; one of
    another package that does not say is taken to do so once a step."""
    of: Callable[[int], int] = getattr(SAMPLERS[name], "evaluations", int)
    return of(steps)


def steps_within(name: str, budget: int) -> int:
    """The most steps that this sampler makes with at most so many network evaluations; at least
    one."""
    return max((n for n in range(1, budget + 1) if evaluations(name, n) <= budget), default=1)


def walk(denoise: Denoise, schedule: Schedule, x: Tensor, times: Tensor, step: Step) -> Tensor:
    """What all samplers have in common: at each time an estimate of x_0, which at the end is the
    answer; else `step(x, x_0, t, s)` -> x at the next time."""
    for t, s in pairwise(levels(schedule, times)):
        x_0 = denoise(x, t.t)
        if s.t == 0:
            return x_0
        x = step(x, x_0, t, s)
    return x


# Samplers of one step: the next x depends on the last one alone.


@sampler()
def ddim(
    denoise: Denoise,
    schedule: Schedule,
    x: Tensor,
    times: Tensor,
    draw_noise: DrawNoise,
    *,
    eta: Annotated[float, Between(0, 1)] = 0.0,
) -> Tensor:
    """DDIM (Song et al. 2021, eq. 12 and 16): eta = 0 is deterministic, eta = 1 is DDPM."""

    def step(x: Tensor, x_0: Tensor, t: Level, s: Level) -> Tensor:
        fresh = eta * s.sigma / t.sigma * math.sqrt(jump_variance(t, s))
        # sqrt(sigma_s^2 - fresh^2), without the loss of digits where hardly any is kept.
        share = eta * (t.alpha * s.sigma) / (s.alpha * t.sigma)
        kept = s.sigma * math.sqrt(1 - eta**2 + share**2)
        x = s.alpha * x_0 + kept * noise_in(x, x_0, t)
        return x + fresh * draw_noise() if eta else x

    return walk(denoise, schedule, x, times, step)


@sampler()
def ddpm(
    denoise: Denoise, schedule: Schedule, x: Tensor, times: Tensor, draw_noise: DrawNoise
) -> Tensor:
    """DDPM (Ho et al. 2020, Algorithm 2) with the posterior's variance, on any subset of times."""

    def step(x: Tensor, x_0: Tensor, t: Level, s: Level) -> Tensor:
        mean, spread, _ = posterior(x, x_0, t, s)
        return mean + spread * draw_noise()

    return walk(denoise, schedule, x, times, step)


@sampler()
def ddpm_large(
    denoise: Denoise,
    schedule: Schedule,
    x: Tensor,
    times: Tensor,
    draw_noise: DrawNoise,
    *,
    last_noise: bool = False,
) -> Tensor:
    """DDPM with the forward step's variance (`fixed_large`; sigma-hat in Song et al. 2021).

    With `last_noise` the step to time 0 adds its noise too, as some implementations do.
    """

    def step(x: Tensor, x_0: Tensor, t: Level, s: Level) -> Tensor:
        mean, _, spread = posterior(x, x_0, t, s)
        return mean + spread * draw_noise()

    x = walk(denoise, schedule, x, times, step)
    if last_noise and times[-1] == 0:
        [last] = levels(schedule, times[-2:-1])
        x = x + last.sigma * draw_noise()
    return x


@sampler(from_signal=True)
def euler(
    denoise: Denoise, schedule: Schedule, x: Tensor, times: Tensor, draw_noise: DrawNoise
) -> Tensor:
    """Euler's method on d(x / alpha) / d(sigma / alpha) = eps (Song et al. 2021, eq. 14).

    DDIM in other variables, and Algorithm 1 of Karras et al. 2022 without its correction.
    """

    return walk(denoise, schedule, x, times, along)


@sampler(evaluations=lambda steps: 2 * steps - 1, from_signal=True)
def heun(
    denoise: Denoise, schedule: Schedule, x: Tensor, times: Tensor, draw_noise: DrawNoise
) -> Tensor:
    """Heun's method of order 2 in the same variables (Karras et al. 2022, Algorithm 1).

    A step evaluates the network again where it would arrive; the step to time 0 does not.
    """

    def step(x: Tensor, x_0: Tensor, t: Level, s: Level) -> Tensor:
        there = along(x, x_0, t, s)
        noise_there = noise_in(there, denoise(there, s.t), s)
        return there + (noise_there - noise_in(x, x_0, t)) / 2 * leverage(t, s)

    return walk(denoise, schedule, x, times, step)


# Samplers of several steps: they remember what earlier evaluations said, at no further cost. The
# first step has nothing to remember and is DDIM's (or DDPM's); the step to time 0 is too.


@sampler(from_signal=True)
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


@sampler()
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


@sampler()
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


@sampler()
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


@sampler()
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


@sampler()
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
    x: Tensor,
    known: list[tuple[Level, Tensor]],
    s: Level,
    arrived: Tensor | None = None,
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


# The formulae that several samplers are made of.


def noise_in(x: Tensor, x_0: Tensor, t: Level) -> Tensor:
    """The noise eps that x holds if x_0 is the image."""
    return (x - t.alpha * x_0) / t.sigma


def along(x: Tensor, x_0: Tensor, t: Level, s: Level) -> Tensor:
    """x at s if both x_0 and the noise stay what they are at t: the exact step of DDIM."""
    return s.alpha * x_0 + s.sigma * noise_in(x, x_0, t)


def leverage(t: Level, s: Level) -> float:
    """What one more unit of noise on the way from t to s than there is at t adds to x at s.

    As x / alpha moves by the noise times d(sigma / alpha). Corrections are added to the step of
    `along` this way, since x / alpha itself has no digits left where alpha is small.
    """
    return s.alpha * (s.ratio - t.ratio)


def posterior(x: Tensor, x_0: Tensor, t: Level, s: Level) -> tuple[Tensor, float, float]:
    """The mean and the standard deviation of q(x_s | x_t, x_0), and beside it that of the forward
    step (Ho et al. 2020, eq. 7 and 2, with beta for the jump from s to t)."""
    beta = jump_variance(t, s)
    kept = t.alpha / s.alpha * (s.sigma / t.sigma) ** 2
    mean = (s.alpha * beta / t.sigma**2) * x_0 + kept * x
    return mean, s.sigma / t.sigma * math.sqrt(beta), math.sqrt(beta)


def jump_variance(t: Level, s: Level) -> float:
    """1 - abar_t / abar_s: beta of one jump from s to t, without the loss of digits that
    subtracting two numbers close to 1 would bring."""
    return -math.expm1(t.log_abar - s.log_abar)


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


SAMPLERS = Registry(
    "sampler",
    {
        "ddim": ddim,
        "ddpm": ddpm,
        "ddpm_large": ddpm_large,
        "euler": euler,
        "heun": heun,
        "ab2": ab2,
        "ipndm": ipndm,
        "deis": deis,
        "dpmpp_2m": dpmpp_2m,
        "dpmpp_2m_sde": dpmpp_2m_sde,
        "unipc": unipc,
    },
    given=frozenset({"denoise", "schedule", "x", "times", "draw_noise"}),
)
