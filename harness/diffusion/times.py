"""Step spacings: at which times a sampler evaluates the network.

A spacing is a function of the schedule and the number of steps that returns the times t_0 > t_1
> ... > t_{N-1} before the end; 0 follows. N asked is N done. The choice is the commonest reason
that published figures cannot be reproduced, so every row of results names it. To add one, write
the rule under `@spacing(...)` and name it in SPACINGS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import update_wrapper
from typing import Any

from harness.diffusion.schedules import Schedule, T
from harness.errors import BadOption
from harness.lazy import torch
from harness.registry import Registry

Rule = Callable[..., Sequence[float]]


class Spacing:
    """A rule for times, and the numbers of steps it can make.

    Called with (schedule, steps, dtype=float64, **options) it gives a tensor [steps + 1] that
    falls from the first time to 0.
    """

    def __init__(self, rule: Rule, fewest: int, most: int | None):
        self.fewest, self.most = fewest, most
        self._rule = rule
        update_wrapper(self, rule)

    def check_steps(self, steps: int) -> None:
        """Raises BadOption where this spacing has no such number of steps."""
        name = self._rule.__name__
        if steps < self.fewest:
            raise BadOption(f"spacing '{name}' needs at least {self.fewest} steps, not {steps}")
        if self.most is not None and steps > self.most:
            raise BadOption(
                f"spacing '{name}' picks from a table of {self.most} times: {steps} steps are more "
                "than it has. Spacing 'uniform' takes any number."
            )

    def __call__(
        self, schedule: Schedule, steps: int, dtype: torch.dtype | None = None, **options: Any
    ) -> torch.Tensor:
        self.check_steps(steps)
        times = [*self._rule(schedule, steps, **options), 0.0]
        return torch.tensor(times, dtype=dtype or torch.float64)


def spacing(*, fewest: int = 1, most: int | None = None) -> Callable[[Rule], Spacing]:
    """Makes a rule a spacing that refuses step counts outside these bounds."""
    return lambda rule: Spacing(rule, fewest, most)


@spacing()
def uniform(schedule: Schedule, steps: int) -> Sequence[float]:
    """Even steps from t = 1 to 0."""
    return [1 - k / steps for k in range(steps)]


@spacing(fewest=2, most=T)
def leading(schedule: Schedule, steps: int) -> Sequence[float]:
    """Every floor(T/N)-th table entry from the first: the DDPM and DDIM code; never starts at T.

    From N = 501 on it starts below t = 0.5.
    """
    return [((T // steps) * (steps - 1 - k) + 1) / T for k in range(steps)]


@spacing(most=T)
def trailing(schedule: Schedule, steps: int) -> Sequence[float]:
    """Every (T/N)-th table entry from the last, rounded (Lin et al. 2024, table 2)."""
    # Fractions round their exact value half to even; floats would round their own error.
    return [round(Fraction(T * (steps - k), steps)) / T for k in range(steps)]


@spacing(most=T)
def linspace(schedule: Schedule, steps: int) -> Sequence[float]:
    """Even steps from the last table entry to the first, both included, rounded."""
    if steps == 1:
        return [1.0]
    return [round(T - Fraction((T - 1) * k, steps - 1)) / T for k in range(steps)]


@spacing(fewest=2, most=T)
def quadratic(schedule: Schedule, steps: int) -> Sequence[float]:
    """Squares of even steps, dense near the image, from t = 0.801 (Song et al. 2021, CIFAR-10).

    Not rounded to the table, where small steps would collide.
    """
    root = (0.8 * T) ** 0.5
    return [((root * (1 - k / (steps - 1))) ** 2 + 1) / T for k in range(steps)]


SPACINGS = Registry(
    "spacing",
    {
        "uniform": uniform,
        "leading": leading,
        "trailing": trailing,
        "linspace": linspace,
        "quadratic": quadratic,
    },
    given=frozenset({"schedule", "steps", "dtype"}),
)
