"""Noise schedules: how much signal is left at time t, from 0 (image) to 1 (noise).

A noisy image is x_t = alpha(t) x_0 + sigma(t) eps with alpha^2 + sigma^2 = 1, so one number per
time says everything: the log signal-to-noise ratio, log(alpha^2 / sigma^2). The discrete papers
write abar for alpha^2, the product of 1 - beta. To add a schedule, write one frozen dataclass
with `log_snr`, its options as fields, in the file of its kind, and name it in SCHEDULES.
"""

from __future__ import annotations

from harness.diffusion.schedules.base import Schedule
from harness.diffusion.schedules.densities import Laplace, LogSnrLinear, Normal
from harness.diffusion.schedules.formulas import (
    Cosine,
    Flow,
    NoiseLinear,
    ShiftedCosine,
    Sigmoid,
    SignalLinear,
)
from harness.diffusion.schedules.tables import (
    CosineDiscrete,
    DiscreteSchedule,
    Linear,
    Quad,
    ScaledLinear,
    T,
)
from harness.registry import Registry

# The author of a schedule in another package imports all from here.
__all__ = [
    "SCHEDULES", "Cosine", "CosineDiscrete", "DiscreteSchedule", "Flow", "Laplace", "Linear",
    "LogSnrLinear", "NoiseLinear", "Normal", "Quad", "ScaledLinear", "Schedule", "ShiftedCosine",
    "Sigmoid", "SignalLinear", "T",
]  # fmt: skip

SCHEDULES = Registry(
    "schedule",
    {
        "linear": Linear,
        "quad": Quad,
        "scaled_linear": ScaledLinear,
        "cosine": Cosine,
        "signal_linear": SignalLinear,
        "noise_linear": NoiseLinear,
        "cosine_discrete": CosineDiscrete,
        "shifted_cosine": ShiftedCosine,
        "sigmoid": Sigmoid,
        "flow": Flow,
        "laplace": Laplace,
        "normal": Normal,
        "log_snr_linear": LogSnrLinear,
    },
    contract="""A class (best a frozen dataclass), called with its options by keyword, that is a
harness.diffusion.schedules.Schedule and has

    log_snr(t) -> log(alpha^2 / sigma^2), falling strictly as t goes from 0 to 1

t is a float tensor in [0, 1] of any shape, float32 or float64; the answer has its shape and dtype.
alpha(t), sigma(t) and the inverse t(log_snr) follow from it.""",
)
