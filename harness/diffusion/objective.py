"""What the network is asked for: training targets, their weights, and the way back to an image.

The network sees the noisy image and its log SNR, so a model trained under one schedule can be
sampled under another. What it predicts, clipping and the counting of evaluations are settled
here once: samplers only ever see `denoise(x, t)`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

from harness.diffusion.levels import rates
from harness.diffusion.schedules import Schedule
from harness.errors import BadOption
from harness.lazy import torch
from harness.registry import Between, Registry, about

LOG_SNR_LIMIT = 20.0  # the network's input is clamped here; schedules may be infinite at an end
EVERYTHING = (-LOG_SNR_LIMIT, LOG_SNR_LIMIT)
Network = Callable[["torch.Tensor", "torch.Tensor"], "torch.Tensor"]
Rate = Any  # alpha or sigma: a number, or a tensor that broadcasts to the images
Bounds = tuple[Rate, Rate]  # the ends of the data's range, in the units of x
Clip = Callable[["torch.Tensor", Bounds], "torch.Tensor"]


@dataclass(frozen=True)
class Target:
    """What the network predicts of x_t = alpha x_0 + sigma eps."""

    description: str
    value: Callable[[torch.Tensor, torch.Tensor, Rate, Rate], torch.Tensor]
    """(x_0, eps, alpha, sigma) -> what the network should say"""
    image: Callable[[torch.Tensor, torch.Tensor, Rate, Rate], torch.Tensor]
    """(x, prediction, alpha, sigma) -> the x_0 that the prediction means"""
    error_ratio: Callable[[torch.Tensor], torch.Tensor]
    """SNR -> squared error of the target over squared error of x_0"""
    formula: str = ""
    needs_signal: bool = False
    """whether it cannot tell the image where no signal is left"""


TARGETS = Registry(
    "target",
    {
        "noise": Target(
            "the noise eps (Ho et al. 2020)",
            formula="the network predicts ε; x̂₀ = (x_t − σ ε̂)/α (Ho et al. 2020)",
            value=lambda x_0, eps, alpha, sigma: eps,
            image=lambda x, eps, alpha, sigma: (x - sigma * eps) / alpha,
            error_ratio=lambda snr: snr,
            needs_signal=True,
        ),
        "image": Target(
            "the clean image x_0",
            formula="the network predicts x₀ itself",
            value=lambda x_0, eps, alpha, sigma: x_0,
            image=lambda x, x_0, alpha, sigma: x_0,
            error_ratio=lambda snr: snr**0,
        ),
        "velocity": Target(
            "v = alpha eps - sigma x_0 (Salimans & Ho 2022)",
            formula="the network predicts v = α ε − σ x₀; x̂₀ = α x_t − σ v̂ (Salimans & Ho 2022)",
            value=lambda x_0, eps, alpha, sigma: alpha * eps - sigma * x_0,
            image=lambda x, v, alpha, sigma: alpha * x - sigma * v,
            error_ratio=lambda snr: snr + 1,
        ),
        "flow": Target(
            "the velocity of rectified flow, u = eps - x_0 (Lipman et al. 2023)",
            formula="the network predicts u = ε − x₀; x̂₀ = (x_t − σ û)/(α + σ) (Lipman et al. "
            "2023; Liu et al. 2023)",
            value=lambda x_0, eps, alpha, sigma: eps - x_0,
            image=lambda x, u, alpha, sigma: (x - sigma * u) / (alpha + sigma),
            error_ratio=lambda snr: (1 + snr.sqrt()) ** 2,
        ),
        # c_in (x / alpha) = x, c_skip (x / alpha) = alpha x and c_out = sigma, at EDM's noise level
        # sigma / alpha.
        "edm": Target(
            "EDM's F on data of standard deviation 1, which is -v (Karras et al. 2022)",
            formula="the network predicts F, x̂₀ = α x_t + σ F̂: c_skip = 1/(1 + s²), c_out = s/√(1 "
            "+ s²), c_in = 1/√(1 + s²) at s = σ/α on x_t/α, for data of standard deviation 1 "
            "(Karras et al. 2022)",
            value=lambda x_0, eps, alpha, sigma: sigma * x_0 - alpha * eps,
            image=lambda x, f, alpha, sigma: alpha * x + sigma * f,
            error_ratio=lambda snr: snr + 1,
        ),
    },
    contract="""A harness.diffusion.objective.Target of three functions of tensors, with alpha and
sigma numbers or tensors that broadcast to the images:

    value(x_0, eps, alpha, sigma) -> what the network should say of x_t = alpha x_0 + sigma eps
    image(x_t, prediction, alpha, sigma) -> the x_0 that the prediction means
    error_ratio(snr) -> squared error of the target over squared error of x_0

With needs_signal=True it is refused where a schedule ends in pure noise.""",
    record=Target,
)


@about(formula="weight 1 on |ε̂ − ε|², which is SNR on |x̂₀ − x₀|² (Ho et al. 2020)")
def simple(log_snr: torch.Tensor) -> torch.Tensor:
    """Weight 1 on the squared error of the noise (Ho et al. 2020, eq. 14)."""
    return log_snr.exp()


@about(formula="weight min(SNR, γ) on |x̂₀ − x₀|², γ = 5 unless said otherwise (Hang et al. 2023)")
def min_snr(
    log_snr: torch.Tensor, *, gamma: Annotated[float, Between(0.01, 1000)] = 5.0
) -> torch.Tensor:
    """min(SNR, gamma) on the squared error of the image (Hang et al. 2023)."""
    return log_snr.exp().clamp(max=gamma)


@about(formula="weight max(SNR, 1) on |x̂₀ − x₀|² (Salimans & Ho 2022)")
def truncated_snr(log_snr: torch.Tensor) -> torch.Tensor:
    """max(SNR, 1) on the squared error of the image (Salimans & Ho 2022)."""
    return log_snr.exp().clamp(min=1)


@about(
    formula="weight S(b − log SNR) on |ε̂ − ε|², S the logistic function, b = 0 unless said "
    "otherwise (Kingma & Gao 2023)"
)
def sigmoid(
    log_snr: torch.Tensor, *, bias: Annotated[float, Between(-20, 20)] = 0.0
) -> torch.Tensor:
    """sigmoid(bias - log SNR) on the squared error of the noise (Kingma & Gao 2023)."""
    return log_snr.exp() * torch.sigmoid(bias - log_snr)


@about(formula="weight SNR + 1 on |x̂₀ − x₀|², which is 1 on |v̂ − v|² (Salimans & Ho 2022)")
def snr_plus_one(log_snr: torch.Tensor) -> torch.Tensor:
    """SNR + 1 on the squared error of the image, which is 1 on that of v (Salimans & Ho 2022)."""
    return log_snr.exp() + 1


@about(formula="weight (1 + √SNR)² on |x̂₀ − x₀|², which is 1 on |û − u|² (Lipman et al. 2023)")
def flow(log_snr: torch.Tensor) -> torch.Tensor:
    """Weight 1 on the squared error of rectified flow's velocity u (Lipman et al. 2023)."""
    return (1 + (log_snr / 2).exp()) ** 2


WEIGHTINGS = Registry(
    "weighting",
    {
        "simple": simple,
        "min_snr": min_snr,
        "truncated_snr": truncated_snr,
        "sigmoid": sigmoid,
        "snr_plus_one": snr_plus_one,
        "flow": flow,
    },
    given=("log_snr",),
    contract="""A function:

    weighting(log_snr, *, option=default) -> the weight of the squared error of the image x_0

log_snr is a float64 tensor of any shape; so is the answer, finite and not negative. What it means
for another target follows from Target.error_ratio.""",
)


@dataclass(frozen=True)
class Loss:
    """How far a prediction is from its target."""

    description: str
    error: Callable[[torch.Tensor], torch.Tensor]
    """prediction - target -> error, element by element"""
    weight: Callable[[torch.Tensor], torch.Tensor]
    """the weight of a squared error -> that of this error"""
    formula: str = ""


# A weighting says how much each time counts. On absolute errors its root means the same: an error
# that is twice as large at one time counts there as it would at another.
LOSSES = Registry(
    "loss",
    {
        "mse": Loss(
            "mean squared error",
            error=lambda error: error.square(),
            weight=lambda weight: weight,
            formula="the mean over pixels of the weighted squared error, over images, times and "
            "noise",
        ),
        "mae": Loss(
            "mean absolute error",
            error=lambda error: error.abs(),
            weight=lambda weight: weight.sqrt(),
            formula="the mean over pixels of the absolute error, times the root of the weight, "
            "over images, times and noise",
        ),
    },
    contract="""A harness.diffusion.objective.Loss of two functions of tensors of any shape:

    error(prediction - target) -> the error, element by element
    weight(weight of a squared error) -> the weight of this error""",
    record=Loss,
)


def check_target(target: str, schedule: Schedule) -> None:
    """Raises BadOption where this target cannot tell the image under this schedule."""
    if TARGETS[target].needs_signal and schedule.ends_in_pure_noise:
        raise BadOption(
            f"target '{target}' cannot be used with zero terminal SNR: at t = 1 no signal is left, "
            "so what it predicts tells nothing of the image (it would be divided by 0). Use target "
            "'velocity', 'image' or 'flow'."
        )


def training_losses(
    network: Network,
    schedule: Schedule,
    target: Target,
    weighting: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    t: torch.Tensor,
    eps: torch.Tensor,
    loss: Loss = LOSSES["mse"],
) -> torch.Tensor:
    """The weighted mean error of each image (Ho et al. 2020, Algorithm 1, line 5).

    images, eps: [N, C, H, W], the data and standard normal; t: [N] float64 on the CPU, where
    the schedule is evaluated. Returns [N] in the dtype of the images.
    """
    log_snr = schedule.log_snr(t).clamp(-LOG_SNR_LIMIT, LOG_SNR_LIMIT)
    weight = loss.weight(weighting(log_snr) / target.error_ratio(log_snr.exp()))

    def beside_images(value: torch.Tensor) -> torch.Tensor:
        # Rounded here: there are devices without float64.
        return value.to(images.dtype).to(images.device, non_blocking=True)

    alpha, sigma = (
        beside_images(rate).view(-1, *[1] * (images.ndim - 1))
        for rate in (schedule.alpha(t), schedule.sigma(t))
    )
    prediction = network(alpha * images + sigma * eps, beside_images(log_snr))
    error = prediction - target.value(images, eps, alpha, sigma)
    return beside_images(weight) * loss.error(error).flatten(1).mean(1)


@dataclass(frozen=True)
class Estimate:
    """The image that a network's prediction means: `estimate(x, t)` -> x_0.

    `trained` are the log SNRs at the ends of the schedule that the network was trained under; it
    is never asked about others.
    """

    network: Network
    schedule: Schedule
    target: Target
    trained: tuple[float, float] = EVERYTHING
    known: dict[float, tuple[float, float, float]] = field(default_factory=dict, compare=False)

    def __call__(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        # Worked out once for each time: every batch comes by the same ones.
        if (at := self.known.get(float(t))) is None:
            log_snr = float(self.schedule.log_snr(t.double()).clamp(*self.trained))
            at = self.known[float(t)] = (log_snr, *rates(self.schedule, t))
        log_snr, alpha, sigma = at
        prediction = self.network(x, x.new_full((len(x),), log_snr))
        return self.target.image(x, prediction, alpha, sigma)


@dataclass
class Denoiser:
    """The one adapter between what estimates images (a network, or exact mathematics) and the
    samplers: it counts evaluations, and `clip` keeps estimates between `bounds`, the ends of the
    data's range in the units of x."""

    estimate: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    clip: Clip | None = None
    bounds: Bounds = (-1.0, 1.0)
    evaluations: int = 0

    def __call__(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        self.evaluations += 1
        x_0 = self.estimate(x, t)
        return self.clip(x_0, self.bounds) if self.clip else x_0


@about(formula="x̂₀ clamped to the range of the data (Ho et al. 2020)")
def static(x_0: torch.Tensor, bounds: Bounds) -> torch.Tensor:
    """Clamp to the range of the data: a network may well estimate what no image holds."""
    low, high = bounds
    return x_0.clamp(low, high)


@about(
    formula="x̂₀ clamped to [−s, s] and divided by s, s the 0.995 quantile (unless said otherwise) "
    "of |x̂₀| in an image, at least 1, where the data lie in [−1, 1]: dynamic thresholding (Saharia "
    "et al. 2022)"
)
def dynamic(
    x_0: torch.Tensor, bounds: Bounds, *, quantile: Annotated[float, Between(0.5, 1)] = 0.995
) -> torch.Tensor:
    """Dynamic thresholding (Saharia et al. 2022, section 2.3): scale images back into the range.

    Only those of which more pixels lie beyond it than the quantile allows.
    """
    low, high = bounds
    centre, half = (low + high) / 2, (high - low) / 2
    scaled = (x_0 - centre) / half
    # torch.quantile takes no more than 16 million numbers at a time, which a batch may have.
    ordered = scaled.abs().reshape(len(x_0), -1).sort(dim=1).values
    place = quantile * (ordered.shape[1] - 1)
    below = int(place)
    above = min(below + 1, ordered.shape[1] - 1)
    s = torch.lerp(ordered[:, below], ordered[:, above], place - below).clamp(min=1)
    s = s.view(-1, *[1] * (x_0.ndim - 1))
    clipped: torch.Tensor = centre + half * (scaled.clamp(-s, s) / s)
    return clipped


CLIPS = Registry(
    "clip",
    {"static": static, "dynamic": dynamic},
    given=("x_0", "bounds"),
    contract="""A function:

    clip(x_0, bounds, *, option=default) -> x_0 within the range of the data

x_0            an estimate of clean images, batch first; its shape and dtype are kept, and no image
               depends on the others
bounds         the ends of the range: numbers, or tensors that broadcast to one image""",
)


def outside(log_snr: torch.Tensor, trained: tuple[float, float]) -> int:
    """How many of these log SNRs (of any shape) a network has not been trained on; it is asked
    about the nearest that it has. What lies beyond the limit of its input is no different to it."""
    low, high = trained
    asked = log_snr.double().clamp(-LOG_SNR_LIMIT, LOG_SNR_LIMIT)
    slack = 1e-9  # of rounding, at the ends themselves
    return int(((asked < low - slack) | (asked > high + slack)).sum())
