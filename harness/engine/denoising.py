"""How well a trained network tells noise from image, by log SNR, on images it has not seen and on
as many that it was trained on.

Levels, images and noise are functions of the data set alone, so that networks that were trained
under any schedule are measured alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.data.images import Images, ImageSet
from harness.diffusion.levels import rates
from harness.diffusion.likelihood import (
    diffusion_nats,
    gaussian_error,
    prior_nats,
    reconstruction_nats,
)
from harness.diffusion.objective import outside
from harness.diffusion.schedules import Schedule
from harness.engine.exact import ExactDenoiser
from harness.engine.memory import in_halves
from harness.engine.network import Trained, log_snr_range, make_schedule
from harness.engine.noise import Purpose, generator
from harness.engine.pixel_spread import SMALLEST, SPECTRUM_IMAGES
from harness.engine.sample import NotFinite, batches_of
from harness.engine.scale import Scale
from harness.execute import machine
from harness.work.results import Denoising, DenoisingError, Mean

LEVELS = 20
# At 12 the noise is a third of a grey level of 8 bits, so there is nothing left to learn; at -12
# the signal is a four-hundredth of the noise.
LIMIT = 12.0
MOST_IMAGES, LEAST_IMAGES = 128, 32  # of either part
PIXELS = 196_608  # in all images of either part: 64 of 32x32 in colour
MOST_EXACT = 1e10  # differences of pixels that the exact denoiser may take: some seconds

HELD_OUT, TRAIN = 0, 1  # streams of noise
Errors = NDArray[np.float64]  # [LEVELS, images]


@dataclass(frozen=True)
class Levels(Schedule):
    """log SNR falls evenly from LIMIT to -LIMIT for pixels in -1..1, and for what a network sees by
    `offset` less."""

    offset: float = 0.0

    def log_snr(self, t: Tensor) -> Tensor:
        return LIMIT * (1 - 2 * t) - self.offset


def denoising(
    trained: Trained,
    images: ImageSet,
    before: Trained | None = None,
    watch: Callable[[], None] = lambda: None,
) -> Denoising:
    """Of a network whose weights are settled, and by how much its error has changed since `before`.
    `watch` is called at each level, and may raise what ends the work. Raises MachineError where the
    network at work on one image does not fit into memory."""
    held_out, train = chosen(images.held_out), chosen(images.train)
    found = errors(trained, held_out, HELD_OUT, watch), errors(trained, train, TRAIN, watch)
    earlier = errors(before, held_out, HELD_OUT, watch) if before else None
    offset = offset_of(trained.scale)
    log_snr, _ = levels(offset)
    ends = log_snr_range(make_schedule(trained.training.schedule))
    variances = variances_along(images, trained.scale)
    linear = gaussian_error(log_snr, variances).tolist()
    exact = exact_errors(trained, images, watch)
    rows = [
        DenoisingError(
            log_snr=float(level),
            is_outside=outside(level[None], ends) > 0,
            held_out=mean(found[HELD_OUT][place]),
            train=mean(found[TRAIN][place]),
            last_tenth=None if earlier is None else mean(found[HELD_OUT][place] - earlier[place]),
            linear=linear[place],
            exact=None if exact is None else exact[place],
        )
        for place, level in enumerate(log_snr)
    ]
    inside = [not row.is_outside for row in rows]
    return Denoising(
        tuple(rows),
        images=len(held_out.which),
        noises=held_out.noises,
        variance=float(variances.mean()),
        offset=offset,
        bits=bits(found[HELD_OUT], inside, held_out, trained.scale),
        train_bits=bits(found[TRAIN], inside, train, trained.scale),
    )


@dataclass(frozen=True, eq=False)
class Chosen:
    """Images at even distances in a part of a data set, so that a part that is sorted by kind gives
    some of each; each with several noises where there are few."""

    which: Images
    noises: int

    def signal(self, scale: Scale) -> Tensor:
        """[images * noises, C, H, W], the noises of one image side by side."""
        return scale.to_signal(torch.from_numpy(self.which)).repeat_interleave(self.noises, 0)


def noisy_images(values: int) -> int:
    """How many noisy images there are of either part at each level, of so many numbers each."""
    return max(LEAST_IMAGES, min(MOST_IMAGES, PIXELS // values))


def network_evaluations(values: int) -> int:
    """Of single images of so many numbers, to measure an average of weights: on held-out images, on
    training images, and on the former as it was at the checkpoint."""
    return 3 * LEVELS * noisy_images(values)


def chosen(part: Images) -> Chosen:
    """Evenly spaced images of a part of a data set, and how many noises each is given."""
    wanted = noisy_images(math.prod(part.shape[1:]))
    count = min(wanted, len(part))
    places = np.linspace(0, len(part) - 1, count).round().astype(int)
    return Chosen(part[places], -(-wanted // count))


def offset_of(scale: Scale) -> float:
    """By how much log SNR is higher for pixels in -1..1 than in the units that a network sees; a
    mean over channels."""
    return float(2 * np.log(scale.factor).mean())


def levels(offset: float = 0.0) -> tuple[Tensor, Tensor]:
    """Rising log SNRs and their times under `Levels`, [LEVELS] each."""
    t = torch.linspace(1, 0, LEVELS, dtype=torch.float64)
    return Levels(offset).log_snr(t), t


def errors(
    denoiser: Trained | ExactDenoiser,
    of: Chosen,
    stream: int,
    watch: Callable[[], None] = lambda: None,
) -> Errors:
    """The squared error of eps per pixel of each image, a mean over its noises.

    It is that of the image that the network's answer means, times SNR: what a sampler sees.
    """
    offset = offset_of(denoiser.scale)
    schedule, (log_snr, times) = Levels(offset), levels(offset)
    denoise, x_0 = denoiser.denoiser(schedule), of.signal(denoiser.scale).to(denoiser.device)
    found = np.empty((LEVELS, len(of.which)))
    batches = list(batches_of(len(x_0), denoiser.device))
    for place, t in enumerate(times):
        watch()
        draw = generator(Purpose.DENOISING, stream, place)
        # Made on a processor, as starting noise is: the same on every machine.
        eps = torch.from_numpy(draw.standard_normal(x_0.shape, np.float32)).to(denoiser.device)
        alpha, sigma = rates(schedule, t)
        x_t = alpha * x_0 + sigma * eps

        def of_batch(batch: range, x_t: Tensor = x_t, t: Tensor = t) -> Tensor:
            part = slice(batch.start, batch.stop)
            error = machine.in_float64(denoise(x_t[part], t) - x_0[part])
            return error.square().flatten(1).mean(1)

        with torch.inference_mode():
            squares = torch.cat(list(in_halves(batches, of_batch, denoiser.device)))
        by_image = (squares * math.exp(log_snr[place])).reshape(-1, of.noises).mean(1)
        found[place] = by_image.numpy(force=True)
        if not np.isfinite(found[place]).all():
            half = "training.precision: float32, or " if denoiser.precision == "float16" else ""
            raise NotFinite(
                f"the denoising error of training {denoiser.training.key} is no number at log SNR "
                f"{log_snr[place]:.1f}, and is left out. Use {half}a smaller "
                "training.learning_rate."
            )
    return found


def mean(values: Errors) -> Mean:
    """The mean of these errors [N], with its standard error; None for that of one."""
    error = float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else None
    return Mean(float(values.mean()), error)


def bits(found: Errors, inside: list[bool], of: Chosen, scale: Scale) -> Mean | None:
    """A bound on the negative log likelihood in bits per pixel and channel: what the network was
    trained on by its error, and what lies beyond either end as if nothing were known of it. None
    where that is less than two levels."""
    if sum(inside) < 2:
        return None
    log_snr = levels(offset_of(scale))[0][inside]
    ends = prior_nats(float(log_snr[0]), float(of.signal(scale).double().square().mean()))
    told = [
        reconstruction_nats(
            float(log_snr[-1]) + 2 * math.log(factor), shares(of.which[:, channels])
        )
        for channels, factor in channels_of(scale)
    ]
    ends += sum(told) / len(told)
    nats = diffusion_nats(log_snr, torch.from_numpy(found[inside].T))
    return mean((nats.numpy() + ends) / math.log(2))


def channels_of(scale: Scale) -> Iterator[tuple[slice, float]]:
    """The channels of one factor each."""
    if len(scale.factor) == 1:
        yield slice(None), scale.factor[0]
    else:
        yield from ((slice(c, c + 1), factor) for c, factor in enumerate(scale.factor))


def shares(images: Images) -> Tensor:
    """The share of each of 256 grey levels, [256]."""
    return torch.from_numpy(np.bincount(images.ravel(), minlength=256) / images.size)


@lru_cache(maxsize=4)
def variances_along(images: ImageSet, scale: Scale) -> Tensor:
    """The variances of held-out images along the principal directions of the training images, in
    these units per pixel, [d]; what lies beside those directions is spread evenly over the rest."""
    parts = (part[:SPECTRUM_IMAGES] for part in (images.train, images.held_out))
    train, held_out = (scale.to_signal(torch.from_numpy(part)) for part in parts)
    if images.flip:
        train = torch.cat([train, train.flip(3)])
    centre = train.mean(0)
    train, held_out = ((part - centre).flatten(1) for part in (train, held_out))
    # By the products of images: there may be far more pixels than images.
    squares, mixes = torch.linalg.eigh((train @ train.T).double())
    kept = squares > SMALLEST * squares.sum()
    directions = (mixes[:, kept] / squares[kept].sqrt()).float().T @ train
    along = (held_out @ directions.T).double().square().mean(0)
    pixels = train.shape[1]
    rest = held_out.double().square().sum(1).mean() - along.sum()
    beside = pixels - len(along)
    spread = (rest / beside).clamp(min=0).expand(beside) if beside > 0 else along[:0]
    return torch.cat([along, spread]).clamp(min=1e-12)


def exact_errors(
    trained: Trained, images: ImageSet, watch: Callable[[], None]
) -> tuple[float, ...] | None:
    """The least error there is: of the exact denoiser of the distribution that images were drawn
    from, or of the training images as a finite set; None where that would take long."""
    is_known = images.distribution is not None
    of = chosen(images.held_out if is_known else images.train)
    if not is_known and LEVELS * of.noises * of.which.size * len(images.train) > MOST_EXACT:
        return None
    exact = ExactDenoiser(trained.training, images, trained.device)
    return tuple(errors(exact, of, HELD_OUT if is_known else TRAIN, watch).mean(1).tolist())


def denoising_csv(found: Denoising) -> bytes:
    """The same as a table, for people."""

    def row(one: DenoisingError) -> dict[str, float | bool | None]:
        return {
            "log_snr": one.log_snr,
            "outside": one.is_outside,
            "held_out": one.held_out.value,
            "held_out_error": one.held_out.standard_error,
            "train": one.train.value,
            "train_error": one.train.standard_error,
            "last_tenth": one.last_tenth.value if one.last_tenth else None,
            "linear": one.linear,
            "exact": one.exact,
        }

    return pd.DataFrame(map(row, found.levels)).to_csv(index=False).encode()
