"""The rates of a schedule at single times, as numbers that samplers compute with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from harness.diffusion.schedules import Schedule
from harness.lazy import torch


@dataclass(frozen=True)
class Level:
    """A time and its rates as float64 numbers: so they neither change the dtype of what they
    multiply nor wait for its device."""

    t: torch.Tensor  # 0-d
    alpha: float
    sigma: float
    log_snr: float

    @property
    def ratio(self) -> float:
        """sigma / alpha: x / alpha moves along a straight line in it where the noise is known."""
        return self.sigma / self.alpha

    @property
    def log_abar(self) -> float:
        """log alpha^2, exact where alpha is close to 1."""
        if self.log_snr < 0:
            return self.log_snr - math.log1p(math.exp(self.log_snr))
        return -math.log1p(math.exp(-self.log_snr))


def levels(schedule: Schedule, times: torch.Tensor) -> list[Level]:
    """The level at each of these times, [N]."""
    exact = times.double()
    columns = schedule.alpha(exact), schedule.sigma(exact), schedule.log_snr(exact)
    rows = torch.stack(columns, dim=1).tolist()
    return [Level(t, *row) for t, row in zip(times, rows, strict=True)]


def levels_at(schedule: Schedule, log_snrs: Mapping[float, float]) -> dict[float, Level]:
    """The levels of these log SNRs, each by the name it has among them: found at once, since the
    inverse of a schedule may take as long for one as for many."""
    times = schedule.t(torch.tensor([*log_snrs.values()], dtype=torch.float64))
    return dict(zip(log_snrs, levels(schedule, times), strict=True))


def rates(schedule: Schedule, t: torch.Tensor) -> tuple[float, float]:
    """alpha and sigma at one time (0-d), as the numbers of its Level."""
    t = t.double()
    return float(schedule.alpha(t)), float(schedule.sigma(t))
