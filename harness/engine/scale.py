"""The units in which a network and its schedule see images: what `scale` of a grid says.

A schedule mixes images with noise of variance 1, so the variance of the images moves its log SNR:
scaled by b, each time is one of 2 log b more (Chen 2023, arXiv 2301.10972).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np
import torch
from torch import Tensor

from harness.data.images import ImageSet, in_parts
from harness.errors import DataError
from harness.work.cells import Scaling

Values = tuple[float, ...]  # one for each channel, or one for all


@dataclass(frozen=True)
class Scale:
    """signal = factor (pixel - shift), where pixels go from -1 to 1."""

    shift: Values = (0.0,)
    factor: Values = (1.0,)

    @classmethod
    def of(cls, said: Scaling, images: ImageSet) -> Self:
        """`range` leaves pixels in -1..1, a number b multiplies them, and `unit` gives each channel
        of the training images mean 0 and variance 1, as the Normalization layer of the Keras DDIM
        example. Raises DataError where a channel does not vary."""
        if said == "range":
            return cls()
        if said != "unit":
            return cls(factor=(float(said),))
        means, deviations = channel_moments(images)
        if 0 in deviations:
            raise DataError(
                f"scale: unit divides by the standard deviation of each channel, and channel "
                f"{deviations.index(0) + 1} of {images.channels} is the same in every pixel of "
                f"the training images of '{images.name}'. Use scale: range."
            )
        return cls(means, tuple(1 / deviation for deviation in deviations))

    def to_signal(self, images: Tensor) -> Tensor:
        """uint8 [..., C, H, W] from 0 to 255 -> float32, in these units."""
        pixels = images.float() / 127.5 - 1
        return (pixels - beside(self.shift, pixels)) * beside(self.factor, pixels)

    def to_bytes(self, signal: Tensor) -> np.ndarray:
        """float [..., C, H, W] in these units -> uint8 (clipped), as a file would hold it."""
        pixels = signal / beside(self.factor, signal) + beside(self.shift, signal)
        return ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu().numpy()

    def bounds(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """What black and white are in these units, [C, 1, 1] or [1, 1, 1]."""
        pair = zip(self.shift, self.factor, strict=True)
        ends = [(factor * (-1 - shift), factor * (1 - shift)) for shift, factor in pair]
        low, high = torch.tensor(ends, device=device).T[:, :, None, None]
        return low, high


def beside(values: Values, images: Tensor) -> float | Tensor:
    """The values as they multiply images [..., C, H, W], on the same device."""
    return values[0] if len(values) == 1 else _column(values, images.device)


@lru_cache(maxsize=16)
def _column(values: Values, device: torch.device) -> Tensor:
    """[C, 1, 1], once on a device: a copy in each step would wait for it."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=device)[:, None, None]


@lru_cache(maxsize=4)
def channel_moments(images: ImageSet) -> tuple[Values, Values]:
    """The mean and standard deviation of each channel over the pixels of all training images, in
    -1..1."""
    total = squares = np.zeros(images.channels)
    for part in in_parts(images.train):  # sums of whole numbers, exact in any order
        total = total + part.sum((0, 2, 3))
        squares = squares + (part**2).sum((0, 2, 3))
    count = images.train.size / images.channels
    mean = total / count
    deviation = np.sqrt((count * squares - total**2).clip(0)) / count
    return tuple((mean / 127.5 - 1).tolist()), tuple((deviation / 127.5).tolist())
