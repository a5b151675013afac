"""Noise schedules: how much signal is left at time t, from 0 (image) to 1 (noise).

A noisy image is x_t = alpha(t) x_0 + sigma(t) eps with alpha^2 + sigma^2 = 1, so one number per
time says everything: the log signal-to-noise ratio, log(alpha^2 / sigma^2). The discrete papers
write abar for alpha^2, the product of 1 - beta. To add a schedule, write one frozen dataclass
with `log_snr`, its options as fields, and name it in SCHEDULES.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, ClassVar

from harness.errors import BadOption
from harness.lazy import torch
from harness.registry import Between, Registry

T = 1000  # steps of the discrete schedules
HALVINGS = 64  # of [0, 1] in search of a time: to 5e-20
STEEPEST = 30.0  # of the sigmoid: beyond it, its floor would flatten a part of the schedule


class Schedule(ABC):
    """A schedule answers one question, log_snr(t); alpha, sigma and the inverse follow from it.

    Times are float tensors in [0, 1] of any shape, float32 or float64; answers have the same
    shape and dtype. They are worked out in float64, since the differences of nearby rates that
    samplers take would lose their digits in float32.
    """

    table_steps: ClassVar[int | None] = None  # T where the schedule is a table of T steps
    formula: ClassVar[str] = ""  # as in a paper, in plain letters
    abar_at_1: ClassVar[float | None] = None  # of the defaults, worked out from the paper's formula

    def __init_subclass__(cls) -> None:
        """What is claimed of a schedule is not claimed of one that is made from it."""
        cls.formula = vars(cls).get("formula", "")
        cls.abar_at_1 = vars(cls).get("abar_at_1")

    @abstractmethod
    def log_snr(self, t: torch.Tensor) -> torch.Tensor:
        """log(alpha^2 / sigma^2) at each time; falls strictly as t goes from 0 to 1."""

    def alpha(self, t: torch.Tensor) -> torch.Tensor:
        """The signal rate."""
        return torch.sigmoid(self.log_snr(t.double())).sqrt().to(t.dtype)

    def sigma(self, t: torch.Tensor) -> torch.Tensor:
        """The noise rate."""
        return torch.sigmoid(-self.log_snr(t.double())).sqrt().to(t.dtype)

    def t(self, log_snr: torch.Tensor) -> torch.Tensor:
        """The time at which log SNR is this: the inverse of `log_snr`, shape and dtype kept. What
        lies beyond an end of the schedule, infinity included, is that end."""
        wanted = log_snr.double()
        low, high = torch.zeros_like(wanted), torch.ones_like(wanted)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            is_before = self.log_snr(middle) > wanted
            low, high = torch.where(is_before, middle, low), torch.where(is_before, high, middle)
        most, least = self.log_snr(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()
        inside = torch.where(wanted >= most, 0.0, high)
        return torch.where(wanted <= least, 1.0, inside).to(log_snr.dtype)

    @property
    def ends_in_pure_noise(self) -> bool:
        """Whether no signal at all is left at t = 1 (zero terminal SNR): its log SNR is -inf."""
        return False


@dataclass(frozen=True)
class DiscreteSchedule(Schedule):
    """A table of T noise rates beta, exact at t = i / T; between two entries log abar is
    interpolated. abar(0) = 1, so log SNR is infinite there.

    With `zero_terminal_snr` the signal rates are shifted and scaled so that the last is 0 and the
    first is as before (Lin et al. 2024, algorithm 1); towards the last entry alpha is
    interpolated, since log abar is infinite there.
    """

    table_steps = T
    zero_terminal_snr: bool = field(default=False, kw_only=True)

    @abstractmethod
    def betas(self) -> torch.Tensor:
        """beta_1 .. beta_T as float64 [T], before any rescaling."""

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
        place = t.double() * T
        below = place.floor().long().clamp(0, T - 1)
        log_abar = torch.lerp(table[below], table[below + 1], place - below)
        if self.zero_terminal_snr:
            alpha = torch.exp(table[T - 1] / 2) * (T - place)
            log_abar = torch.where(below == T - 1, 2 * torch.log(alpha), log_abar)
        # expm1 keeps sigma^2 = 1 - abar exact where abar is close to 1.
        return (log_abar - torch.log(-torch.expm1(log_abar))).to(t.dtype)


@dataclass(frozen=True)
class Linear(DiscreteSchedule):
    """beta grows evenly over 1,000 steps (Ho et al. 2020, section 4)."""

    formula = "β_i even from 10⁻⁴ to 0.02 over 1,000 steps, α² = ∏(1 − β_i) (Ho et al. 2020)"
    abar_at_1 = 4.0358e-5
    beta_start: Annotated[float, Between(1e-6, 0.5)] = 1e-4
    beta_end: Annotated[float, Between(1e-6, 0.5)] = 0.02

    def betas(self) -> torch.Tensor:
        return torch.linspace(self.beta_start, self.beta_end, T, dtype=torch.float64)


@dataclass(frozen=True)
class ScaledLinear(DiscreteSchedule):
    """The root of beta grows evenly over 1,000 steps (Rombach et al. 2022, latent diffusion)."""

    formula = (
        "√β_i even from √0.00085 to √0.012 over 1,000 steps, α² = ∏(1 − β_i) (Rombach et al. 2022)"
    )
    abar_at_1 = 4.6601e-3
    beta_start: Annotated[float, Between(1e-6, 0.5)] = 0.00085
    beta_end: Annotated[float, Between(1e-6, 0.5)] = 0.012

    def betas(self) -> torch.Tensor:
        return torch.linspace(self.beta_start**0.5, self.beta_end**0.5, T, dtype=torch.float64) ** 2


@dataclass(frozen=True)
class Cosine(Schedule):
    """The angle of (alpha, sigma) grows evenly between two signal rates (Keras DDIM example).

    Its signal never reaches 1, nor 0: at t = 0 it is max_signal. Not the schedule of the paper,
    which is `cosine_discrete`.
    """

    formula = (
        "θ(t) = (1 − t) arccos(max_signal) + t arccos(min_signal), α = cos θ, σ = sin θ, with "
        "max_signal = 0.95 and min_signal = 0.02 unless said otherwise (the Keras DDIM example)"
    )
    abar_at_1 = 0.02**2
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

    formula = (
        "f(u) = cos²((u + 0.008) / 1.008 · π/2), β_i = min(1 − f(i/T) / f((i − 1)/T), 0.999), T = "
        "1,000 (Nichol & Dhariwal 2021)"
    )
    abar_at_1 = 2.4288e-9
    offset: Annotated[float, Between(0, 1)] = 0.008
    max_beta: Annotated[float, Between(0.5, 0.9999)] = 0.999

    def betas(self) -> torch.Tensor:
        u = torch.arange(T + 1, dtype=torch.float64) / T
        f = torch.cos((u + self.offset) / (1 + self.offset) * math.pi / 2) ** 2
        return (1 - f[1:] / f[:-1]).clamp(max=self.max_beta)


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
                f"{STEEPEST:g}, not start {self.start:g}, end {self.end:g} and tau {self.tau:g}"
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
class Laplace(Schedule):
    """log SNR follows the quantiles of a Laplace distribution (Hang et al. 2024).

    Most time is spent near its mean. Clamped to +-15, where the quantiles go on to infinity.
    """

    formula = (
        "log SNR = μ − b sgn(½ − t) log(1 − 2|t − ½|) within ±15, μ = 0 and b = ½ unless said "
        "otherwise (Hang et al. 2024)"
    )
    abar_at_1 = 3.0590e-7
    mu: Annotated[float, Between(-4, 4)] = 0.0
    b: Annotated[float, Between(0.1, 1)] = 0.5
    limit: ClassVar[float] = 15.0

    def log_snr(self, t: torch.Tensor) -> torch.Tensor:
        # The quantile function, as the logarithm of the nearer end's share: 2 t or 2 (1 - t).
        near = 2 * torch.minimum(t.double(), 1 - t.double())
        quantile = -self.b * torch.sign(0.5 - t) * torch.log(near)
        return (self.mu + quantile).clamp(-self.limit, self.limit).to(t.dtype)


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


SCHEDULES = Registry(
    "schedule",
    {
        "linear": Linear,
        "scaled_linear": ScaledLinear,
        "cosine": Cosine,
        "cosine_discrete": CosineDiscrete,
        "shifted_cosine": ShiftedCosine,
        "sigmoid": Sigmoid,
        "laplace": Laplace,
    },
    contract="""A class (best a frozen dataclass), called with its options by keyword, that is a
harness.diffusion.schedules.Schedule and has

    log_snr(t) -> log(alpha^2 / sigma^2), falling strictly as t goes from 0 to 1

t is a float tensor in [0, 1] of any shape, float32 or float64; the answer has its shape and dtype.
alpha(t), sigma(t) and the inverse t(log_snr) follow from it.""",
)
