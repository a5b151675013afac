"""Schedules that are formulas for the rates: how signal and noise follow from time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

from harness.diffusion.schedules.base import Schedule
from harness.errors import BadOption
from harness.lazy import torch
from harness.registry import Between

STEEPEST = 30.0  # of the sigmoid: beyond it, its floor would flatten a part of the schedule


@dataclass(frozen=True)
class BetweenSignalRates(Schedule):
    """A schedule whose signal rate is max_signal at t = 0 and min_signal at t = 1."""

    max_signal: Annotated[float, Between(0, 1)] = 0.95
    min_signal: Annotated[float, Between(0, 1)] = 0.02

    def __post_init__(self) -> None:
        if not 0 < self.min_signal < self.max_signal <= 1:
            raise BadOption(
                "the signal rates of a schedule need 0 < min_signal < max_signal <= 1, not "
                f"min_signal {self.min_signal:g} and max_signal {self.max_signal:g}. Use such as "
                "0.02 and 0.95."
            )


@dataclass(frozen=True)
class Cosine(BetweenSignalRates):
    """The angle of (alpha, sigma) grows evenly between two signal rates (Keras DDIM example).

    Its signal never reaches 1, nor 0: at t = 0 it is max_signal. Not the schedule of the paper,
    which is `cosine_discrete`.
    """

    formula = (
        "θ(t) = (1 − t) arccos(max_signal) + t arccos(min_signal), α = cos θ, σ = sin θ, with "
        "max_signal = 0.95 and min_signal = 0.02 unless said otherwise (the Keras DDIM "
        "example, Béres 2022)"
    )
    abar_at_1 = 0.02**2

    def log_snr(self, t: torch.Tensor) -> torch.Tensor:
        start, end = math.acos(self.max_signal), math.acos(self.min_signal)
        angle = start + (end - start) * t.double()
        return (-2 * torch.log(torch.tan(angle))).to(t.dtype)


@dataclass(frozen=True)
class SignalLinear(BetweenSignalRates):
    """The signal rate alpha falls evenly between two values, with the ends of `cosine`."""

    formula = (
        "α = (1 − t) max_signal + t min_signal, σ = √(1 − α²), with max_signal = 0.95 and "
        "min_signal = 0.02 unless said otherwise"
    )
    abar_at_1 = 0.02**2

    def log_snr(self, t: torch.Tensor) -> torch.Tensor:
        lost = t.double() * (self.max_signal - self.min_signal)
        alpha, below_1 = self.max_signal - lost, 1 - self.max_signal + lost
        # sigma^2 = (1 - alpha)(1 + alpha), whose first factor would lose digits near alpha = 1.
        return (2 * torch.log(alpha) - torch.log(below_1 * (1 + alpha))).to(t.dtype)


@dataclass(frozen=True)
class NoiseLinear(BetweenSignalRates):
    """The noise rate sigma rises evenly between two values, with the ends of `cosine`."""

    formula = (
        "σ = (1 − t) √(1 − max_signal²) + t √(1 − min_signal²), α = √(1 − σ²), with max_signal = "
        "0.95 and min_signal = 0.02 unless said otherwise"
    )
    abar_at_1 = 0.02**2

    def log_snr(self, t: torch.Tensor) -> torch.Tensor:
        first, last = math.sqrt(1 - self.max_signal**2), math.sqrt(1 - self.min_signal**2)
        sigma = first + t.double() * (last - first)
        # alpha^2 = (1 - sigma)(1 + sigma), whose first factor would lose digits near sigma = 1.
        below_1 = self.min_signal**2 / (1 + last) + (1 - t.double()) * (last - first)
        return (torch.log(below_1 * (1 + sigma)) - 2 * torch.log(sigma)).to(t.dtype)


@dataclass(frozen=True)
class Flow(Schedule):
    """Rectified flow, x_t = (1 - t) x_0 + t eps (Lipman et al. 2023; Liu et al. 2023).

    Its straight path, scaled to alpha^2 + sigma^2 = 1: x_t is divided by the root of (1 - t)^2 +
    t^2. `shift` s puts s t / (1 + (s - 1) t) in the place of t (Esser et al. 2024, SD3, eq. 23):
    above 1 it spends more time in noise. No signal is left at t = 1.
    """

    formula = (
        "log SNR = 2 log((1 − t)/t) − 2 log(shift): x_t = (1 − u) x₀ + u ε, divided by √((1 − u)² "
        "+ u²), at u = shift t/(1 + (shift − 1) t), shift = 1 unless said otherwise: u = t (Lipman "
        "et al. 2023; Liu et al. 2023; Esser et al. 2024)"
    )
    shift: Annotated[float, Between(0.01, 100)] = 1.0

    @property
    def ends_in_pure_noise(self) -> bool:
        return True

    def log_snr(self, t: torch.Tensor) -> torch.Tensor:
        exact = t.double()
        return (2 * torch.log((1 - exact) / (self.shift * exact))).to(t.dtype)


@dataclass(frozen=True)
class Sigmoid(Schedule):
    """abar falls from 1 along a piece of a sigmoid (Jabri et al. 2022, algorithm 1)."""

    formula = (
        "α² = (S(e/τ) − S((s + t (e − s))/τ)) / (S(e/τ) − S(s/τ)), S the logistic function, s = "
        "−3, e = 3 and τ = 1 unless said otherwise, at least 10⁻⁹ (Jabri et al. 2022)"
    )
    abar_at_1 = 1e-9
    start: Annotated[float, Between(-20, 20)] = -3.0
    end: Annotated[float, Between(-20, 20)] = 3.0
    tau: Annotated[float, Between(0.1, 10)] = 1.0  # the temperature: lower is steeper
    least_abar: ClassVar[float] = 1e-9

    def __post_init__(self) -> None:
        if not 0 < (self.end - self.start) / self.tau <= STEEPEST:
            raise BadOption(
                "schedule 'sigmoid' needs start < end, and (end - start) / tau of at most "
                f"{STEEPEST:g}, not start {self.start:g}, end {self.end:g} and tau {self.tau:g}. "
                "Use such as start: -3, end: 3, tau: 1."
            )

    def log_snr(self, t: torch.Tensor) -> torch.Tensor:
        # A difference of two sigmoids is sinh((a - b) / 2) / (2 cosh(a / 2) cosh(b / 2)), so that
        # in the ratio of abar and 1 - abar neither is a difference of nearly equal numbers.
        exact, start, end = t.double(), self.start / self.tau, self.end / self.tau
        left = torch.sinh((1 - exact) * (end - start) / 2) * math.cosh(start / 2)
        gone = torch.sinh(exact * (end - start) / 2) * math.cosh(end / 2)
        least = math.log(self.least_abar) - math.log1p(-self.least_abar)
        return torch.log(left / gone).clamp(min=least).to(t.dtype)


@dataclass(frozen=True)
class ShiftedCosine(Schedule):
    """Cosine for images of a side other than 64 pixels (Hoogeboom et al. 2023, section 3.1).

    Larger images need more noise to lose the same detail: by 2 log(64 / side) in log SNR.
    """

    formula = (
        "log SNR = −2 log tan(a + t (b − a)) + 2 log(64 / image_size), a and b where the first "
        "term is ±15; image_size = 64 unless said otherwise (Hoogeboom et al. 2023)"
    )
    abar_at_1 = 3.0590e-7
    image_size: Annotated[int, Between(1, 16_384)] = 64
    limit: ClassVar[float] = 15.0  # |log SNR| at both ends before the shift

    def log_snr(self, t: torch.Tensor) -> torch.Tensor:
        first = math.atan(math.exp(-self.limit / 2))
        angle = first + t.double() * (math.pi / 2 - 2 * first)
        shift = 2 * math.log(64 / self.image_size)
        return (shift - 2 * torch.log(torch.tan(angle))).to(t.dtype)
