"""What every schedule answers: the log signal-to-noise ratio at each time, and what follows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from harness.lazy import torch

HALVINGS = 64  # of [0, 1] in search of a time: to 5e-20


class Schedule(ABC):
    """A schedule answers one question, log_snr(t); alpha, sigma and the inverse follow from it.

    Times are float tensors in [0, 1] of any shape, float32 or float64; answers have the same
    shape and dtype. They are worked out in float64, since the differences of nearby rates that
    samplers take would lose their digits in float32.
    """

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
    def table_steps(self) -> int | None:
        """T where the schedule is a table of T steps; None where it is a formula in time."""
        return None

    @property
    def ends_in_pure_noise(self) -> bool:
        """Whether no signal at all is left at t = 1 (zero terminal SNR): its log SNR is -inf."""
        return False
