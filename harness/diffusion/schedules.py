"""Noise schedules: how much signal is left at time t, from 0 (image) to 1 (noise).

A noisy image is x_t = alpha(t) x_0 + sigma(t) eps with alpha^2 + sigma^2 = 1, so one number per
time says everything: the log signal-to-noise ratio, log(alpha^2 / sigma^2). The discrete papers
write abar for alpha^2, the product of 1 - beta. To add a schedule, write one frozen dataclass
with `log_snr` and name it in SCHEDULES.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar

from harness.errors import BadOption
from harness.lazy import torch
from harness.registry import Between, Registry

T = 1000  # steps of the discrete schedules


class Schedule(ABC):
    """A schedule answers one question, log_snr(t); alpha and sigma follow from it.

    Times are float tensors in [0, 1] of any shape, float32 or float64; answers have the same
    shape and dtype. They are worked out in float64, since the differences of nearby rates that
    samplers take would lose their digits in float32.
    """

    table_steps: ClassVar[int | None] = None  # T where the schedule is a table of T steps

    @abstractmethod
    def log_snr(self, t: torch.Tensor) -> torch.Tensor:
        """log(alpha^2 / sigma^2) at each time; falls strictly as t goes from 0 to 1."""

    def alpha(self, t: torch.Tensor) -> torch.Tensor:
        """The signal rate."""
        return torch.sigmoid(self.log_snr(t.double())).sqrt().to(t.dtype)

    def sigma(self, t: torch.Tensor) -> torch.Tensor:
        """The noise rate."""
        return torch.sigmoid(-self.log_snr(t.double())).sqrt().to(t.dtype)


class DiscreteSchedule(Schedule):
    """A table of T noise rates beta, exact at t = i / T; between two entries log abar is
    interpolated. abar(0) = 1, so log SNR is infinite there."""

    table_steps = T

    @abstractmethod
    def betas(self) -> torch.Tensor:
        """beta_1 .. beta_T as float64 [T]."""

    @cached_property
    def _log_abar(self) -> torch.Tensor:
        log_abar = torch.log1p(-self.betas()).cumsum(0)
        return torch.cat([torch.zeros(1, dtype=torch.float64), log_abar])

    def log_snr(self, t: torch.Tensor) -> torch.Tensor:
        table = self._log_abar.to(t.device)
        place = t.double() * T
        below = place.floor().long().clamp(0, T - 1)
        log_abar = torch.lerp(table[below], table[below + 1], place - below)
        # expm1 keeps sigma^2 = 1 - abar exact where abar is close to 1.
        return (log_abar - torch.log(-torch.expm1(log_abar))).to(t.dtype)


@dataclass(frozen=True)
class Linear(DiscreteSchedule):
    """beta grows evenly over 1,000 steps (Ho et al. 2020, section 4)."""

    beta_start: Annotated[float, Between(1e-6, 0.999)] = 1e-4
    beta_end: Annotated[float, Between(1e-6, 0.999)] = 0.02

    def betas(self) -> torch.Tensor:
        return torch.linspace(self.beta_start, self.beta_end, T, dtype=torch.float64)


@dataclass(frozen=True)
class Cosine(Schedule):
    """The angle of (alpha, sigma) grows evenly between two signal rates (Keras DDIM example).

    Its signal never reaches 1, nor 0: at t = 0 it is max_signal. Not the schedule of the paper,
    which is `cosine_discrete`.
    """

    max_signal: Annotated[float, Between(0, 1)] = 0.95
    min_signal: Annotated[float, Between(0, 1)] = 0.02

    def __post_init__(self) -> None:
        if not 0 < self.min_signal < self.max_signal <= 1:
            raise BadOption(
                "schedule 'cosine' needs 0 < min_signal < max_signal <= 1, not "
                f"min_signal {self.min_signal:g} and max_signal {self.max_signal:g}"
            )

    def log_snr(self, t: torch.Tensor) -> torch.Tensor:
        start, end = math.acos(self.max_signal), math.acos(self.min_signal)
        angle = start + (end - start) * t.double()
        return (-2 * torch.log(torch.tan(angle))).to(t.dtype)


@dataclass(frozen=True)
class CosineDiscrete(DiscreteSchedule):
    """abar follows a squared quarter cosine over 1,000 steps (Nichol & Dhariwal 2021, eq. 17)."""

    offset: Annotated[float, Between(0, 1)] = 0.008
    max_beta: Annotated[float, Between(0.5, 0.9999)] = 0.999

    def betas(self) -> torch.Tensor:
        u = torch.arange(T + 1, dtype=torch.float64) / T
        f = torch.cos((u + self.offset) / (1 + self.offset) * math.pi / 2) ** 2
        return (1 - f[1:] / f[:-1]).clamp(max=self.max_beta)


def rates(schedule: Schedule, t: torch.Tensor) -> tuple[float, float]:
    """alpha and sigma at one time as plain float64 numbers: so they neither change the dtype of
    what they multiply nor wait for its device."""
    t = t.double()
    return float(schedule.alpha(t)), float(schedule.sigma(t))


SCHEDULES = Registry(
    "schedule", {"linear": Linear, "cosine": Cosine, "cosine_discrete": CosineDiscrete}
)
