"""Schedules by the distribution of log SNR over evenly drawn times: log SNR is its quantile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from harness.diffusion.schedules.base import Schedule
from harness.errors import BadOption
from harness.lazy import torch
from harness.registry import Between


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
class Normal(Schedule):
    """log SNR is normally distributed, as in EDM and in SD3 (Karras et al. 2022).

    EDM's ln(sigma / alpha) ~ N(-1.2, 1.2^2) is mean 2.4 and std 2.4; SD3's logit-normal times of
    `flow` with location m and scale s are mean -2m and std 2s (Esser et al. 2024, eq. 19). Clamped
    to +-15 as `laplace` is, or further out where 100,000 even steps would still fall there.
    """

    formula = (
        "log SNR = mean − std Φ⁻¹(t) within ±15, Φ the standard normal distribution, mean = 2.4 "
        "and std = 2.4 unless said otherwise: ln(σ/α) ~ N(−1.2, 1.2²) (Karras et al. 2022)"
    )
    abar_at_1 = 3.0590e-7
    mean: Annotated[float, Between(-4, 4)] = 2.4
    std: Annotated[float, Between(0.1, 3.5)] = 2.4

    def log_snr(self, t: torch.Tensor) -> torch.Tensor:
        quantile: torch.Tensor = self.mean - self.std * torch.special.ndtri(t.double())
        limit = max(15.0, abs(self.mean) + 4.3 * self.std)  # 4.26 std leave 1e-5 beyond them
        return quantile.clamp(-limit, limit).to(t.dtype)


@dataclass(frozen=True)
class LogSnrLinear(Schedule):
    """log SNR falls evenly between two values (Kingma et al. 2021, VDM, as it begins)."""

    formula = (
        "log SNR = (1 − t) max_log_snr + t min_log_snr, with max_log_snr = 13.3 and min_log_snr = "
        "−5 unless said otherwise (Kingma et al. 2021)"
    )
    abar_at_1 = 6.6929e-3
    max_log_snr: Annotated[float, Between(-20, 20)] = 13.3
    min_log_snr: Annotated[float, Between(-20, 20)] = -5.0

    def __post_init__(self) -> None:
        if not self.min_log_snr < self.max_log_snr:
            raise BadOption(
                "schedule 'log_snr_linear' needs min_log_snr < max_log_snr, not min_log_snr "
                f"{self.min_log_snr:g} and max_log_snr {self.max_log_snr:g}. Use such as -5 and "
                "13.3."
            )

    def log_snr(self, t: torch.Tensor) -> torch.Tensor:
        fallen = t.double() * (self.max_log_snr - self.min_log_snr)
        return (self.max_log_snr - fallen).to(t.dtype)
