"""The scale of a distance, in images that a person can picture: copies of real ones, a little
degraded, and at its far end pure noise, which is what a network that learned nothing gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from harness.data.images import Images
from harness.work.results import PURE_NOISE

NOISE = 10.0  # standard deviation, of 255


def half_resolution(images: Images) -> Images:
    """The images at half their side, enlarged again: [N, C, H, W] uint8, as given."""
    side = images.shape[-1]
    half = max(1, side // 2)

    def blurred(channel: np.ndarray) -> np.ndarray:
        small = Image.fromarray(channel).resize((half, half), Image.Resampling.BOX)
        return np.asarray(small.resize((side, side), Image.Resampling.BILINEAR))

    channels = [blurred(channel) for image in images for channel in image]
    return np.stack(channels).reshape(images.shape)


def noisy(images: Images) -> Images:
    """The images with a little Gaussian noise, the same each time."""
    noise = np.random.default_rng(0).normal(0, NOISE, images.shape)
    degraded: Images = (images + noise).round().clip(0, 255).astype(np.uint8)
    return degraded


def pure_noise(images: Images) -> Images:
    """As many images of Gaussian noise of unit variance, clipped and rounded as a sampler's output
    is; of the given ones nothing is left."""
    noise = np.random.default_rng(0).standard_normal(images.shape, np.float32)
    return ((noise + 1) * 127.5).round().clip(0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Degradation:
    """What takes the place of real images, and what that is called."""

    words: str
    do: Callable[[Images], Images]


# By the name that ends the column of their score: `kid_noisy`.
DEGRADATIONS = {
    "half_resolution": Degradation("real images at half their resolution", half_resolution),
    "noisy": Degradation(f"real images with Gaussian noise of {NOISE:g} of 255", noisy),
    PURE_NOISE: Degradation("pure noise", pure_noise),
}
