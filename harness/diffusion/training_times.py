"""At which times a network is trained: a density of t, apart from the schedule.

A density is its quantile function: u drawn evenly from [0, 1] gives the time t below which the
share u of all times lies, 0 being the image and 1 the noise. To add one, write the function and
name it in TIME_DENSITIES.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

from harness.diffusion.schedules import Schedule
from harness.lazy import torch
from harness.registry import Between, Registry, about

STEEPEST_MODE = 1.75  # 2 / (pi - 2) is 1.7519: beyond it the quantiles would not rise


@about(formula="t = u, u uniform on (0, 1] (Ho et al. 2020)")
def uniform(u: torch.Tensor) -> torch.Tensor:
    """All times alike (Ho et al. 2020, Algorithm 1)."""
    return u


@about(
    formula="log(t/(1 − t)) ~ N(mean, std²), mean = 0 and std = 1 unless said otherwise (Esser et "
    "al. 2024)"
)
def logit_normal(
    u: torch.Tensor,
    *,
    mean: Annotated[float, Between(-5, 5)] = 0.0,
    std: Annotated[float, Between(0.1, 5)] = 1.0,
) -> torch.Tensor:
    """The logit of t is normally distributed (Esser et al. 2024, SD3, eq. 19).

    Mostly the middle times; a mean above 0 prefers noise.
    """
    return torch.sigmoid(mean + std * torch.special.ndtri(u))


@about(
    formula="t = 1 − u − s (cos²(πu/2) − 1 + u), u uniform on [0, 1), s = scale = 1.29 unless said "
    "otherwise (Esser et al. 2024)"
)
def mode(
    u: torch.Tensor, *, scale: Annotated[float, Between(-1, STEEPEST_MODE)] = 1.29
) -> torch.Tensor:
    """A density with its mode in the middle (Esser et al. 2024, SD3, eq. 20).

    At both ends where scale is below 0; even where it is 0.
    """
    return u + scale * (u - torch.sin(math.pi / 2 * u) ** 2)


@about(formula="t = 1 − 1/(tan(πu/2) + 1), u uniform on (0, 1] (Esser et al. 2024)")
def cosmap(u: torch.Tensor) -> torch.Tensor:
    """Under `flow`, the log SNRs of a cosine schedule (Esser et al. 2024, SD3, eq. 21)."""
    sine, cosine = torch.sin(math.pi / 2 * u), torch.sin(math.pi / 2 * (1 - u))
    return sine / (sine + cosine)


TIME_DENSITIES = Registry(
    "time_density",
    {"uniform": uniform, "logit_normal": logit_normal, "mode": mode, "cosmap": cosmap},
    given=("u",),
    contract="""A function:

    time_density(u, *, option=default) -> t, the quantiles of the training times at u

u is a float tensor in [0, 1] of any shape; so is the answer, which rises with u, is above 0 where u
is, and keeps its dtype.""",
)


def training_times(
    schedule: Schedule,
    u: torch.Tensor,
    density: Callable[[torch.Tensor], torch.Tensor] = uniform,
) -> torch.Tensor:
    """Training times from u uniform in [0, 1): in (0, 1], and rounded up to {1..T}/T for a table
    (Ho et al. 2020, Algorithm 1, line 3)."""
    if (steps := schedule.table_steps) is None:
        return density(1 - u)
    return ((density(u) * steps).floor().clamp(max=steps - 1) + 1) / steps
