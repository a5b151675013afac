"""What samplers are made of: the walk over the times, and the formulae of a step.

A step goes from level t to the earlier level s.

Shapes: x, estimates x_0 and noise are shaped alike, [N, ...], batch first; times are [steps + 1].
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, update_wrapper
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from harness.diffusion.levels import Level, levels, levels_at
from harness.diffusion.schedules import Schedule
from harness.errors import BadOption

if TYPE_CHECKING:
    from torch import Tensor

Denoise = Callable[["Tensor", "Tensor"], "Tensor"]
DrawNoise = Callable[[], "Tensor"]
Step = Callable[["Tensor", "Tensor", Level, Level], "Tensor"]
Before = Callable[["Tensor", Level], tuple["Tensor", Level]]


@dataclass(eq=False)
class Sampler:
    """A sampling function and what is known of it: its formula, how many network evaluations and
    draws of noise it makes, its order of convergence, and where it can begin."""

    function: Callable[..., Tensor]
    formula: str
    order: int | None  # of convergence, where it is deterministic and that is known
    like: str  # the sampler whose first step is its own, having nothing to remember
    # Of so many steps, the last of them to time 0; the options that it names are passed by keyword.
    evaluations: Callable[..., int]
    draws: Callable[..., int]  # of fresh noise, the most in a step; of the options that it names
    from_signal: bool

    def __post_init__(self) -> None:
        update_wrapper(self, self.function)

    def check_start(self, log_snr: float) -> None:
        """Raises BadOption where this sampler cannot begin at this log SNR."""
        if self.from_signal and log_snr == -math.inf:
            raise BadOption(
                f"sampler '{self.function.__name__}' divides by the signal rate or halves steps of "
                "log SNR, and no signal is left at its first time (zero terminal SNR): log SNR is "
                "infinite there. Use spacing 'leading', which "
                "begins later, or sampler 'ddim' or 'dpmpp_2m', which begin anywhere."
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
        return self.function(denoise, schedule, x, times, draw_noise, **options)


def sampler(
    *,
    formula: str = "",
    order: int | None = None,
    like: str = "",
    evaluations: Callable[..., int] = lambda steps: steps,
    draws: Callable[..., int] = lambda: 1,
    from_signal: bool = False,
) -> Callable[[Callable[..., Tensor]], Sampler]:
    """Says of a sampling function its formula for the page; the order at which it converges and
    the sampler that its first step is `like`, both of which `harness verify` then checks; how many
    evaluations its steps make, if not one each, which must not fall as the steps grow, and how
    often a step draws noise, if more than once: functions that may name options of the sampler;
    and with `from_signal` that it cannot begin where no signal is left."""
    return lambda function: Sampler(function, formula, order, like, evaluations, draws, from_signal)


@cache
def options_named_by(count: Callable[..., int]) -> frozenset[str]:
    """The options of a sampler that its `evaluations` or `draws` depend on."""
    found = inspect.signature(count).parameters.values()
    return frozenset(one.name for one in found if one.default is not one.empty)


def counted(count: Callable[..., int], *given: int, **options: Any) -> int:
    """What `evaluations` or `draws` say of a sampler with these options."""
    named = options_named_by(count)
    return count(*given, **{name: value for name, value in options.items() if name in named})


def draws(sampler: Callable[..., Tensor], **options: Any) -> int:
    """The most fresh noises that a sampler draws in a step; one, where it does not say."""
    return counted(getattr(sampler, "draws", lambda: 1), **options)


def walk(
    denoise: Denoise,
    schedule: Schedule,
    x: Tensor,
    times: Tensor,
    step: Step,
    before: Before = lambda x, t: (x, t),
) -> Tensor:
    """What all samplers have in common: at each time an estimate of x_0, which at the end is the
    answer; else `step(x, x_0, t, s)` -> x at the next time. `before(x, t)` -> the x and the level
    that the step begins from."""
    for t, s in pairwise(levels(schedule, times)):
        x, t = before(x, t)  # noqa: PLW2901
        x_0 = denoise(x, t.t)
        if s.t == 0:
            return x_0
        x = step(x, x_0, t, s)
    return x


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


def middles(schedule: Schedule, times: Tensor) -> dict[float, Level]:
    """The middle of each step in log SNR, by the time at which the step begins."""
    return levels_at(
        schedule,
        {t.t.item(): (t.log_snr + s.log_snr) / 2 for t, s in pairwise(levels(schedule, times))},
    )


def ddim_step(
    x: Tensor, x_0: Tensor, t: Level, s: Level, eta: float, draw_noise: DrawNoise
) -> Tensor:
    """DDIM's step with a share eta of DDPM's fresh noise (Song et al. 2021a, eq. 12 and 16)."""
    fresh = eta * s.sigma / t.sigma * math.sqrt(jump_variance(t, s))
    # sqrt(sigma_s^2 - fresh^2), without the loss of digits where hardly any is kept.
    share = eta * (t.alpha * s.sigma) / (s.alpha * t.sigma)
    kept = s.sigma * math.sqrt(1 - eta**2 + share**2)
    x = s.alpha * x_0 + kept * noise_in(x, x_0, t)
    return x + fresh * draw_noise() if eta else x


def heun_step(denoise: Denoise, x: Tensor, x_0: Tensor, t: Level, s: Level) -> Tensor:
    """Heun's step from t to s, which evaluates the network again where it would arrive (Karras et
    al. 2022, Algorithm 1)."""
    there = along(x, x_0, t, s)
    noise_there = noise_in(there, denoise(there, s.t), s)
    return there + (noise_there - noise_in(x, x_0, t)) / 2 * leverage(t, s)


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
