"""What samplers are made of: the walk over the times, and the formulae of a step.

A step goes from level t to the earlier level s.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import update_wrapper
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from harness.diffusion.levels import Level, levels
from harness.diffusion.schedules import Schedule
from harness.errors import BadOption

if TYPE_CHECKING:
    from torch import Tensor

Denoise = Callable[["Tensor", "Tensor"], "Tensor"]
DrawNoise = Callable[[], "Tensor"]
Step = Callable[["Tensor", "Tensor", Level, Level], "Tensor"]


@dataclass(eq=False)
class Sampler:
    """A sampling function and what is known of it: its formula, how many network evaluations it
    makes, its order of convergence, and where it can begin."""

    function: Callable[..., Tensor]
    formula: str
    order: int | None  # of convergence, where it is deterministic and that is known
    like: str  # the sampler whose first step is its own, having nothing to remember
    evaluations: Callable[[int], int]  # of so many steps, the last of them to time 0
    from_signal: bool

    def __post_init__(self) -> None:
        update_wrapper(self, self.function)

    def check_start(self, log_snr: float) -> None:
        """Raises BadOption where this sampler cannot begin at this log SNR."""
        if self.from_signal and log_snr == -math.inf:
            raise BadOption(
                f"sampler '{self.function.__name__}' divides by the signal rate, and no signal "
                "is left at its first time (zero terminal SNR). Use spacing 'leading', which "
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
    evaluations: Callable[[int], int] = lambda steps: steps,
    from_signal: bool = False,
) -> Callable[[Callable[..., Tensor]], Sampler]:
    """Says of a sampling function its formula for the page; the order at which it converges and
    the sampler that its first step is `like`, both of which `harness verify` then checks; how many
    evaluations its steps make, if not one each, which must not fall as the steps grow; and with
    `from_signal` that it cannot begin where no signal is left."""
    return lambda function: Sampler(function, formula, order, like, evaluations, from_signal)


def walk(denoise: Denoise, schedule: Schedule, x: Tensor, times: Tensor, step: Step) -> Tensor:
    """What all samplers have in common: at each time an estimate of x_0, which at the end is the
    answer; else `step(x, x_0, t, s)` -> x at the next time."""
    for t, s in pairwise(levels(schedule, times)):
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
