"""Schedules of the discrete papers: tables of T noise rates beta."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated

from harness.diffusion.schedules.base import Schedule
from harness.errors import BadOption
from harness.lazy import torch
from harness.registry import Between

T = 1000  # steps of a table, and of a grid of times where the schedule is none
LEAST_LOG_ABAR = -700.0  # of the last entry: below it alpha has no digits left


@dataclass(frozen=True)
class DiscreteSchedule(Schedule):
    """A table of T noise rates beta, exact at t = i / T; between two entries log abar is
    interpolated. abar(0) = 1, so log SNR is infinite there. Another T leaves the betas what they
    are: what is told of their ends holds for any number of steps.

    With `zero_terminal_snr` the signal rates are shifted and scaled so that the last is 0 and the
    first is as before (Lin et al. 2024, algorithm 1); towards the last entry alpha is
    interpolated, since log abar is infinite there.
    """

    zero_terminal_snr: bool = field(default=False, kw_only=True)
    T: Annotated[int, Between(2, 10_000)] = field(default=T, kw_only=True)

    @abstractmethod
    def betas(self) -> torch.Tensor:
        """beta_1 .. beta_T as float64 [T], before any rescaling."""

    @property
    def table_steps(self) -> int:
        return self.T

    @property
    def ends_in_pure_noise(self) -> bool:
        return self.zero_terminal_snr

    @cached_property
    def _log_abar(self) -> torch.Tensor:
        log_abar = torch.log1p(-self.betas()).cumsum(0)
        if self.zero_terminal_snr:
            alpha = (log_abar / 2).exp()
            log_abar = 2 * torch.log((alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1]))
        return torch.cat([torch.zeros(1, dtype=torch.float64), log_abar])

    def log_snr(self, t: torch.Tensor) -> torch.Tensor:
        table = self._log_abar.to(t.device)
        place = t.double() * self.T
        below = place.floor().long().clamp(0, self.T - 1)
        log_abar = torch.lerp(table[below], table[below + 1], place - below)
        if self.zero_terminal_snr:
            alpha = torch.exp(table[self.T - 1] / 2) * (self.T - place)
            log_abar = torch.where(below == self.T - 1, 2 * torch.log(alpha), log_abar)
        # expm1 keeps sigma^2 = 1 - abar exact where abar is close to 1.
        return (log_abar - torch.log(-torch.expm1(log_abar))).to(t.dtype)


@dataclass(frozen=True)
class Linear(DiscreteSchedule):
    """beta grows evenly over T steps, 1,000 unless said otherwise (Ho et al. 2020, section 4).

    Nichol & Dhariwal 2021 keep the last abar for another T: their betas are multiplied by 1000/T.
    """

    formula = (
        "β_i evenly spaced from 10⁻⁴ to 0.02 over T steps, α² = ∏(1 − β_i), T = 1,000 unless said "
        "otherwise (Ho et al. 2020)"
    )
    abar_at_1 = 4.0358e-5
    beta_start: Annotated[float, Between(1e-6, 0.5)] = 1e-4
    beta_end: Annotated[float, Between(1e-6, 0.5)] = 0.02

    def __post_init__(self) -> None:
        largest = max(self.beta_start, self.beta_end)
        if self.T * math.log1p(-largest) < LEAST_LOG_ABAR:
            raise BadOption(
                f"{self.T:,} steps of a beta up to {largest:g} leave no signal that could be "
                "computed with. Use fewer steps T, or smaller beta_start and beta_end."
            )

    def betas(self) -> torch.Tensor:
        return torch.linspace(self.beta_start, self.beta_end, self.T, dtype=torch.float64)


@dataclass(frozen=True)
class Quad(Linear):
    """The root of beta grows evenly over T steps (`quad` in the code of Song et al. 2021a)."""

    formula = (
        "√β_i evenly spaced from √10⁻⁴ to √0.02 over T steps, α² = ∏(1 − β_i), T = 1,000 unless "
        "said otherwise (the code of Song et al. 2021a)"
    )
    abar_at_1 = 7.3341e-4

    def betas(self) -> torch.Tensor:
        first, last = self.beta_start**0.5, self.beta_end**0.5
        return torch.linspace(first, last, self.T, dtype=torch.float64) ** 2


@dataclass(frozen=True)
class ScaledLinear(Quad):
    """The root of beta grows evenly, between the ends of latent diffusion (Rombach et al. 2022)."""

    formula = (
        "√β_i evenly spaced from √0.00085 to √0.012 over T steps, α² = ∏(1 − β_i), T = 1,000 "
        "unless said otherwise (Rombach et al. 2022)"
    )
    abar_at_1 = 4.6601e-3
    beta_start: Annotated[float, Between(1e-6, 0.5)] = 0.00085
    beta_end: Annotated[float, Between(1e-6, 0.5)] = 0.012


@dataclass(frozen=True)
class CosineDiscrete(DiscreteSchedule):
    """abar follows a squared quarter cosine over T steps (Nichol & Dhariwal 2021, eq. 17)."""

    formula = (
        "f(u) = cos²((u + 0.008) / 1.008 · π/2), β_i = min(1 − f(i/T) / f((i − 1)/T), 0.999), T = "
        "1,000 unless said otherwise (Nichol & Dhariwal 2021)"
    )
    abar_at_1 = 2.4288e-9
    offset: Annotated[float, Between(0, 1)] = 0.008
    max_beta: Annotated[float, Between(0.5, 0.9999)] = 0.999

    def betas(self) -> torch.Tensor:
        u = torch.arange(self.T + 1, dtype=torch.float64) / self.T
        f = torch.cos((u + self.offset) / (1 + self.offset) * math.pi / 2) ** 2
        return (1 - f[1:] / f[:-1]).clamp(max=self.max_beta)
